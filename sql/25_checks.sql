-- Checks that cost nothing, before the solves that they save. Each adds its name to `reasons`; a row with reasons is
-- carried along and no longer paid for. The functions are in filters/: a check of your own is a file there and a line
-- here.
CREATE VIEW checked AS
WITH examined AS (
    SELECT *,
           reasons(
               -- Without an answer nothing else can be said of an item.
               'call_failed',         generate_call['replayed'] IS NULL,
               'unparsed',            generate_call['replayed'] IS NOT NULL AND generate_call['error'] IS NOT NULL,
               'question_length',     bad_question_length(question, format),
               'empty_answer',        is_blank(answer_text),
               'refusal',             is_refusal(question) OR is_refusal(answer_text),
               'options',             bad_options(options, format),
               'option_count',        cardinality(options) <> cardinality(seed_options),
               'answer_not_offered',  options IS NOT NULL AND NOT answer_in_options(answer_text, options),
               'letter_answer',       is_option_letter(answer_text),
               'no_gap',              format = 'cloze' AND strpos(question, '__') = 0,
               'not_a_number',        format = 'numeric' AND NOT is_number(answer_text),
               'rationale_disagrees', format = 'numeric' AND NOT same_text(extract_final_number(rationale), answer_text),
               'premise_repeated',    format = 'nli' AND same_text(passage, question),
               'answer_in_question',  answer_is_leaked(question, answer_text, format),
               'unfinished',          is_unfinished(question),
               'repetitive',          is_repetitive(question) OR is_repetitive(answer_text),
               'unclosed',            has_unclosed_delimiters(question),
               'missing_context',     passage IS NULL AND mentions_missing_context(question),
               'seed_copy',           copies_any(question, [seed_question, exemplars[1]['question'],
                                                            exemplars[2]['question'], exemplars[3]['question']])
           ) AS found
    FROM generated
)
SELECT * EXCEPT (found),
       array_concat(found, reasons(
           -- Of equal questions the first by key stays.
           'duplicate', cardinality(found) = 0
                        AND row_number() OVER (PARTITION BY cardinality(found) = 0, normalize_text(concat_ws(' ', passage, question))
                                               ORDER BY item_key) > 1
       )) AS reasons
FROM examined;
