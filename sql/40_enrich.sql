-- Enrich: what one needs to know, and how the answer follows from it.
CREATE VIEW enriched AS
SELECT *
FROM enrich(
    TABLE judged,
    model       => @solver,
    system      => 'For each question and answer: the facts that one must know, and the reasoning that leads to the answer.',
    prompt      => CASE @prompts WHEN 'examples' THEN render('enrich') ELSE render('explain') END,
    when        => cardinality(reasons) = 0,
    returns     => CASE @prompts WHEN 'examples' THEN 'knowledge VARCHAR(120)[1], reasoning VARCHAR(200)'
                                 ELSE 'knowledge VARCHAR(300)[], reasoning VARCHAR(3000)' END,
    temperature => 0.6, max_tokens => CASE @prompts WHEN 'examples' THEN 150 ELSE 1500 END, seed => 13);
