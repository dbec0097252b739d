-- Enrich: what one needs to know, and how the answer follows from it.
CREATE VIEW enriched AS
SELECT *
FROM enrich(
    TABLE voted,
    model       => @solver,
    system      => 'For each question and answer: the facts that one must know, and the reasoning that leads to the answer.',
    prompt      => render('enrich'),
    when        => cardinality(reasons) = 0,
    returns     => 'knowledge VARCHAR(120)[1], reasoning VARCHAR(200)',
    temperature => 0.6, max_tokens => 150, seed => 13);
