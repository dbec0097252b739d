-- What an item must not be: its answer given away, or a copy.

-- The answer stands in the question. Labels are no answer text, and an answer of one short word may well be there.
CREATE FUNCTION answer_is_leaked(question TEXT, answer TEXT, format TEXT) RETURNS BOOLEAN
    RETURN $format IN ('multiple_choice', 'short_answer')
           AND length($answer) > 3
           AND strpos(concat(' ', normalize_text($question), ' '), concat(' ', normalize_text($answer), ' ')) > 0;

-- ROUGE-L over 0.7 to one text (Self-Instruct, Wang et al. 2023), more than half of its 8-grams there (Tülu 3, Lambert
-- et al. 2024), or the same with other numbers.
CREATE FUNCTION is_copy(s TEXT, original TEXT) RETURNS BOOLEAN
    RETURN coalesce(rouge_l($s, $original) > 0.7, false)
           OR coalesce(ngram_containment($s, $original, 8) > 0.5, false)
           OR coalesce(normalize_text(mask_numbers($s)) = normalize_text(mask_numbers($original)), false);

-- A copy of one of up to four originals.
CREATE FUNCTION copies_any(s TEXT, originals TEXT[]) RETURNS BOOLEAN
    RETURN is_copy($s, $originals[1]) OR is_copy($s, $originals[2]) OR is_copy($s, $originals[3]) OR is_copy($s, $originals[4]);
