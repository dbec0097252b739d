-- Enrich: what one needs to know, and how the answer follows from it.
CREATE VIEW enriched AS
SELECT *
FROM enrich(
    TABLE voted,
    model       => @solver,
    system      => 'Say what one needs to know to answer the last question, and why the answer is right.',
    prompt      => render('enrich'),
    when        => cardinality(reasons) = 0,
    returns     => 'knowledge VARCHAR(140)[2], reasoning VARCHAR(240)',
    temperature => 0.3, max_tokens => 200, seed => 13);
