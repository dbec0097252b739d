-- Options that are missing are left out; the answer's letter counts all five.
-- function: okapi.arc_multilingual.utils.process_docs
SELECT
  *,
  'Question: ' || replace(regexp_replace(replace(strip(instruction), ' [title]', '. '), '\[.*?\]', '', 'g'), '  ', ' ')
    || chr(10) || 'Answer:' AS query,
  try_jinja_list(
    '{{ [option_a, option_b, option_c, option_d, option_e] | select | map("trim") | map("replace", " [title]", ". ")
        | map("regex_replace", "\\[.*?\\]", "") | map("replace", "  ", " ") }}',
    named_struct('option_a', option_a, 'option_b', option_b, 'option_c', option_c, 'option_d', option_d, 'option_e', option_e)
  ) AS choices,
  CAST(array_position(['A', 'B', 'C', 'D', 'E'], answer) AS BIGINT) - 1 AS gold,
  strip(instruction) AS seed_question
FROM rows;
