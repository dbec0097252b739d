-- function: evalita_llm.utils.sa_doc_to_target
SELECT
  *,
  CASE concat(opos, oneg)
    WHEN '10' THEN CAST(0 AS BIGINT) WHEN '01' THEN CAST(1 AS BIGINT) WHEN '00' THEN CAST(2 AS BIGINT) WHEN '11' THEN CAST(3 AS BIGINT)
  END AS doc_to_target
FROM rows;

-- function: evalita_llm.utils.sa_doc_to_choice
SELECT *, make_array('Positivo', 'Negativo', 'Neutrale', 'Misto') AS doc_to_choice FROM rows;
