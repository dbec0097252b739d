-- function: logiqa.utils_logiqa.doc_to_text
SELECT
  *,
  try_jinja('Passage: {{context}}
Question: {{question}}
Choices:
{% for option in options[:4] %}{{ "ABCD"[loop.index0] }}. {{option}}
{% endfor %}Answer:', named_struct('context', context, 'question', question, 'options', options)) AS doc_to_text,
  question AS seed_question,
  context AS seed_passage
FROM rows;

-- function: logiqa.utils_logiqa.doc_to_target
SELECT *, CAST(array_position(['a', 'b', 'c', 'd'], strip(label)) AS BIGINT) - 1 AS doc_to_target FROM rows;

-- function: logiqa2.utils_logiqa2.doc_to_text
SELECT
  *,
  try_jinja('Passage: {{text}}
Question: {{question}}
{% for option in options[:4] %}{{ "ABCD"[loop.index0] }}. {{option}}
{% endfor %}Answer:', named_struct('text', text, 'question', question, 'options', options)) AS doc_to_text,
  question AS seed_question,
  text AS seed_passage,
  options AS seed_options
FROM rows;
