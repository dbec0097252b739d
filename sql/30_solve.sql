-- Solve and vote: a solver that sees neither the claimed answer nor the seed's answers @solves times; options stand in
-- another order each time, and votes are for an option's text.
CREATE VIEW solved AS
SELECT * EXCEPT (answer), majority_vote(answer) AS votes
FROM enrich(
    TABLE checked,
    model       => @solver,
    system      => 'Answer the last question.',
    prompt      => CASE WHEN options IS NULL THEN render('solve_open')
                        ELSE render('solve_choice', 'options', shuffle_options(options, item_key, sample)) END,
    when        => cardinality(reasons) = 0,
    returns     => 'answer VARCHAR(120)',
    samples     => @solves,
    temperature => 0.3, max_tokens => 60, seed => 11,
    call_as     => 'solve_call');

-- The vote as reasons, and with @vote = 'relabel' as the answer: the winner takes the claimed answer's place. With
-- 'strict' an item stays only where the winner is the claimed answer. A tie is a reject either way.
CREATE VIEW voted AS
WITH counted AS (
    SELECT *,
           coalesce(option_text(options, votes['winner']), votes['winner']) AS winner,
           cardinality(reasons) = 0 AS was_solved
    FROM solved
),
judged AS (
    SELECT *,
           array_concat(reasons, reasons(
               'no_vote',            was_solved AND winner IS NULL,
               'vote_tie',           was_solved AND votes['tie'],
               'vote_share',         was_solved AND votes['share'] < 0.6,
               'winner_not_offered', was_solved AND options IS NOT NULL AND NOT answer_in_options(winner, options),
               'winner_not_a_number', was_solved AND format = 'numeric' AND NOT is_number(winner),
               'vote_disagrees',     was_solved AND @vote = 'strict' AND NOT same_text(winner, answer_text)
           )) AS verdict
    FROM counted
)
SELECT * EXCEPT (reasons, verdict, winner, was_solved, answer_text),
       answer_text AS claimed_answer,
       -- Long answers are each their own: a vote over them says whether they agree, not what to write.
       CASE WHEN @vote = 'relabel' AND cardinality(verdict) = 0 AND format NOT IN ('free_form', 'code') THEN winner
            ELSE answer_text END AS answer_text,
       verdict AS reasons
FROM judged;
