-- Seeds: which may be used, and what a writer is shown beside each.

-- Every seed with the reasons why it is not used. Nothing is dropped, so everything can be counted:
--   SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM seed_verdicts) GROUP BY reason;
CREATE VIEW seed_verdicts AS
WITH examined AS (
    SELECT *,
           reasons(
               'not_normalized', question IS NULL OR answer_text IS NULL,
               'licence',        NOT licence_permits(license, @target),
               'too_long',       approx_tokens(concat_ws(' ', passage, question, answer_text)) > 600
           ) AS unfit
    FROM seeds
)
SELECT * EXCEPT (unfit),
       array_concat(unfit, reasons(
           -- The quota counts usable seeds only, and draws them in an order that no file's order decides.
           'over_quota', cardinality(unfit) = 0
                         AND row_number() OVER (PARTITION BY task, cardinality(unfit) = 0
                                                ORDER BY stable_hash(seed_id), seed_id) > @seeds_per_task
       )) AS reasons
FROM examined;

-- The chosen seeds, each with three exemplars of its own task: the next three in the drawing order, around the end.
-- Exemplars of entailment and its kin have the seed's own label: what is asked for is another item of that label.
CREATE VIEW chosen_seeds AS
WITH usable AS (
    SELECT *,
           named_struct('passage', passage, 'question', question, 'answer_text', answer_text,
                        'distractors', array_remove(options, answer_text), 'rationale', rationale) AS example,
           CASE WHEN format = 'nli' THEN answer_text ELSE '' END AS label
    FROM seed_verdicts
    WHERE NOT array_has_any(reasons, ['not_normalized', 'licence', 'too_long'])
),
beside AS (
    SELECT *,
           [coalesce(lead(example, 1) OVER ahead, nth_value(example, 1) OVER whole),
            coalesce(lead(example, 2) OVER ahead, nth_value(example, 2) OVER whole),
            coalesce(lead(example, 3) OVER ahead, nth_value(example, 3) OVER whole)] AS exemplars
    FROM usable
    WINDOW ahead AS (PARTITION BY task, label ORDER BY stable_hash(seed_id), seed_id),
           whole AS (PARTITION BY task, label ORDER BY stable_hash(seed_id), seed_id
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
