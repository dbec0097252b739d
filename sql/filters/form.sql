-- What an item must look like, whatever it is about.

CREATE FUNCTION is_blank(s TEXT) RETURNS BOOLEAN RETURN $s IS NULL OR length(trim($s)) = 0;

-- Under three words nothing is asked; over 1200 characters nothing is asked plainly. A hypothesis may be two words.
CREATE FUNCTION bad_question_length(question TEXT, format TEXT) RETURNS BOOLEAN
    RETURN $question IS NULL OR word_count($question) < CASE WHEN $format = 'nli' THEN 2 ELSE 3 END OR length($question) > 1200;

-- Two to ten options, no two of them alike, none of them blank.
CREATE FUNCTION bad_options(options TEXT[], format TEXT) RETURNS BOOLEAN
    RETURN $format IN ('multiple_choice', 'cloze', 'yes_no', 'nli')
           AND (coalesce(cardinality($options), 0) NOT BETWEEN 2 AND 10
                OR has_duplicate_options($options)
                OR array_has($options, ''));

-- Two options that say the same, so that both or neither is right.
CREATE FUNCTION nearly_equal_options(options TEXT[]) RETURNS BOOLEAN
    RETURN coalesce(has_near_equal_options($options) AND NOT has_duplicate_options($options), false);

-- The right answer is by far the longest option: its length gives it away. Options are to be of about one length (Haladyna,
-- Downing and Rodriguez 2002, guideline 23).
CREATE FUNCTION length_tells_the_answer(answer TEXT, options TEXT[]) RETURNS BOOLEAN
    RETURN coalesce(length($answer) > 20 AND length($answer) > 2 * length(longest_option(array_remove($options, $answer))), false);

-- Code that does not parse, where the seed's own answer shows that Python is wanted. It is not run.
CREATE FUNCTION is_broken_code(answer TEXT, seed_answer TEXT, format TEXT) RETURNS BOOLEAN
    RETURN $format = 'code' AND python_syntax_error($seed_answer) IS NULL AND python_syntax_error($answer) IS NOT NULL;

-- Python that ends with an error or does not end, where [run_code] of seedmill.toml has it run; never true where it is not.
CREATE FUNCTION fails_when_run(answer TEXT, seed_answer TEXT, format TEXT) RETURNS BOOLEAN
    RETURN run_python(CASE WHEN $format = 'code' AND python_syntax_error($seed_answer) IS NULL THEN $answer END)['status'] <> 'ok';

-- A long question that ends without a mark was cut off at its bound.
CREATE FUNCTION is_unfinished(s TEXT) RETURNS BOOLEAN
    RETURN coalesce(length($s) > 90 AND NOT regexp_like(trim($s), '[.?!:;_"”’)]$'), false);

-- Words covered by repeated 3-grams; for texts of 50 words and more, Gopher's rules (Rae et al. 2021).
CREATE FUNCTION is_repetitive(s TEXT) RETURNS BOOLEAN
    RETURN (word_count($s) > 8 AND repeated_ngram_fraction($s, 3) > 0.2) OR gopher_repetition($s) IS NOT NULL;

-- Plainly in another language than its seed's. Where it cannot be told, as in short texts, it is not.
CREATE FUNCTION is_in_another_language(s TEXT, language TEXT) RETURNS BOOLEAN
    RETURN coalesce(length($language) = 2 AND detect_language($s) <> $language, false);

-- Not a filter, but said in several places: what a list of questions with options is called at its head.
CREATE FUNCTION choice_title(format TEXT) RETURNS TEXT
    RETURN CASE $format WHEN 'cloze' THEN 'Sentences with a gap, written ____, each with the word that fits and words that do not.'
                        ELSE 'Questions for students, each about another topic, with its right answer and wrong answers.' END;
