-- A conversation about a story. The last question is asked; what was said before belongs to its passage.
-- function: coqa.utils.doc_to_text
SELECT
  *,
  try_jinja('{{ story }}

{% for question in questions %}Q: {{ question }}

{% if loop.index0 < answers | length - 1 %}A: {{ answers[loop.index0] }}

{% else %}A:{% endif %}{% endfor %}',
    named_struct('story', story, 'questions', questions['input_text'], 'answers', answers['input_text'])) AS doc_to_text,
  try_jinja('{{ story }}
{% for question in questions[:-1] %}
Q: {{ question }}
A: {{ answers[loop.index0] }}
{% endfor %}',
    named_struct('story', story, 'questions', questions['input_text'], 'answers', answers['input_text'])) AS seed_passage,
  questions['input_text'][CAST(cardinality(questions['input_text']) AS BIGINT)] AS seed_question
FROM rows;

-- The answer and those of other annotators that differ in more than case.
-- function: coqa.utils.doc_to_target
SELECT
  *,
  python_list(try_jinja('{% set turn = questions | length - 1 %}{% set found = namespace(answers=[answers[turn]]) -%}
{% for key in additional or {} %}{% set other = additional[key].input_text[turn] -%}
{% if other.lower() not in found.answers | map("lower") | list %}{% set found.answers = found.answers + [other] %}{% endif -%}
{% endfor %}{{ found.answers }}',
    named_struct('questions', questions['input_text'], 'answers', answers['input_text'], 'additional', additional_answers)
  )) AS doc_to_target
FROM rows;
