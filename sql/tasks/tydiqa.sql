-- One language of all.
-- function: tydiqa.utils.process_docs_ar
SELECT * REPLACE (answers['text'] AS answers) FROM rows WHERE id LIKE 'arabic-%';

-- function: tydiqa.utils.process_docs_bn
SELECT * REPLACE (answers['text'] AS answers) FROM rows WHERE id LIKE 'bengali-%';

-- function: tydiqa.utils.process_docs_en
SELECT * REPLACE (answers['text'] AS answers) FROM rows WHERE id LIKE 'english-%';

-- function: tydiqa.utils.process_docs_fi
SELECT * REPLACE (answers['text'] AS answers) FROM rows WHERE id LIKE 'finnish-%';

-- function: tydiqa.utils.process_docs_id
SELECT * REPLACE (answers['text'] AS answers) FROM rows WHERE id LIKE 'indonesian-%';

-- function: tydiqa.utils.process_docs_ko
SELECT * REPLACE (answers['text'] AS answers) FROM rows WHERE id LIKE 'korean-%';

-- function: tydiqa.utils.process_docs_ru
SELECT * REPLACE (answers['text'] AS answers) FROM rows WHERE id LIKE 'russian-%';

-- function: tydiqa.utils.process_docs_sw
SELECT * REPLACE (answers['text'] AS answers) FROM rows WHERE id LIKE 'swahili-%';

-- function: tydiqa.utils.process_docs_te
SELECT * REPLACE (answers['text'] AS answers) FROM rows WHERE id LIKE 'telugu-%';
