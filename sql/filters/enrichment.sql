-- What the enrichment of an item must not be.

-- "Option B", "(c)": options are shuffled, so letters mean nothing to a reader.
CREATE FUNCTION speaks_of_letters(s TEXT) RETURNS BOOLEAN RETURN coalesce(names_option_letter($s), false);

-- The reasoning must end in the answer that it is the reasoning of.
CREATE FUNCTION ends_elsewhere(reasoning TEXT, answer TEXT, options TEXT[], format TEXT) RETURNS BOOLEAN
    RETURN $format IN ('multiple_choice', 'cloze', 'numeric') AND coalesce(concludes_otherwise($reasoning, $answer, $options), false);
