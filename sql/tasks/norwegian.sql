-- function: noreval.noropenbookqa.utils.filter_dataset
SELECT * FROM rows WHERE char_length(fact) > 0;

-- The first line of a context is its title.
-- function: noreval.norquad.utils.process_docs
SELECT
  * REPLACE (regexp_replace(strip(question), '[\s\x1c-\x1f]+', ' ', 'g') AS question),
  strip(split_part(strip(context), chr(10), 1)) AS title,
  CASE WHEN strpos(strip(context), chr(10)) > 0 THEN strip(substr(strip(context), strpos(strip(context), chr(10)) + 1)) ELSE '' END
    AS passage
FROM rows;

-- function: noreval.norquad.utils.p0
SELECT
  *,
  'Tittel: ' || title || chr(10) || chr(10) || 'Tekst: ' || passage || chr(10) || chr(10) || 'Spørsmål: ' || question
    || chr(10) || chr(10) || 'Svar:' AS doc_to_text,
  question AS seed_question, passage AS seed_passage
FROM rows;

-- function: noreval.norquad.utils.p1
SELECT
  *,
  'Tittel: ' || title || chr(10) || chr(10) || 'Tekst: ' || passage || chr(10) || chr(10)
    || 'Gitt teksten over, hva er svaret på følgende spørsmål? "' || question || '"' || chr(10) || chr(10) || 'Svar:' AS doc_to_text,
  question AS seed_question, passage AS seed_passage
FROM rows;

-- function: noreval.norquad.utils.p2
SELECT
  *,
  'Tittel: ' || title || chr(10) || chr(10) || 'Tekst: ' || passage || chr(10) || chr(10)
    || 'Svar på følgende: ' || question || chr(10) || chr(10) || 'Svar:' AS doc_to_text,
  question AS seed_question, passage AS seed_passage
FROM rows;

-- function: noreval.norquad.utils.p3
SELECT
  *,
  'Tittel: ' || title || chr(10) || chr(10) || 'Tekst: ' || passage || chr(10) || chr(10)
    || 'Hvordan kan man svare på spørsmålet "' || question || '", gitt teksten over?' || chr(10) || chr(10) || 'Svar:' AS doc_to_text,
  question AS seed_question, passage AS seed_passage
FROM rows;

-- function: noreval.norquad.utils.p4
SELECT
  *,
  'Tittel: ' || title || chr(10) || chr(10) || 'Tekst:' || passage || chr(10) || chr(10)
    || 'Gitt teksten over, besvar følgende spørsmål: "' || question || '"' || chr(10) || chr(10) || 'Svar:' AS doc_to_text,
  question AS seed_question, passage AS seed_passage
FROM rows;
