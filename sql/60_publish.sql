-- Publish: rows without reasons become the run's data, rows with reasons its rejected/ folder.

-- `text` in one of eight forms, drawn from the item's key; where a question can be read without its options, half of
-- them have none. `messages`, the chat form, is made by the sink from question, options, reasoning and answer.
CREATE VIEW rendered AS
WITH drawn AS (
    SELECT *,
           -- The lowest bits of a hash: which form, and whether options are shown.
           stable_hash('text', item_key) & 7 AS form,
           CASE WHEN stable_hash('options', item_key) & 1 = 1 OR NOT stands_without_options(question, format)
                THEN option_list(options) END AS shown_options
    FROM verdicts
)
SELECT * EXCEPT (item_key, form, shown_options),
       CASE WHEN question IS NOT NULL AND answer_text IS NOT NULL
            THEN as_text(form, question, shown_options, answer_text, reasoning, array_to_string(knowledge, chr(10))) END AS text
FROM drawn;

COPY (SELECT * FROM rendered) TO 'runs' STORED AS CURATED;
