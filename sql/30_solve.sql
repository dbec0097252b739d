-- Solve and vote: a solver that sees neither the claimed answer nor the seed answers @solves times. Options stand in
-- another order each time, and votes are for an option's text.
CREATE VIEW solved AS
SELECT * EXCEPT (answer),
       majority_vote(CASE WHEN format IN ('multiple_choice', 'cloze') THEN answers_as_options(answer, options, item_key)
                          ELSE answer END, format) AS votes
FROM enrich(
    TABLE checked,
    model       => @solver,
    system      => CASE format WHEN 'nli' THEN 'Does the second sentence follow from the first? entailment: it must be true; contradiction: it must be false; neutral: it may be true.'
                               WHEN 'yes_no' THEN 'Answer each question with yes or no.'
                               WHEN 'numeric' THEN 'Solve each problem. Answer with the number alone.'
                               WHEN 'cloze' THEN 'Fill the gap in each sentence with one of its options.'
                               ELSE 'Answer each question in a few words.' END,
    prompt      => CASE format WHEN 'nli' THEN render('solve_nli')
                               WHEN 'yes_no' THEN render('solve_yes_no')
                               WHEN 'numeric' THEN render('solve_numeric')
                               WHEN 'cloze' THEN render('solve_cloze', 'options', shuffle_options(options, item_key, sample))
                               WHEN 'multiple_choice' THEN render('solve_choice', 'options', shuffle_options(options, item_key, sample))
                               ELSE render('solve_open') END,
    -- A vote over long answers says nothing: each is its own.
    when        => cardinality(reasons) = 0 AND format NOT IN ('free_form', 'code'),
    returns     => CASE @prompts WHEN 'examples' THEN 'answer VARCHAR(60)' ELSE 'answer VARCHAR(300)' END,
    samples     => @solves,
    temperature => CASE @prompts WHEN 'examples' THEN 0.6 ELSE 1.0 END, max_tokens => CASE @prompts WHEN 'examples' THEN 40 ELSE 160 END, seed => 11,
    call_as     => 'solve_call');

-- The vote as reasons, and with @vote = 'relabel' as the answer: the winner takes the claimed answer's place. With
-- 'strict' an item stays only where the winner is the claimed answer. A tie is a reject either way.
CREATE VIEW voted AS
WITH counted AS (
    SELECT *,
           coalesce(option_text(options, votes['winner']), votes['winner']) AS winner,
           solve_call IS NOT NULL AS was_solved
    FROM solved
),
judged AS (
    SELECT *,
           array_concat(reasons, reasons(
               -- What no vote can check is kept only on request: @unverified = 'keep'.
               'unverified',         cardinality(reasons) = 0 AND NOT was_solved AND @unverified <> 'keep',
               'no_vote',            was_solved AND winner IS NULL,
               'vote_tie',           was_solved AND votes['tie'],
               'vote_share',         was_solved AND votes['share'] < 0.6,
               'winner_not_offered', was_solved AND options IS NOT NULL AND NOT answer_in_options(winner, options),
               'winner_no_number',   was_solved AND format = 'numeric' AND NOT is_number(winner),
               'vote_disagrees',     was_solved AND @vote = 'strict' AND NOT CASE format WHEN 'numeric' THEN math_equal(winner, answer_text)
                                                                                                    ELSE same_text(winner, answer_text) END
           )) AS verdict
    FROM counted
)
SELECT * EXCEPT (reasons, verdict, winner, was_solved, answer_text),
       answer_text AS claimed_answer,
       CASE WHEN @vote = 'relabel' AND was_solved AND cardinality(verdict) = 0 THEN winner ELSE answer_text END AS answer_text,
       verdict AS reasons
FROM judged;
