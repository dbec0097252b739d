-- function: kobest.utils.copa_doc_to_text
-- function: kobest.utils.copa_doc_to_target
-- function: kobest.utils.copa_doc_to_choice
SELECT
  *,
  premise || ' ' || CASE strip(question) WHEN '원인' THEN ' 왜냐하면' WHEN '결과' THEN ' 그래서' END AS doc_to_text,
  CASE WHEN label = 0 THEN alternative_1 ELSE alternative_2 END AS doc_to_target,
  make_array(alternative_1, alternative_2) AS doc_to_choice,
  premise || ' ' || CASE strip(question) WHEN '원인' THEN '원인은 무엇인가?' ELSE '결과는 무엇인가?' END AS seed_question
FROM rows;

-- function: kobest.utils.sentineg_doc_to_text
SELECT *, '문장: ' || sentence || ' 긍부정:' AS doc_to_text FROM rows;

-- function: kobest.utils.wic_doc_to_text
SELECT
  *,
  '문장1: ' || context_1 || ' 문장2: ' || context_2 || ' 두 문장에서 ' || word || '가 같은 뜻으로 쓰였나?' AS doc_to_text
FROM rows;

-- function: kobest.utils.hellaswag_process_doc
SELECT
  *,
  '문장: ' || context AS query,
  make_array(ending_1, ending_2, ending_3, ending_4) AS choices,
  CAST(label AS BIGINT) AS gold
FROM rows;
