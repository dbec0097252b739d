-- function: hendrycks_math.utils.process_docs
SELECT *, last_boxed(solution) AS answer, solution AS seed_rationale FROM rows;

-- Here a solution without an answer is marked so, and kept.
-- function: leaderboard.math.utils.process_docs
SELECT
  *,
  coalesce(last_boxed(solution), '[invalidanswer]') AS answer,
  last_boxed(solution) AS seed_answer,
  solution AS seed_rationale
FROM rows
WHERE level = 'Level 5';

-- The harness compares normalized answers; the answer that is read is the one in the solution.
-- function: minerva_math.utils.process_docs
SELECT
  *,
  normalize_math_answer(last_boxed(solution)) AS answer,
  last_boxed(solution) AS seed_answer,
  solution AS seed_rationale
FROM rows;

-- function: leaderboard.math.utils.doc_to_text
-- function: minerva_math.utils.doc_to_text
SELECT
  *,
  'Problem:' || chr(10) || problem || chr(10) || chr(10) || 'Solution:' AS doc_to_text,
  problem AS seed_question
FROM rows;
