-- Right and wrong answers are only scored with; prompt and target are question and best answer.
-- function: truthfulqa-multi.utils.process_docs_gen
SELECT * REPLACE (strip(question) AS question), strip(question) AS seed_question, best_answer AS seed_answer FROM rows;
