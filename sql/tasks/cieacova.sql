-- Exercises of Catalan examinations. Each prompt shows the first row that has the same instruction.
-- function: catalan_bench.cieacova.utils.load_cieacova_dataset
-- function: catalan_bench.cieacova.utils.process_docs
SELECT
  * EXCEPT (instruction, first_question, first_options, first_answer, answers, places),
  CASE WHEN instruction = '' THEN '' ELSE
    'Exemple de text a resoldre:' || chr(10) || coalesce(first_question, 'None') || chr(10) || chr(10)
    || 'Exemple opcions de resposta:' || chr(10)
    || CASE WHEN cardinality(first_options) > 0 THEN '- ' || array_to_string(first_options, concat(chr(10), '- ')) ELSE '' END
    || chr(10) || chr(10) || 'Exemple resposta:' || chr(10) || coalesce(first_answer, '') || chr(10) || chr(10)
    || '---' || chr(10) || chr(10)
  END AS dynamic_fewshot,
  '- ' || array_to_string(parsed_opciones, concat(chr(10), '- ')) AS parsed_opciones_text,
  make_array(coalesce(TRY_CAST(split_part(places, ' ', 1) AS BIGINT), 0)) AS parsed_respuesta
FROM (
  SELECT
    * REPLACE (CASE WHEN cardinality(parsed_opciones) > 0 THEN parsed_opciones ELSE make_array('') END AS parsed_opciones,
      instruction AS "Instrucción"),
    first_value("Pregunta") OVER (PARTITION BY instruction ORDER BY source_row) AS first_question,
    first_value(parsed_opciones) OVER (PARTITION BY instruction ORDER BY source_row) AS first_options,
    first_value(answers[1]) OVER (PARTITION BY instruction ORDER BY source_row) AS first_answer,
    try_jinja('{% for answer in answers if answer in options %}{{ options.index(answer) }} {% endfor %}',
      named_struct('answers', answers, 'options', parsed_opciones)) AS places
  FROM (
    SELECT
      *,
      replace(coalesce("Instrucción", ''), '"[MASK]"', '[MASK]') AS instruction,
      coalesce(try_jinja_list('{{ (options or []) | map("trim") | select }}', named_struct('options', "Opciones")), []) AS parsed_opciones,
      coalesce(try_jinja_list('{{ (answers or []) | map("trim") | select }}', named_struct('answers', "Respuesta")), []) AS answers
    FROM rows
  )
);

-- function: catalan_bench.cieacova.utils.process_gen_docs
SELECT
  * EXCEPT (instruction, first_question, first_hint, first_answer, answers),
  CASE WHEN cardinality(answers) > 0 THEN answers ELSE make_array('') END AS parsed_respuesta,
  CASE WHEN instruction = '' THEN '' ELSE
    'Exemple de text a resoldre:' || chr(10) || coalesce(first_question, 'None') || chr(10) || chr(10)
    || CASE WHEN first_hint <> '' THEN 'Exemple PISTA:' || chr(10) || first_hint || chr(10) || chr(10) ELSE '' END
    || 'Exemple resposta:' || chr(10) || coalesce(first_answer, '') || chr(10) || chr(10) || '---' || chr(10) || chr(10)
  END AS dynamic_fewshot
FROM (
  SELECT
    * REPLACE (instruction AS "Instrucción"),
    first_value("Pregunta") OVER (PARTITION BY instruction ORDER BY source_row) AS first_question,
    first_value("Pista") OVER (PARTITION BY instruction ORDER BY source_row) AS first_hint,
    first_value(answers[1]) OVER (PARTITION BY instruction ORDER BY source_row) AS first_answer
  FROM (
    SELECT
      *,
      replace(coalesce("Instrucción", ''), '"[MASK]"', '[MASK]') AS instruction,
      coalesce(try_jinja_list('{{ (answers or []) | map("trim") | select }}', named_struct('answers', "Respuesta")), []) AS answers
    FROM rows
  )
);
