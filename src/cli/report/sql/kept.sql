SELECT id, task, license, question, options, answer_text, reasoning, knowledge
FROM run.curated ORDER BY stable_hash(id), id LIMIT 20
