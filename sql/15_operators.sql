-- Operators: in which way a new item differs from its seed. A row is one way; add yours. `weight` says how often it is
-- drawn beside the others, `formats` where it makes sense, `more_options` how many more options an item has than its seed.
-- Sources: harder from Evol-Instruct (Xu et al. 2023), backward from MetaMath (Yu et al. 2023).
CREATE VIEW operators AS
SELECT * FROM (VALUES
    ('similar', 4, ['multiple_choice', 'cloze', 'yes_no', 'nli', 'numeric', 'short_answer', 'free_form', 'code'], 0,
     'Stay close to it in kind and level, and choose another topic of the same field.'),
    ('harder', 2, ['multiple_choice', 'cloze', 'yes_no', 'nli', 'numeric', 'short_answer', 'free_form', 'code'], 0,
     'Make it harder: it takes one more step of reasoning, or one more fact, than the one to start from.'),
    ('context_shift', 2, ['multiple_choice', 'cloze', 'yes_no', 'nli', 'numeric', 'short_answer', 'free_form', 'code'], 0,
     'Test the same knowledge in quite another setting: other people, place, time and purpose.'),
    ('backward', 1, ['multiple_choice', 'numeric', 'short_answer'], 0,
     'Turn it around: what is asked for there is given here, and something that is given there is asked for here.'),
    ('more_distractors', 1, ['multiple_choice'], 2,
     'Give more wrong answers than it has, each for another mistake that one could make.')
) AS t(operator, weight, formats, more_options, instruction);

-- The chosen seeds, each with one operator, drawn by a hash of its id: the same for any order of rows. Where prompts are
-- nothing but examples (@prompts = 'examples') there is no place for an instruction, and each item is a similar one.
CREATE VIEW assigned_seeds AS
WITH copies AS (
    SELECT operator, of_format, unnest(range(0, weight)) AS copy
    FROM (SELECT operator, weight, unnest(formats) AS of_format FROM operators)
),
choices AS (
    SELECT of_format, array_agg(operator ORDER BY operator, copy) AS choices FROM copies GROUP BY of_format
),
drawn AS (
    SELECT chosen_seeds.*,
           CASE WHEN @prompts <> 'examples'
                THEN choices[1 + (stable_hash('operator', seed_id, @draw) & 1048575) % CAST(cardinality(choices) AS BIGINT)]
           END AS drawn_operator
    FROM chosen_seeds LEFT JOIN choices ON of_format = format
)
SELECT drawn.* EXCEPT (drawn_operator),
       coalesce(drawn_operator, 'similar') AS operator,
       coalesce(instruction, '') AS instruction,
       CAST(cardinality(seed_options) AS BIGINT) + coalesce(more_options, 0) AS option_count
FROM drawn LEFT JOIN operators ON operators.operator = drawn_operator;
