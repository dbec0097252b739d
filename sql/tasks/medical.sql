-- Questions of medical examinations; the harness's choices are letters.
-- function: medmcqa.utils_medmcqa.doc_to_text
SELECT
  *,
  try_jinja('Question: {{question}}
Choices:
A. {{opa}}
B. {{opb}}
C. {{opc}}
D. {{opd}}
Answer:', named_struct('question', question, 'opa', opa, 'opb', opb, 'opc', opc, 'opd', opd)) AS doc_to_text,
  question AS seed_question,
  make_array(opa, opb, opc, opd) AS seed_options
FROM rows;

-- dataset: openlifescienceai/medmcqa
SELECT *, exp AS seed_rationale FROM rows;

-- function: medqa.preprocess_medqa.doc_to_text
-- function: medqa.preprocess_medqa.doc_to_target
SELECT
  *,
  try_jinja('Question: {{sent1}}
A. {{ending0}}
B. {{ending1}}
C. {{ending2}}
D. {{ending3}}
Answer:', named_struct('sent1', sent1, 'ending0', ending0, 'ending1', ending1, 'ending2', ending2, 'ending3', ending3)) AS doc_to_text,
  CAST(label AS BIGINT) AS doc_to_target,
  sent1 AS seed_question,
  make_array(ending0, ending1, ending2, ending3) AS seed_options
FROM rows;

-- function: pubmedqa.preprocess_pubmedqa.doc_to_text
-- format: yes_no
SELECT
  *,
  'Abstract: ' || array_to_string("CONTEXTS", chr(10)) || chr(10) || 'Question: ' || coalesce("QUESTION", 'None')
    || chr(10) || 'Answer:' AS doc_to_text,
  "QUESTION" AS seed_question,
  array_to_string("CONTEXTS", chr(10)) AS seed_passage
FROM rows;

-- dataset: bigbio/pubmed_qa
SELECT *, "LONG_ANSWER" AS seed_rationale FROM rows;

-- function: mediqa_qa2019.utils.doc_to_text
-- function: mediqa_qa2019.utils.doc_to_target
-- function: mediqa_qa2019.utils_perplexity.doc_to_target
-- format: free_form
SELECT
  *,
  "QUESTION"['QuestionText'] AS doc_to_text,
  "QUESTION"['AnswerList'][1]['Answer']['AnswerText'] AS doc_to_target,
  "QUESTION"['QuestionText'] AS seed_question
FROM rows;

-- function: meddialog.utils.doc_to_text_qsumm
-- function: meddialog.utils.doc_to_target_qsumm
-- format: free_form
SELECT *, src AS doc_to_text, tgt AS doc_to_target FROM rows;

-- A report's impression is the summary of its findings; both end at a gap of five blanks.
-- function: mimic_repsum.utils.doc_to_text
-- function: mimic_repsum.utils.doc_to_target
-- format: free_form
SELECT
  *,
  try_jinja('{% set a = text.lower().find("impression") %}{% set b = text.lower().find("finding") -%}
{% if a < b %}{% set impressions = text[a:b].split("     ")[0] %}{% set findings = text[b:].split("     ")[0] -%}
{% else %}{% set impressions = text[a:].split("     ")[0] %}{% set findings = text[b:a].split("     ")[0] %}{% endif -%}
{% if findings | length < 5 and 5 < impressions | length %}{% set findings = text[:a] %}{% endif -%}
Given the findings: {{ findings }}.
Summarize the findings.', named_struct('text', extractive_notes_summ)) AS doc_to_text,
  try_jinja('{% set a = text.lower().find("impression") %}{% set b = text.lower().find("finding") -%}
{% if a < b %}{{ text[a:b].split("     ")[0] }}{% else %}{{ text[a:].split("     ")[0] }}{% endif %}',
    named_struct('text', extractive_notes_summ)) AS doc_to_target
FROM rows;
