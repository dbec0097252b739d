-- Generate: new items from seeds, by the form of their answer. Each form has its own answer columns, and so a call of
-- its own; the union below gives them one shape. There are two prompts of each form. @prompts = 'examples' shows the seed
-- and its exemplars alone, and the model writes the next line: for small and base models. 'instructions' says what is
-- wanted, with the seed's operator, and leaves more room: for models that follow instructions.

-- One of several options. The right answer and the wrong ones are asked for apart, so that the answer is among the
-- options by construction; their order is drawn from the item's key below. A list of a fixed length keeps a small model
-- from writing on, so the usual numbers of options have calls of their own.
CREATE VIEW generated_of_four AS
SELECT * FROM generate(
    (SELECT * FROM assigned_seeds WHERE format IN ('multiple_choice', 'cloze') AND option_count = 4),
    model       => @writer,
    system      => CASE @prompts WHEN 'examples' THEN choice_title(format) ELSE render('write_rules') END,
    prompt      => CASE @prompts WHEN 'examples' THEN render('generate_choice') ELSE render('write_choice', 'items', @items) END,
    returns     => CASE @prompts WHEN 'examples' THEN 'question VARCHAR(160), answer_text VARCHAR(60), distractors VARCHAR(60)[3]'
                                 ELSE 'passage VARCHAR(2000) NULL, question VARCHAR(1000), answer_text VARCHAR(300), distractors VARCHAR(300)[3]' END,
    items       => CASE @prompts WHEN 'examples' THEN NULL ELSE @items END,
    samples     => @samples,
    temperature => 0.9, max_tokens => CASE @prompts WHEN 'examples' THEN 200 ELSE 1200 * @items END, seed => 7);

CREATE VIEW generated_of_three AS
SELECT * FROM generate(
    (SELECT * FROM assigned_seeds WHERE format IN ('multiple_choice', 'cloze') AND option_count = 3),
    model       => @writer,
    system      => CASE @prompts WHEN 'examples' THEN choice_title(format) ELSE render('write_rules') END,
    prompt      => CASE @prompts WHEN 'examples' THEN render('generate_choice') ELSE render('write_choice', 'items', @items) END,
    returns     => CASE @prompts WHEN 'examples' THEN 'question VARCHAR(160), answer_text VARCHAR(60), distractors VARCHAR(60)[2]'
                                 ELSE 'passage VARCHAR(2000) NULL, question VARCHAR(1000), answer_text VARCHAR(300), distractors VARCHAR(300)[2]' END,
    items       => CASE @prompts WHEN 'examples' THEN NULL ELSE @items END,
    samples     => @samples,
    temperature => 0.9, max_tokens => CASE @prompts WHEN 'examples' THEN 180 ELSE 1200 * @items END, seed => 7);

CREATE VIEW generated_of_any AS
SELECT * FROM generate(
    (SELECT * FROM assigned_seeds
     WHERE format IN ('multiple_choice', 'cloze') AND coalesce(option_count, 0) NOT IN (3, 4)),
    model       => @writer,
    system      => CASE @prompts WHEN 'examples' THEN choice_title(format) ELSE render('write_rules') END,
    prompt      => CASE @prompts WHEN 'examples' THEN render('generate_choice') ELSE render('write_choice', 'items', @items) END,
    returns     => CASE @prompts WHEN 'examples' THEN 'question VARCHAR(160), answer_text VARCHAR(60), distractors VARCHAR(60)[]'
                                 ELSE 'passage VARCHAR(2000) NULL, question VARCHAR(1000), answer_text VARCHAR(300), distractors VARCHAR(300)[]' END,
    items       => CASE @prompts WHEN 'examples' THEN NULL ELSE @items END,
    samples     => @samples,
    temperature => 0.9, max_tokens => CASE @prompts WHEN 'examples' THEN 240 ELSE 1600 * @items END, seed => 7);

CREATE VIEW generated_yes_no AS
SELECT * FROM generate(
    (SELECT * FROM assigned_seeds WHERE format = 'yes_no'),
    model       => @writer,
    system      => CASE @prompts WHEN 'examples' THEN 'Questions about other topics, each with its answer, yes or no.'
                                 ELSE render('write_rules') END,
    prompt      => CASE @prompts WHEN 'examples' THEN render('generate_open') ELSE render('write_yes_no', 'items', @items) END,
    returns     => CASE @prompts WHEN 'examples' THEN 'question VARCHAR(140), answer_text ENUM(''yes'', ''no'')'
                                 ELSE 'passage VARCHAR(2000) NULL, question VARCHAR(1000), answer_text ENUM(''yes'', ''no'')' END,
    items       => CASE @prompts WHEN 'examples' THEN NULL ELSE @items END,
    samples     => @samples,
    temperature => 0.7, max_tokens => CASE @prompts WHEN 'examples' THEN 120 ELSE 1000 * @items END, seed => 7);

-- A premise and a sentence after it. The relation is the seed's: small models write one relation only when they choose.
CREATE VIEW generated_nli AS
SELECT * FROM generate(
    (SELECT * FROM assigned_seeds WHERE format = 'nli'),
    model       => @writer,
    system      => CASE WHEN @prompts <> 'examples' THEN render('write_rules')
                        WHEN seed_answer = 'entailment' THEN 'A sentence, and a second sentence that must be true if the first is true.'
                        WHEN seed_answer = 'contradiction' THEN 'A sentence, and a second sentence that must be false if the first is true.'
                        ELSE 'A sentence, and a second sentence that may or may not be true if the first is true.' END,
    prompt      => CASE @prompts WHEN 'examples' THEN render('generate_nli') ELSE render('write_nli', 'items', @items) END,
    returns     => CASE @prompts WHEN 'examples' THEN 'passage VARCHAR(120), question VARCHAR(100)'
                                 ELSE 'passage VARCHAR(1000), question VARCHAR(400)' END,
    items       => CASE @prompts WHEN 'examples' THEN NULL ELSE @items END,
    samples     => @samples,
    temperature => 0.7, max_tokens => CASE @prompts WHEN 'examples' THEN 140 ELSE 600 * @items END, seed => 7);

CREATE VIEW generated_numeric AS
SELECT * FROM generate(
    (SELECT * FROM assigned_seeds WHERE format = 'numeric'),
    model       => @writer,
    system      => CASE @prompts WHEN 'examples' THEN 'Word problems about other situations, each with its calculation and answer.'
                                 ELSE render('write_rules') END,
    prompt      => CASE @prompts WHEN 'examples' THEN render('generate_numeric') ELSE render('write_numeric', 'items', @items) END,
    returns     => CASE @prompts WHEN 'examples' THEN 'question VARCHAR(200), rationale VARCHAR(120), answer_text VARCHAR(12)'
                                 ELSE 'passage VARCHAR(2000) NULL, question VARCHAR(1000), rationale VARCHAR(1500), answer_text VARCHAR(40)' END,
    items       => CASE @prompts WHEN 'examples' THEN NULL ELSE @items END,
    samples     => @samples,
    temperature => 0.6, max_tokens => CASE @prompts WHEN 'examples' THEN 200 ELSE 1600 * @items END, seed => 7);

CREATE VIEW generated_short_answer AS
SELECT * FROM generate(
    (SELECT * FROM assigned_seeds WHERE format = 'short_answer'),
    model       => @writer,
    system      => CASE @prompts WHEN 'examples' THEN 'Questions about other topics, each with a short answer.'
                                 ELSE render('write_rules') END,
    prompt      => CASE @prompts WHEN 'examples' THEN render('generate_open') ELSE render('write_short_answer', 'items', @items) END,
    returns     => CASE @prompts WHEN 'examples' THEN 'question VARCHAR(160), answer_text VARCHAR(60)'
                                 ELSE 'passage VARCHAR(2000) NULL, question VARCHAR(1000), answer_text VARCHAR(100)' END,
    items       => CASE @prompts WHEN 'examples' THEN NULL ELSE @items END,
    samples     => @samples,
    temperature => 0.7, max_tokens => CASE @prompts WHEN 'examples' THEN 120 ELSE 1000 * @items END, seed => 7);

CREATE VIEW generated_long AS
SELECT * FROM generate(
    (SELECT * FROM assigned_seeds WHERE format IN ('free_form', 'code')),
    model       => @writer,
    system      => CASE WHEN @prompts <> 'examples' THEN render('write_rules')
                        WHEN format = 'code' THEN 'Small Python tasks, each with its solution.'
                        ELSE 'Questions about other topics, each with an answer of one or two sentences.' END,
    prompt      => CASE WHEN @prompts = 'examples' THEN render('generate_open')
                        WHEN format = 'code' THEN render('write_code', 'items', @items)
                        ELSE render('write_free_form', 'items', @items) END,
    returns     => CASE @prompts WHEN 'examples' THEN 'question VARCHAR(160), answer_text VARCHAR(300)'
                                 ELSE 'passage VARCHAR(2000) NULL, question VARCHAR(1000), answer_text VARCHAR(4000)' END,
    items       => CASE @prompts WHEN 'examples' THEN NULL ELSE @items END,
    samples     => @samples,
    temperature => 0.7, max_tokens => CASE @prompts WHEN 'examples' THEN 200 ELSE 2000 * @items END, seed => 7);

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
SELECT * EXCEPT (distractors, instruction, passage),
       -- Some models write an empty passage where they mean none.
       CASE WHEN trim(passage) <> '' THEN passage END AS passage,
       CASE WHEN format IN ('yes_no', 'nli') THEN seed_options
            WHEN distractors IS NOT NULL THEN shuffle_options(array_prepend(answer_text, distractors), item_key)
       END AS options
FROM keyed;
