-- One row for each answer that an annotator gave, of the kind that the task asks for.
-- function: qasper.utils.process_docs_bool
SELECT
  * EXCEPT (qas, question_answers, blob, source_json),
  source_json || chr(31) || question || chr(31) || row_json(blob) AS source_json,
  CASE WHEN blob['yes_no'] THEN 'yes' ELSE 'no' END AS answer,
  'bool' AS answer_type
FROM (
  SELECT *, unnest(question_answers['answer']) AS blob
  FROM (SELECT *, unnest(qas['question']) AS question, unnest(qas['answers']) AS question_answers FROM rows)
)
WHERE NOT coalesce(blob['unanswerable'], false) AND (
  blob['yes_no'] OR (
    NOT blob['yes_no'] AND coalesce(blob['free_form_answer'], '') = '' AND coalesce(cardinality(blob['extractive_spans']), 0) = 0
  )
);

-- function: qasper.utils.process_docs_freeform
SELECT
  * EXCEPT (qas, question_answers, blob, source_json),
  source_json || chr(31) || question || chr(31) || row_json(blob) AS source_json,
  blob['free_form_answer'] AS answer,
  'free form answer' AS answer_type
FROM (
  SELECT *, unnest(question_answers['answer']) AS blob
  FROM (SELECT *, unnest(qas['question']) AS question, unnest(qas['answers']) AS question_answers FROM rows)
)
WHERE NOT coalesce(blob['unanswerable'], false) AND NOT coalesce(blob['yes_no'], false) AND blob['free_form_answer'] <> '';

-- The harness's target is always yes.
-- task: qasper_bool
-- format: yes_no
SELECT
  *,
  title || chr(10) || chr(10) || abstract AS seed_passage,
  CASE answer WHEN 'yes' THEN CAST(1 AS BIGINT) WHEN 'no' THEN CAST(0 AS BIGINT) END AS seed_answer_index
FROM rows;

-- task: qasper_freeform
SELECT *, title || chr(10) || chr(10) || abstract AS seed_passage FROM rows;
