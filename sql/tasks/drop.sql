-- The harness's target joins the keys of the answer. The answer itself is a number, else spans of the passage, else a date.
-- function: drop.utils.process_docs
SELECT
  *,
  CASE
    WHEN answer['number'] <> '' THEN answer['number']
    WHEN cardinality(answer['spans']) > 0 THEN array_to_string(answer['spans'], ', ')
    ELSE strip(concat_ws(' ', answer['date']['day'], answer['date']['month'], answer['date']['year']))
  END AS seed_answer
FROM rows;
