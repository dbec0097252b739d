-- The choices are the prompts: the sentence up to the gap with each name in it. The target is the rest of the sentence.
-- function: winogrande.preprocess_winogrande.doc_to_text
-- function: winogrande.preprocess_winogrande.doc_to_target
-- function: winogrande.preprocess_winogrande.doc_to_choice
-- function: tinyBenchmarks.utils_winogrande.doc_to_text
-- function: tinyBenchmarks.utils_winogrande.doc_to_target
-- function: tinyBenchmarks.utils_winogrande.doc_to_choice
-- format: cloze
SELECT
  *,
  CASE answer WHEN '1' THEN CAST(0 AS BIGINT) WHEN '2' THEN CAST(1 AS BIGINT) END AS doc_to_text,
  CASE WHEN strpos(sentence, '_') > 0 THEN strip(substr(sentence, strpos(sentence, '_') + 1)) END AS doc_to_target,
  CASE WHEN strpos(sentence, '_') > 0 THEN make_array(
    left(sentence, strpos(sentence, '_') - 1) || option1,
    left(sentence, strpos(sentence, '_') - 1) || option2
  ) END AS doc_to_choice,
  replace(sentence, '_', '____') AS seed_question,
  make_array(option1, option2) AS seed_options
FROM rows;
