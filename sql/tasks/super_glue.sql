-- function: super_glue.copa.utils.doc_to_text
-- function: super_glue.copa.utils.doc_to_target
-- function: super_glue.copa.utils.doc_to_choice
SELECT
  *,
  left(strip(premise), char_length(strip(premise)) - 1)
    || CASE question WHEN 'cause' THEN ' because' WHEN 'effect' THEN ' therefore' END AS doc_to_text,
  ' ' || CASE WHEN label = 0
    THEN lower(left(choice1, 1)) || substr(choice1, 2)
    ELSE lower(left(choice2, 1)) || substr(choice2, 2)
  END AS doc_to_target,
  make_array(
    ' ' || lower(left(choice1, 1)) || substr(choice1, 2),
    ' ' || lower(left(choice2, 1)) || substr(choice2, 2)
  ) AS doc_to_choice,
  strip(premise) || CASE question WHEN 'cause' THEN ' What was the cause of this?' ELSE ' What happened as a result?' END
    AS seed_question,
  make_array(choice1, choice2) AS seed_options
FROM rows;

-- function: super_glue.record.util.process_docs
SELECT
  * REPLACE (array_sort(array_distinct(entities)) AS entities, array_sort(array_distinct(answers)) AS answers)
FROM rows;

-- function: super_glue.record.util.doc_to_text
-- function: super_glue.record.util.doc_to_target
-- function: super_glue.record.util.doc_to_choice
-- format: cloze
SELECT
  *,
  try_jinja('{% set parts = passage.strip().split("\n@highlight\n") %}{{ parts[0] }}

{% for highlight in parts[1:] %}  - {{ highlight }}.
{% endfor %}', named_struct('passage', passage)) AS doc_to_text,
  replace('  - ' || query, '@placeholder', answers[1]) AS doc_to_target,
  array_pop_back(string_to_array(try_jinja(
    '{% for entity in entities %}{{ ("  - " ~ query).replace("@placeholder", entity) }}{{ "\u001f" }}{% endfor %}',
    named_struct('entities', entities, 'query', query)
  ), chr(31))) AS doc_to_choice,
  replace(query, '@placeholder', '____') AS seed_question,
  replace(strip(passage), concat(chr(10), '@highlight', chr(10)), chr(10)) AS seed_passage,
  entities AS seed_options
FROM rows;

-- The index of a span counts words.
-- function: super_glue.wsc.preprocess_wsc.default_doc_to_text
-- format: yes_no
SELECT
  *,
  'Passage: ' || passage || chr(10) || seed_question || chr(10) || 'Answer:' AS doc_to_text,
  passage AS seed_passage
FROM (
  SELECT
    *,
    detokenize(try_jinja(
      '{% set pre = text.split()[:span2_index] | join(" ") %}{{ pre }} *{{ span2_text }}*{{ text[pre | length + span2_text | length + 1:] }}',
      named_struct('text', text, 'span2_index', span2_index, 'span2_text', span2_text)
    )) AS passage,
    'Question: In the passage above, does the pronoun "*' || span2_text || '*" refer to "*' || span1_text || '*"?' AS seed_question
  FROM rows
);

-- The T5 form of the same. In two texts the index does not name the pronoun.
-- function: super_glue.wsc.t5_utils.doc_to_text
-- format: yes_no
SELECT
  *,
  try_jinja('wsc: {% set words = text.split(" ") -%}
{% if text == "The boy continued to whip the pony , and eventually the pony threw him over. John laughed out quite loud. \"Good for him,\" he said. " -%}
{% set marked = "The boy continued to whip the pony , and eventually the pony threw him over. John laughed out quite loud. \"Good for X ,\" he said." -%}
{% elif text == "When they had eventually calmed down a bit , and had gotten home, Mr. Farley put the magic pebble in an iron safe . Some day they might want to use it , but really for now, what more could they wish for?" -%}
{% set marked = "When they had eventually calmed down a bit , and had gotten home, Mr. Farley put the magic pebble in an iron safe . Some day they might want to use X , but really for now, what more could they wish for?" -%}
{% elif span2_index > 0 and words[span2_index] == span2_text -%}
{% set marked = words[:span2_index] | join(" ") ~ " X " ~ words[span2_index + 1:] | join(" ") %}{% endif -%}
{{ marked.replace(" X ", " *" ~ span2_text ~ "* ") }}',
    named_struct('text', text, 'span2_index', span2_index, 'span2_text', span2_text)) AS doc_to_text,
  text AS seed_passage,
  'In the passage, does the pronoun "' || span2_text || '" refer to "' || span1_text || '"?' AS seed_question,
  make_array('no', 'yes') AS seed_options,
  CAST(label AS BIGINT) AS seed_answer_index
FROM rows;

-- The default prompt of MultiRC calls label 0, a wrong answer, correct. What is asked is whether the answer is right.
-- dataset: aps/super_glue:multirc
-- format: yes_no
SELECT
  *,
  paragraph AS seed_passage,
  question || ' Is the answer "' || answer || '" correct?' AS seed_question,
  make_array('no', 'yes') AS seed_options,
  CAST(label AS BIGINT) AS seed_answer_index
FROM rows;
