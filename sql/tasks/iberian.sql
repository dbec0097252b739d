-- Catalan, Galician and Spanish sets, put together again from their tokens. Sentences are joined by the prompts, so the
-- first loses its full stop and the second its capital letter.
-- function: catalan_bench.utils.process_doc_nli
-- function: spanish_bench.utils.process_doc_nli
SELECT * EXCEPT (plain_premise, plain_hypothesis)
FROM (
  SELECT
    * REPLACE (
      regexp_replace(plain_premise, '[.,!?]$', '') AS premise,
      lower(left(plain_hypothesis, 1)) || substr(plain_hypothesis, 2)
        || CASE WHEN plain_hypothesis LIKE '%.' THEN '' ELSE '.' END AS hypothesis
    )
  FROM (SELECT *, strip(detokenize(premise)) AS plain_premise, strip(detokenize(hypothesis)) AS plain_hypothesis FROM rows)
);

-- function: catalan_bench.utils.process_docs_paraphrases
-- function: spanish_bench.utils.process_docs_paraphrases
-- function: galician_bench.utils.process_docs_paws
-- function: paws-x.utils.process_docs_paraphrases
SELECT
  * REPLACE (
    regexp_replace(strip(detokenize(sentence1)), '[.,;]$', '') AS sentence1,
    lower(left(strip(detokenize(sentence2)), 1)) || substr(strip(detokenize(sentence2)), 2) AS sentence2
  )
FROM rows
WHERE sentence1 <> '' AND sentence2 <> '';

-- function: galician_bench.utils.process_docs_paraphrases
SELECT
  * REPLACE (
    regexp_replace(strip(detokenize("Frase")), '[.,;]$', '') AS "Frase",
    lower(left(strip(detokenize("Paráfrase")), 1)) || substr(strip(detokenize("Paráfrase")), 2) AS "Paráfrase"
  )
FROM rows
WHERE "Frase" <> '' AND "Paráfrase" <> '';

-- function: catalan_bench.utils.process_docs_copa_ca
-- function: spanish_bench.utils.process_docs_copa_es
SELECT
  * REPLACE (
    lower(left(choice1, 1)) || substr(choice1, 2) AS choice1,
    lower(left(choice2, 1)) || substr(choice2, 2) AS choice2
  )
FROM rows;

-- function: galician_bench.utils.process_summarization
-- function: spanish_bench.utils.process_xlsum
-- format: free_form
SELECT
  * REPLACE (regexp_replace(text, ' +', ' ', 'g') AS text, regexp_replace(summary, ' +', ' ', 'g') AS summary)
FROM rows;

-- function: catalan_bench.utils.process_doc_cabreu
-- format: free_form
SELECT
  * REPLACE (
    regexp_replace(content, ' +', ' ', 'g') AS content,
    named_struct(
      'abstractive', named_struct(
        'a1', regexp_replace(summaries['abstractive']['a1'], ' +', ' ', 'g'),
        'a2', regexp_replace(summaries['abstractive']['a2'], ' +', ' ', 'g'),
        'a3', regexp_replace(summaries['abstractive']['a3'], ' +', ' ', 'g')),
      'extractive', named_struct(
        'a1', regexp_replace(summaries['extractive']['a1'], ' +', ' ', 'g'),
        'a2', regexp_replace(summaries['extractive']['a2'], ' +', ' ', 'g'),
        'a3', regexp_replace(summaries['extractive']['a3'], ' +', ' ', 'g')),
      'extreme', named_struct(
        'a1', regexp_replace(summaries['extreme']['a1'], ' +', ' ', 'g'),
        'a2', regexp_replace(summaries['extreme']['a2'], ' +', ' ', 'g'),
        'a3', regexp_replace(summaries['extreme']['a3'], ' +', ' ', 'g'))
    ) AS summaries
  )
FROM rows;
