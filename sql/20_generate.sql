-- Generate: new items from seeds, by the form of their answer. Each call is one SQL statement of its own because each
-- form has its own answer columns; the union below gives them one shape.

-- One of several options, as text.
CREATE VIEW generated_choice AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format IN ('multiple_choice', 'cloze')),
    model       => @writer,
    system      => 'Write a new question like the examples: same kind and difficulty, another topic, other facts. Exactly one option is right.',
    prompt      => render('generate_choice'),
    returns     => 'question VARCHAR(200), options VARCHAR(60)[], answer_text VARCHAR(60)',
    samples     => @samples,
    temperature => 0.7, max_tokens => 220, seed => 7);

-- Yes or no.
CREATE VIEW generated_yes_no AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format = 'yes_no'),
    model       => @writer,
    system      => 'Write a new yes-or-no question like the examples, about another topic, and answer it.',
    prompt      => render('generate_yes_no'),
    returns     => 'question VARCHAR(200), answer_text ENUM(''yes'', ''no'')',
    samples     => @samples,
    temperature => 0.7, max_tokens => 120, seed => 7);

-- A premise and what follows from it.
CREATE VIEW generated_nli AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format = 'nli'),
    model       => @writer,
    system      => 'Write a new premise and hypothesis like the examples, about another scene, and say how they relate.',
    prompt      => render('generate_nli'),
    returns     => 'passage VARCHAR(200), question VARCHAR(160), answer_text ENUM(''entailment'', ''neutral'', ''contradiction'')',
    samples     => @samples,
    temperature => 0.7, max_tokens => 160, seed => 7);

-- A number, with the way to it.
CREATE VIEW generated_numeric AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format = 'numeric'),
    model       => @writer,
    system      => 'Write a new word problem like the examples, about another situation and with another way to the answer, and solve it.',
    prompt      => render('generate_numeric'),
    returns     => 'question VARCHAR(240), rationale VARCHAR(240), answer_text VARCHAR(20)',
    samples     => @samples,
    temperature => 0.7, max_tokens => 240, seed => 7);

-- A few words, a few sentences, or code.
CREATE VIEW generated_open AS
SELECT * FROM generate(
    (SELECT * FROM chosen_seeds WHERE format IN ('short_answer', 'free_form', 'code')),
    model       => @writer,
    system      => 'Write a new question like the examples: same kind and difficulty, another topic, with its answer.',
    prompt      => render('generate_open'),
    returns     => 'question VARCHAR(200), answer_text VARCHAR(320)',
    samples     => @samples,
    temperature => 0.7, max_tokens => 260, seed => 7);

-- All of them in one shape. Labels (yes and no, the three relations) are options of every item of their form.
CREATE VIEW generated AS
SELECT * EXCEPT (passage, options),
       -- What an item is called from here on: its call and its place in the answer.
       concat(generate_call['call_id'], '-', coalesce(generate_call['item'], 0)) AS item_key,
       passage,
       CASE WHEN format IN ('yes_no', 'nli') THEN seed_options ELSE options END AS options
FROM (
    SELECT * FROM generated_choice
    UNION ALL BY NAME SELECT * FROM generated_yes_no
    UNION ALL BY NAME SELECT * FROM generated_nli
    UNION ALL BY NAME SELECT * FROM generated_numeric
    UNION ALL BY NAME SELECT * FROM generated_open
);
