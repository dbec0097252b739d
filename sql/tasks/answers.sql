-- What question and answer are where the harness's prompt and target are none, by dataset.

-- One answer of many aliases: the one that the dataset calls its value.
-- dataset: mandarjoshi/trivia_qa
SELECT *, question AS seed_question, answer['value'] AS seed_answer FROM rows;

-- The target holds the tests; the answer is the code.
-- dataset: google-research-datasets/mbpp
-- format: code
SELECT *, text AS seed_question, code AS seed_answer FROM rows;

-- The harness's own target is the schema again. An object that fits it is not in the data.
-- dataset: epfl-dlab/JSONSchemaBench
SELECT *, 'Write a JSON object that matches this JSON schema.' AS seed_question, json_schema AS seed_passage,
  CAST(NULL AS TEXT) AS seed_answer
FROM rows;

-- A number at the end of a worked solution.
-- dataset: juletxara/mgsm
-- dataset: masakhane/afrimgsm
-- dataset: HiTZ/MGSM-eu
-- dataset: projecte-aina/mgsm_ca
-- dataset: proxectonos/mgsm_gl
-- format: numeric
SELECT
  *,
  regexp_replace(strip(question), '^(Question|Galdera|Pregunta|Frage|Pregunta|Domanda|問題|问题|Вопрос|Swali|ప్రశ్న|คำถาม|প্রশ্ন|Soru|Q)\s*[:：]\s*', '') AS seed_question,
  CAST(answer_number AS TEXT) AS seed_answer,
  nullif(regexp_replace(strip(answer), '^[^:：]{1,40}[:：]\s*', ''), '') AS seed_rationale
FROM rows;

-- A letter for each mood; the answer is the mood.
-- dataset: allegro/klej-polemo2-in
-- dataset: allegro/klej-polemo2-out
-- format: multiple_choice
SELECT
  *,
  sentence AS seed_passage,
  'Jaki jest sentyment tej opinii?' AS seed_question,
  make_array('Neutralny', 'Negatywny', 'Pozytywny', 'Niejednoznaczny') AS seed_options,
  CAST(array_position(['__label__meta_zero', '__label__meta_minus_m', '__label__meta_plus_m', '__label__meta_amb'], target) AS BIGINT) - 1
    AS seed_answer_index
FROM rows;

-- Whole sentences are the choices; what is asked is whether the second follows from the first.
-- dataset: facebook/xnli
-- dataset: HiTZ/xnli-eu
-- dataset: Divyanshu/indicxnli
-- format: nli
SELECT
  *,
  premise AS seed_passage,
  hypothesis AS seed_question,
  make_array('entailment', 'neutral', 'contradiction') AS seed_options,
  CAST(label AS BIGINT) AS seed_answer_index
FROM rows;

-- dataset: projecte-aina/teca
-- format: nli
SELECT
  *,
  premise AS seed_passage,
  hypothesis AS seed_question,
  make_array('entailment', 'neutral', 'contradiction') AS seed_options,
  CAST(label AS BIGINT) AS seed_answer_index
FROM rows;

-- dataset: google-research-datasets/paws-x
-- dataset: paws-x
-- dataset: projecte-aina/PAWS-ca
-- dataset: projecte-aina/Parafraseja
-- format: yes_no
SELECT
  *,
  '1. ' || sentence1 || chr(10) || '2. ' || sentence2 AS seed_passage,
  'Do both sentences mean the same?' AS seed_question,
  make_array('no', 'yes') AS seed_options,
  CAST(label AS BIGINT) AS seed_answer_index
FROM rows;

-- dataset: proxectonos/parafrases_gl
-- format: yes_no
SELECT
  *,
  '1. ' || "Frase" || chr(10) || '2. ' || "Paráfrase" AS seed_passage,
  'Do both sentences mean the same?' AS seed_question,
  make_array('no', 'yes') AS seed_options,
  CASE WHEN "Avaliación" = 0 THEN CAST(0 AS BIGINT) ELSE CAST(1 AS BIGINT) END AS seed_answer_index
FROM rows;

-- task: assin_entailment
-- format: nli
SELECT
  *,
  premise AS seed_passage,
  hypothesis AS seed_question,
  make_array('not_entailment', 'entailment') AS seed_options,
  CASE WHEN entailment_judgment = 0 THEN CAST(0 AS BIGINT) ELSE CAST(1 AS BIGINT) END AS seed_answer_index
FROM rows;

-- task: assin2_rte
-- format: nli
SELECT
  *,
  premise AS seed_passage,
  hypothesis AS seed_question,
  make_array('not_entailment', 'entailment') AS seed_options,
  CAST(entailment_judgment AS BIGINT) AS seed_answer_index
FROM rows;

-- The question of the MELA tasks is about the sentence.
-- dataset: Geralt-Targaryen/MELA
SELECT *, sentence AS seed_passage, 'Is this sentence acceptable or unacceptable?' AS seed_question FROM rows;

-- The target is a dict that was written as text.
-- dataset: masakhane/afriqa-gold-passages
SELECT
  *,
  question_lang AS seed_question,
  context AS seed_passage,
  python_list(regexp_match(answer_pivot, '''text'': (\[.*?\])\s*[,}]')[1])[1] AS seed_answer
FROM rows;

-- The target is a letter; its text stands in the prompt.
-- dataset: baber/logiqa2:logieval
SELECT *, regexp_match(content, concat('(?m)^\s*', ideal, '[.):]\s*(\S.*?)\s*$'))[1] AS seed_answer FROM rows;

-- Of other copies of a dataset we know the form as well.
-- dataset: tinyBenchmarks/tinyGSM8k
-- format: numeric
SELECT *, question AS seed_question FROM rows;

-- A prompt without an asking column: what is asked is said here.
-- dataset: nyu-mll/glue:qnli
-- format: yes_no
SELECT
  *,
  'Question: ' || question || chr(10) || 'Response: ' || sentence AS seed_passage,
  'Does this response answer the question?' AS seed_question
FROM rows;

-- dataset: nyu-mll/glue:rte
-- dataset: nyu-mll/glue:wnli
-- format: nli
SELECT *, sentence1 AS seed_passage, sentence2 AS seed_question FROM rows;

-- dataset: projecte-aina/COPA-ca
SELECT
  *,
  strip(premise) || CASE question WHEN 'cause' THEN ' Quina en va ser la causa?' ELSE ' Què va passar a continuació?' END AS seed_question
FROM rows;

-- task: ja_leaderboard_jnli
-- format: nli
SELECT *, sentence1 AS seed_passage, sentence2 AS seed_question FROM rows;

-- task: ja_leaderboard_marc_ja
SELECT *, sentence AS seed_passage, 'このレビューはポジティブですか、ネガティブですか。' AS seed_question FROM rows;

-- task: ja_leaderboard_xlsum
-- format: free_form
SELECT *, text AS seed_passage, 'このニュース記事を要約してください。' AS seed_question FROM rows;

-- dataset: AIML-TUDA/SLR-Bench
-- format: code
SELECT *, prompt AS seed_question, "ground-truth rule" AS seed_answer FROM rows;

-- The answer is the text of the option whose letter the target is.
-- task: arc_challenge_chat
-- format: multiple_choice
SELECT
  *,
  question AS seed_question,
  choices['text'] AS seed_options,
  choices['text'][CAST(array_position(choices['label'], "answerKey") AS BIGINT)] AS seed_answer,
  CAST(array_position(choices['label'], "answerKey") AS BIGINT) - 1 AS seed_answer_index
FROM rows;

-- dataset: projecte-aina/CoQCat
SELECT
  *,
  questions[CAST(cardinality(questions) AS BIGINT)] AS seed_question,
  try_jinja('{{ story }}
{% for question in questions[:-1] %}
Q: {{ question }}
A: {{ answers[loop.index0] }}
{% endfor %}', named_struct('story', story, 'questions', questions, 'answers', answers['input_text'])) AS seed_passage
FROM rows;

-- What is to be translated into what.
-- task: wmt14-en-fr
SELECT *, 'Translate into French: ' || translation['en'] AS seed_question FROM rows;

-- task: wmt14-fr-en
SELECT *, 'Translate into English: ' || translation['fr'] AS seed_question FROM rows;

-- task: wmt16-de-en
SELECT *, 'Translate into English: ' || translation['de'] AS seed_question FROM rows;

-- task: wmt16-en-de
SELECT *, 'Translate into German: ' || translation['en'] AS seed_question FROM rows;

-- task: wmt16-ro-en
SELECT *, 'Translate into English: ' || translation['ro'] AS seed_question FROM rows;

-- task: wmt16-en-ro
-- task: wmt-ro-en-t5-prompt
SELECT *, 'Translate into Romanian: ' || translation['en'] AS seed_question FROM rows;

-- task: iwslt2017-en-ar
SELECT *, 'Translate into Arabic: ' || translation['en'] AS seed_question FROM rows;

-- task: iwslt2017-ar-en
SELECT *, 'Translate into English: ' || translation['ar'] AS seed_question FROM rows;
