-- Options stand in one text: `a ) 38 , b ) 27.675 , c ) 30 , d ) data inadequate , e ) none of these`.
-- function: mathqa.utils.doc_to_choice
SELECT
  *,
  array_pop_back(string_to_array(
    regexp_replace(options, '.*?(?:[abcd] \) (.*?)[ ,]*, |e \) (.*?)[ ,]*$)', concat('\1\2', chr(31)), 'g'),
    chr(31)
  )) AS doc_to_choice
FROM rows;

-- dataset: regisss/math_qa
SELECT *, strip(btrim(strip("Rationale"), '"')) AS seed_rationale FROM rows;
