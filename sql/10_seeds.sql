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
           ) AS reasons
    FROM seeds
)
SELECT * EXCEPT (reasons),
       array_concat(reasons, reasons(
           -- The quota counts usable seeds only, and draws them in an order that no file's order decides.
           'over_quota', cardinality(reasons) = 0
                         AND row_number() OVER (PARTITION BY task, cardinality(reasons) = 0
                                                ORDER BY stable_hash(seed_id), seed_id) > @seeds_per_task
       )) AS reasons
FROM examined;

-- The chosen seeds, each with three exemplars of its own task: the next three in the drawing order, around the end.
CREATE VIEW chosen_seeds AS
WITH usable AS (
    SELECT *,
           named_struct('passage', passage, 'question', question, 'options', options,
                        'answer_text', answer_text, 'rationale', rationale) AS example
    FROM seed_verdicts
    WHERE NOT array_has_any(reasons, ['not_normalized', 'licence', 'too_long'])
),
beside AS (
    SELECT *,
           [coalesce(lead(example, 1) OVER ahead, nth_value(example, 1) OVER whole),
            coalesce(lead(example, 2) OVER ahead, nth_value(example, 2) OVER whole),
            coalesce(lead(example, 3) OVER ahead, nth_value(example, 3) OVER whole)] AS exemplars
    FROM usable
    WINDOW ahead AS (PARTITION BY task ORDER BY stable_hash(seed_id), seed_id),
           whole AS (PARTITION BY task ORDER BY stable_hash(seed_id), seed_id
                     ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
SELECT seed_id, task, family, capability, format, language, license,
       passage     AS seed_passage,
       question    AS seed_question,
       options     AS seed_options,
       answer_text AS seed_answer,
       rationale   AS seed_rationale,
       exemplars
FROM beside
WHERE cardinality(reasons) = 0;
