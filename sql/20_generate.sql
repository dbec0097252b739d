-- Generate: new items from seeds, by the form of their answer. Each form has its own answer columns, and so a call of
-- its own; the union below gives them one shape. Prompts end with the seed's own line: the model writes the next one.

-- One of several options. The right answer and the wrong ones are asked for apart, so that the answer is among the
-- options by construction; their order is drawn from the item's key below. A list of a fixed length keeps a small model
-- from writing on, so the usual numbers of options have calls of their own.
CREATE VIEW generated_of_four AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format IN ('multiple_choice', 'cloze') AND cardinality(seed_options) = 4),
    model       => @writer,
    system      => choice_title(format),
    prompt      => render('generate_choice'),
    returns     => 'question VARCHAR(160), answer_text VARCHAR(60), distractors VARCHAR(60)[3]',
    samples     => @samples,
    temperature => 0.9, max_tokens => 200, seed => 7);

CREATE VIEW generated_of_three AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format IN ('multiple_choice', 'cloze') AND cardinality(seed_options) = 3),
    model       => @writer,
    system      => choice_title(format),
    prompt      => render('generate_choice'),
    returns     => 'question VARCHAR(160), answer_text VARCHAR(60), distractors VARCHAR(60)[2]',
    samples     => @samples,
    temperature => 0.9, max_tokens => 180, seed => 7);

CREATE VIEW generated_of_any AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds
     WHERE format IN ('multiple_choice', 'cloze') AND coalesce(cardinality(seed_options), 0) NOT IN (3, 4)),
    model       => @writer,
    system      => choice_title(format),
    prompt      => render('generate_choice'),
    returns     => 'question VARCHAR(160), answer_text VARCHAR(60), distractors VARCHAR(60)[]',
    samples     => @samples,
    temperature => 0.9, max_tokens => 240, seed => 7);

CREATE VIEW generated_yes_no AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format = 'yes_no'),
    model       => @writer,
    system      => 'Questions about other topics, each with its answer, yes or no.',
    prompt      => render('generate_open'),
    returns     => 'question VARCHAR(140), answer_text ENUM(''yes'', ''no'')',
    samples     => @samples,
    temperature => 0.7, max_tokens => 120, seed => 7);

-- A premise and a sentence after it. The relation is the seed's: small models write one relation only when they choose.
CREATE VIEW generated_nli AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format = 'nli'),
    model       => @writer,
    system      => CASE seed_answer
                       WHEN 'entailment' THEN 'A sentence, and a second sentence that must be true if the first is true.'
                       WHEN 'contradiction' THEN 'A sentence, and a second sentence that must be false if the first is true.'
                       ELSE 'A sentence, and a second sentence that may or may not be true if the first is true.' END,
    prompt      => render('generate_nli'),
    returns     => 'passage VARCHAR(120), question VARCHAR(100)',
    samples     => @samples,
    temperature => 0.7, max_tokens => 140, seed => 7);

CREATE VIEW generated_numeric AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format = 'numeric'),
    model       => @writer,
    system      => 'Word problems about other situations, each with its calculation and answer.',
    prompt      => render('generate_numeric'),
    returns     => 'question VARCHAR(200), rationale VARCHAR(120), answer_text VARCHAR(12)',
    samples     => @samples,
    temperature => 0.6, max_tokens => 200, seed => 7);

CREATE VIEW generated_short_answer AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format = 'short_answer'),
    model       => @writer,
    system      => 'Questions about other topics, each with a short answer.',
    prompt      => render('generate_open'),
    returns     => 'question VARCHAR(160), answer_text VARCHAR(60)',
    samples     => @samples,
    temperature => 0.7, max_tokens => 120, seed => 7);

CREATE VIEW generated_long AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format IN ('free_form', 'code')),
    model       => @writer,
    system      => CASE format WHEN 'code' THEN 'Small Python tasks, each with its solution.'
                               ELSE 'Questions about other topics, each with an answer of one or two sentences.' END,
    prompt      => render('generate_open'),
    returns     => 'question VARCHAR(160), answer_text VARCHAR(300)',
    samples     => @samples,
    temperature => 0.7, max_tokens => 200, seed => 7);

-- All of them in one shape.
CREATE VIEW generated AS
WITH every AS (
    SELECT * FROM generated_of_four
    UNION ALL BY NAME SELECT * FROM generated_of_three
    UNION ALL BY NAME SELECT * FROM generated_of_any
    UNION ALL BY NAME SELECT * FROM generated_yes_no
    UNION ALL BY NAME SELECT *, seed_answer AS answer_text FROM generated_nli
    UNION ALL BY NAME SELECT * FROM generated_numeric
    UNION ALL BY NAME SELECT * FROM generated_short_answer
    UNION ALL BY NAME SELECT * FROM generated_long
),
keyed AS (
    -- What an item is called from here on: its call and its place in the answer.
    SELECT *, concat(generate_call['call_id'], '-', coalesce(generate_call['item'], 0)) AS item_key FROM every
)
SELECT * EXCEPT (distractors),
       CASE WHEN format IN ('yes_no', 'nli') THEN seed_options
            WHEN distractors IS NOT NULL THEN shuffle_options(array_prepend(answer_text, distractors), item_key)
       END AS options
FROM keyed;
