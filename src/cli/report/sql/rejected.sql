SELECT id, task, license, question, options, answer_text, reasoning, knowledge, reasons
FROM run.rejected WHERE question <> '' ORDER BY stable_hash(id), id LIMIT 20
