-- function: tmmluplus.default.utils.process_docs
SELECT
  *,
  question AS questions,
  make_array("A", "B", "C", "D") AS choices,
  CAST(array_position(['A', 'B', 'C', 'D'], answer) AS BIGINT) - 1 AS goal
FROM rows;

-- A few rows lack a choice.
-- function: mmlusr.answer_only.utils.process_docs
-- function: mmlusr.question_only.utils.process_docs
-- function: mmlusr.question_and_answer.utils.process_docs
SELECT
  * REPLACE (strip(coalesce(answer, '')) AS answer),
  make_array(coalesce(choice1, ''), coalesce(choice2, ''), coalesce(choice3, ''), coalesce(choice4, '')) AS choices
FROM rows;
