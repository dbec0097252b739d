-- Dialogues, put together again from their tokens. What is asked for is the next turn.
-- function: mutual.utils.process_docs
SELECT
  * REPLACE (
    replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(
      article,
      ' ''', ''''), concat(' ', chr(10)), chr(10)), concat(chr(10), ' '), chr(10)), ' n''t', 'n''t'), '`` ', '"'), '''''', '"'),
      ' :', ':'), ' ;', ';'), ' !', '!'), ' ?', '?'), ' ,', ','), ' .', '.') AS article,
    try_jinja_list(
      '{{ options | map("replace", " ''", "''") | map("replace", " \n", "\n") | map("replace", "\n ", "\n") | map("replace", " n''t", "n''t")
          | map("replace", "`` ", "\"") | map("replace", "''''", "\"") | map("replace", " :", ":") | map("replace", " ;", ";")
          | map("replace", " !", "!") | map("replace", " ?", "?") | map("replace", " ,", ",") | map("replace", " .", ".") }}',
      named_struct('options', options)
    ) AS options
  )
FROM rows;

-- dataset: EleutherAI/mutual
SELECT *, article AS seed_passage, 'What is said next?' AS seed_question FROM rows;
