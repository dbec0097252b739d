-- Seeds: which may be used, how many of each task, and what a writer is shown beside each.

-- What is wrong with a seed, whatever else is drawn.
CREATE VIEW examined_seeds AS
SELECT *,
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
-- `last_drawn` is the last one's place in it. One pass over the seeds that holds @seeds_per_task numbers for each task.
CREATE VIEW seed_quotas AS
WITH tasks AS (
    SELECT task, min(family) AS family, count(*) AS n,
           smallest(stable_hash(concat(seed_id, @draw)), @seeds_per_task) AS drawn,
           CASE WHEN @knowledge_share < 0 THEN 'all'
                WHEN min(capability) = 'knowledge' THEN 'knowledge' ELSE 'reasoning' END AS pool
    FROM examined_seeds
    WHERE cardinality(unfit) = 0
    GROUP BY task
),
families AS (
    SELECT pool, family, array_agg(named_struct('task', task, 'n', n, 'drawn', drawn) ORDER BY task) AS tasks,
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
    SELECT t['task'] AS task, family, t['n'] AS n, t['drawn'] AS drawn,
           sample_quota(t['task'], t['n'], quota, @temperature, @seeds_per_task, @seeds_per_task_at_least)
               OVER (PARTITION BY pool, family) AS quota
    FROM (SELECT pool, family, quota, unnest(tasks) AS t FROM families)
)
SELECT task, family, n, quota, drawn[quota] AS last_drawn FROM by_task;

-- Every seed with the reasons why it is not used. Nothing is dropped, so everything can be counted:
--   SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM seed_verdicts) GROUP BY reason;
-- The quotas are joined from the left, the side that a join holds in memory.
CREATE VIEW seed_verdicts AS
SELECT examined_seeds.* EXCEPT (unfit),
       array_concat(unfit, reasons('over_quota',
           cardinality(unfit) = 0 AND NOT coalesce(stable_hash(concat(seed_id, @draw)) <= last_drawn, false))) AS reasons
FROM (SELECT task AS of_task, last_drawn FROM seed_quotas) AS quotas
RIGHT JOIN examined_seeds ON examined_seeds.task = quotas.of_task;

-- The chosen seeds, each with three exemplars of its own task: the next three in the drawing order, around the end.
-- Exemplars of entailment and its kin have the seed's own label: what is asked for is another item of that label.
CREATE VIEW chosen_seeds AS
WITH usable AS (
    SELECT *,
           named_struct('passage', passage, 'question', question, 'answer_text', answer_text,
                        'distractors', array_remove(options, answer_text), 'rationale', rationale) AS example,
           CASE WHEN format = 'nli' THEN answer_text ELSE '' END AS label
    FROM seed_verdicts
    WHERE NOT array_has_any(reasons, ['not_normalized', 'licence', 'held_out_copy', 'too_long'])
),
beside AS (
    SELECT *,
           [coalesce(lead(example, 1) OVER ahead, nth_value(example, 1) OVER whole),
            coalesce(lead(example, 2) OVER ahead, nth_value(example, 2) OVER whole),
            coalesce(lead(example, 3) OVER ahead, nth_value(example, 3) OVER whole)] AS exemplars
    FROM usable
    WINDOW ahead AS (PARTITION BY task, label ORDER BY stable_hash(concat(seed_id, @draw)), seed_id),
           whole AS (PARTITION BY task, label ORDER BY stable_hash(concat(seed_id, @draw)), seed_id
                     ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
SELECT seed_id, task, family, capability, format, language, license,
       question    AS seed_question,
       answer_text AS seed_answer,
       options     AS seed_options,
       example     AS seed,
       exemplars
FROM beside
WHERE cardinality(reasons) = 0;
