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
               'near_equal_options',  format IN ('multiple_choice', 'cloze') AND nearly_equal_options(options),
               'option_count',        cardinality(options) <> option_count,
               'answer_not_offered',  options IS NOT NULL AND NOT answer_in_options(answer_text, options),
               'letter_answer',       is_option_letter(answer_text),
               'longest_option',      format IN ('multiple_choice', 'cloze') AND length_tells_the_answer(answer_text, options),
               'no_gap',              format = 'cloze' AND strpos(question, '__') = 0,
               'not_a_number',        format = 'numeric' AND NOT is_number(answer_text),
               'rationale_disagrees', format = 'numeric' AND NOT same_text(extract_final_number(rationale), answer_text),
               'premise_repeated',    format = 'nli' AND same_text(passage, question),
               'answer_in_question',  answer_is_leaked(question, answer_text, format),
               'unfinished',          is_unfinished(question),
               'repetitive',          is_repetitive(question) OR is_repetitive(answer_text),
               'unclosed',            has_unclosed_delimiters(question),
               'syntax',              is_broken_code(answer_text, seed_answer, format),
               'missing_context',     passage IS NULL AND mentions_missing_context(question),
               'other_language',      is_in_another_language(question, language),
               'seed_copy',           copies_any(question, [seed_question, exemplars[1]['question'],
                                                            exemplars[2]['question'], exemplars[3]['question']])
           ) AS found
    FROM generated
),
-- What repeats a held-out question of any task. Only here may held-out rows stand below a call: nothing of them goes on.
compared AS (
    SELECT *
    FROM decontaminate(
        TABLE examined,
        against => (SELECT task, source_row, concat_ws(' ', passage, question) AS question, answer_text FROM heldout),
        text    => concat_ws(' ', passage, question),
        answer  => answer_text,
        when    => cardinality(found) = 0)
),
-- What says nearly the same as an item before it, in the order of their keys: most of its n-grams, or with some of them its
-- words in their order (Self-Instruct's rule, Wang et al. 2023).
deduplicated AS (
    SELECT *
    FROM near_duplicates(
        TABLE compared,
        key       => item_key,
        text      => concat_ws(' ', passage, question),
        when      => cardinality(found) = 0 AND contamination IS NULL,
        threshold => 0.8,
        rouge_l   => 0.7)
)
SELECT * EXCEPT (found),
       array_concat(found, reasons(
           'contaminated', contamination IS NOT NULL,
           'duplicate',    duplicate IS NOT NULL
       )) AS reasons
FROM deduplicated;
