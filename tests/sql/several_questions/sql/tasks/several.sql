-- task: several
SELECT * EXCEPT (asked), unnest(asked) AS question FROM rows;
