-- The beginning and the endings of a WikiHow or ActivityNet text, without the marks that were left in them.
-- function: hellaswag.utils.process_docs
-- function: tinyBenchmarks.utils_hellaswag.process_docs
SELECT
  *,
  replace(regexp_replace(replace(strip(
    activity_label || ': ' || ctx_a || ' ' || upper(left(ctx_b, 1)) || lower(substr(ctx_b, 2))
  ), ' [title]', '. '), '\[.*?\]', '', 'g'), '  ', ' ') AS query,
  try_jinja_list(
    '{{ endings | map("trim") | map("replace", " [title]", ". ") | map("regex_replace", "\\[.*?\\]", "") | map("replace", "  ", " ") }}',
    named_struct('endings', endings)
  ) AS choices,
  TRY_CAST(label AS BIGINT) AS gold
FROM rows;

-- function: darijahellaswag.utils.process_docs
-- function: egyhellaswag.utils.process_docs
SELECT *, activity_label || ': ' || ctx AS query, endings AS choices, TRY_CAST(label AS BIGINT) AS gold FROM rows;
