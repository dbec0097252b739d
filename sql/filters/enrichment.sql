-- What the enrichment of an item must not be.

-- "Option B", "(c)": options are shuffled, so letters mean nothing to a reader.
CREATE FUNCTION speaks_of_letters(s TEXT) RETURNS BOOLEAN
    RETURN coalesce(regexp_like($s, '(^|[^a-zA-Z])(option|choice|answer) [A-F]([^a-zA-Z]|$)', 'i'), false);
