-- How a published item reads as running text.

-- Options without letters: the answer is one of these texts, not a place among them.
CREATE FUNCTION option_list(options TEXT[]) RETURNS TEXT
    RETURN '- ' || array_to_string($options, chr(10) || '- ');

-- Whether a question can be read without its options.
CREATE FUNCTION stands_without_options(question TEXT, format TEXT) RETURNS BOOLEAN
    RETURN $format NOT IN ('cloze', 'nli') AND NOT regexp_like($question, '\b(which|following|these|below|options?|choices?)\b', 'i');

-- One of eight forms: with and without options, knowledge before or after, with and without reasoning.
CREATE FUNCTION as_text(form BIGINT, question TEXT, options TEXT, answer TEXT, reasoning TEXT, knowledge TEXT) RETURNS TEXT
    RETURN CASE $form
        WHEN 0 THEN concat_ws(chr(10) || chr(10), $question, $options, $reasoning, 'Answer: ' || $answer)
        WHEN 1 THEN concat_ws(chr(10) || chr(10), 'Question: ' || $question, $options, 'Answer: ' || $answer)
        WHEN 2 THEN concat_ws(chr(10) || chr(10), $knowledge, $question, $options, 'Answer: ' || $answer)
        WHEN 3 THEN concat_ws(chr(10) || chr(10), $question, $options, $answer, $reasoning)
        WHEN 4 THEN concat_ws(chr(10) || chr(10), 'Q: ' || $question, $options, 'A: ' || coalesce($reasoning || ' ', '') || 'Answer: ' || $answer)
        WHEN 5 THEN concat_ws(chr(10) || chr(10), $question, $options, 'Answer: ' || $answer, $knowledge)
        WHEN 6 THEN concat_ws(chr(10) || chr(10), $knowledge, 'Question: ' || $question, $options, $reasoning, 'Answer: ' || $answer)
        ELSE concat_ws(chr(10) || chr(10), $question, $options, 'Reasoning: ' || $reasoning, 'Answer: ' || $answer, $knowledge) END;
