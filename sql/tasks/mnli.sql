-- function: glue.mnli.utils.doc_to_text
-- format: nli
SELECT
  *,
  premise || chr(10) || 'Question: ' || strip(hypothesis) || CASE WHEN strip(hypothesis) LIKE '%.' THEN '' ELSE '.' END
    || ' True, False or Neither?' || chr(10) || 'Answer:' AS doc_to_text,
  premise AS seed_passage,
  strip(hypothesis) AS seed_question
FROM rows;
