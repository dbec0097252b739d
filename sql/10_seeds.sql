-- Seeds: which may be used, how many of each task, and what a writer is shown beside each.

-- What is wrong with a seed, whatever else is drawn, and the label that its exemplars must have.
CREATE VIEW examined_seeds AS
SELECT *,
       CASE WHEN format = 'nli' THEN answer_text ELSE '' END AS label,
       reasons(
           'not_normalized', question IS NULL OR answer_text IS NULL,
           'licence',        NOT licence_permits(license, @target),
           'held_out_copy',  held_out_copy(question, passage, options, answer_text),
           'too_long',       approx_tokens(concat_ws(' ', passage, question, answer_text)) > 600
       ) AS unfit
FROM seeds;

-- How many seeds are drawn from each task. Of @seeds in all (0: as many as there may be) each family gets a share by
-- temperature, and within it each task: p ∝ min(n, cap)^(1/T). With a @knowledge_share, knowledge and reasoning have a
-- quota each, and what one has not is not filled up by the other. Seeds are rows of datasets, so a dataset with many
-- prompts counts once. Usable seeds are drawn in an order that no file's order decides, and another @draw is another one:
-- `last_drawn` is the last one's place in it. `labels` says of each label where in it the third exemplar of its last seed
-- can stand at most. One pass over the seeds that holds @seeds_per_task + 3 numbers for each label of a task.
CREATE VIEW seed_quotas AS
WITH labels AS (
    SELECT task, label, min(family) AS family, min(capability) AS capability, count(*) AS n,
           smallest(stable_hash(concat(seed_id, @draw)), @seeds_per_task + 3) AS drawn
    FROM examined_seeds
    WHERE cardinality(unfit) = 0
    GROUP BY task, label
),
tasks AS (
    SELECT task, min(family) AS family, sum(n) AS n, array_sort(flatten(array_agg(drawn ORDER BY label))) AS drawn,
           array_agg(named_struct('label', label, 'last_beside', drawn[-1]) ORDER BY label) AS labels,
           CASE WHEN @knowledge_share < 0 THEN 'all'
                WHEN min(capability) = 'knowledge' THEN 'knowledge' ELSE 'reasoning' END AS pool
    FROM labels
    GROUP BY task
),
families AS (
    SELECT pool, family, array_agg(named_struct('task', task, 'n', n, 'drawn', drawn, 'labels', labels) ORDER BY task) AS tasks,
           sample_quota(family, sum(least(n, @seeds_per_task)),
                        CASE WHEN @seeds > 0 THEN CASE pool WHEN 'all' THEN @seeds
                                                            WHEN 'knowledge' THEN round(@seeds * @knowledge_share)
                                                            ELSE @seeds - round(@seeds * @knowledge_share) END END,
                        @temperature, NULL, sum(least(n, @seeds_per_task, @seeds_per_task_at_least)))
               OVER (PARTITION BY pool) AS quota
    FROM tasks
    GROUP BY pool, family
),
by_task AS (
    SELECT t['task'] AS task, family, t['n'] AS n, t['drawn'] AS drawn, t['labels'] AS labels,
           sample_quota(t['task'], t['n'], quota, @temperature, @seeds_per_task, @seeds_per_task_at_least)
               OVER (PARTITION BY pool, family) AS quota
    FROM (SELECT pool, family, quota, unnest(tasks) AS t FROM families)
)
SELECT task, family, n, quota, drawn[quota] AS last_drawn, labels FROM by_task;

-- Every seed with the reasons why it is not used. Nothing is dropped, so everything can be counted:
--   SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM seed_verdicts) GROUP BY reason;
-- The quotas are joined from the left, the side that a join holds in memory.
CREATE VIEW seed_verdicts AS
SELECT examined_seeds.* EXCEPT (label, unfit),
       array_concat(unfit, reasons('over_quota',
           cardinality(unfit) = 0 AND NOT coalesce(stable_hash(concat(seed_id, @draw)) <= last_drawn, false))) AS reasons
FROM (SELECT task AS of_task, last_drawn FROM seed_quotas) AS quotas
RIGHT JOIN examined_seeds ON examined_seeds.task = quotas.of_task;

-- The chosen seeds, each with three exemplars of its own task: the next three in the drawing order, around the end. Where a
-- task has fewer than four seeds, all others: a seed is never its own exemplar.
-- Exemplars of entailment and its kin have the seed's own label: what is asked for is another item of that label. Only
-- seeds that are chosen or may stand beside one are put in order, so that memory does not grow with the seeds.
CREATE VIEW chosen_seeds AS
WITH nearest AS (
    SELECT examined_seeds.*, last_drawn,
           named_struct('passage', passage, 'question', question, 'answer_text', answer_text,
                        'distractors', array_remove(options, answer_text), 'rationale', rationale) AS example
    FROM (SELECT task AS of_task, last_drawn, unnest(labels) AS of_label FROM seed_quotas) AS quotas
    JOIN examined_seeds ON task = of_task AND label = of_label['label']
    -- One condition on both sides: by one on the seeds alone they are taken for the smaller side, which a join holds in memory.
    WHERE cardinality(array_concat(unfit, reasons('far', stable_hash(concat(seed_id, @draw)) > of_label['last_beside']))) = 0
),
beside AS (
    SELECT *,
           CAST(row_number() OVER ahead AS BIGINT) AS place,
           [lead(example, 1) OVER ahead, lead(example, 2) OVER ahead, lead(example, 3) OVER ahead] AS next,
           [nth_value(example, 1) OVER whole, nth_value(example, 2) OVER whole, nth_value(example, 3) OVER whole] AS first
    FROM nearest
    WINDOW ahead AS (PARTITION BY task, label ORDER BY stable_hash(concat(seed_id, @draw)), seed_id),
           whole AS (PARTITION BY task, label ORDER BY stable_hash(concat(seed_id, @draw)), seed_id
                     ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
SELECT seed_id, task, family, capability, format, language, license,
       question    AS seed_question,
       answer_text AS seed_answer,
       options     AS seed_options,
       example     AS seed,
       -- Behind the last the first follow, but none twice and not the seed itself: `place` is how many stand up to it.
       array_concat(array_compact(next), array_compact(first)[1:place - 1])[1:3] AS exemplars
FROM beside
WHERE stable_hash(concat(seed_id, @draw)) <= last_drawn;
