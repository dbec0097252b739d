-- A part of speech for each word.
-- function: afrobench.masakhapos.prompt_1.utils.doc_to_target
-- function: afrobench.masakhapos.prompt_2.utils.doc_to_target
-- function: afrobench.masakhapos.prompt_3.utils.doc_to_target
-- function: afrobench.masakhapos.prompt_4.utils.doc_to_target
-- function: afrobench.masakhapos.prompt_5.utils.doc_to_target
SELECT
  *,
  python_list(try_jinja('[{% for tag in tags %}"{{ ["NOUN", "PUNCT", "ADP", "NUM", "SYM", "SCONJ", "ADJ", "PART", "DET", "CCONJ", "PROPN",
    "PRON", "X", "_", "ADV", "INTJ", "VERB", "AUX"][tag] }}", {% endfor %}]', named_struct('tags', upos))) AS doc_to_target,
  try_jinja('[{% for tag in tags %}{{ (words[loop.index0], ["NOUN", "PUNCT", "ADP", "NUM", "SYM", "SCONJ", "ADJ", "PART", "DET", "CCONJ",
    "PROPN", "PRON", "X", "_", "ADV", "INTJ", "VERB", "AUX"][tag]) }}{% if not loop.last %}, {% endif %}{% endfor %}]',
    named_struct('tags', upos, 'words', tokens)) AS seed_answer
FROM rows;
