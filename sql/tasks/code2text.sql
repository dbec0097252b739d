-- function: code_x_glue.code-text.utils.doc_to_text
-- function: code_x_glue.code-text.utils.doc_to_target
-- format: free_form
SELECT
  *,
  regexp_replace(strip(replace(array_to_string(code_tokens, ' '), chr(10), ' ')), '[\s\x1c-\x1f]+', ' ', 'g') AS doc_to_text,
  regexp_replace(strip(replace(array_to_string(docstring_tokens, ' '), chr(10), '')), '[\s\x1c-\x1f]+', ' ', 'g') AS doc_to_target,
  'What does this code do?' AS seed_question,
  array_to_string(code_tokens, ' ') AS seed_passage
FROM rows;
