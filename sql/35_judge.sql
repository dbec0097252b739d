-- Judge, where @judge names a model: it reads an item with its answer and says whether it holds, by a rubric of three. Off
-- by default (@judge = ''), and then no call is made. What has reasons already is not paid for. The judge writes down
-- what it found before it answers, and does not hear who wrote the item (Zheng et al. 2023, "Judging LLM-as-a-Judge").
CREATE VIEW judged AS
WITH asked AS (
    SELECT *
    FROM enrich(
        TABLE voted,
        model       => CASE @judge WHEN '' THEN @solver ELSE @judge END,
        system      => 'You check exercises for a training set. Be strict: an exercise that is doubtful is not valid.',
        prompt      => render('judge'),
        when        => @judge <> '' AND cardinality(reasons) = 0,
        returns     => 'findings VARCHAR(600), is_valid BOOLEAN, has_one_answer BOOLEAN, is_self_contained BOOLEAN',
        temperature => 0.0, max_tokens => 300, seed => 12,
        call_as     => 'judge_call')
)
SELECT * EXCEPT (reasons, findings, is_valid, has_one_answer, is_self_contained),
       array_concat(reasons, reasons(
           'judge_failed',         judge_call['error'] IS NOT NULL,
           'judge_not_valid',      NOT is_valid,
           'judge_not_one_answer', NOT has_one_answer,
           'judge_not_standing_alone', NOT is_self_contained
       )) AS reasons
FROM asked;
