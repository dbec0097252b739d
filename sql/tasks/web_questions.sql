-- All choices are right: the answers but those that begin with another. Together they are the answer.
-- function: webqs.utils.doc_to_choice
-- function: webqs.utils.doc_to_target
-- format: short_answer
SELECT *, range(0, cardinality(doc_to_choice)) AS doc_to_target
FROM (
  SELECT
    *,
    python_list(try_jinja('{% set kept = namespace(answers=[answers[0]]) -%}
{% for answer in answers[1:] %}{% if not answer.startswith(kept.answers[-1]) %}{% set kept.answers = kept.answers + [answer] %}{% endif -%}
{% endfor %}{{ kept.answers }}', named_struct('answers', array_sort(answers)))) AS doc_to_choice,
    array_to_string(answers, ', ') AS seed_answer,
    CAST(NULL AS TEXT[]) AS seed_options
  FROM rows
);
