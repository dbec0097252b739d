-- function: japanese_leaderboard.ja_leaderboard_jcommonsenseqa.process_docs
SELECT *, make_array(choice0, choice1, choice2, choice3, choice4) AS choices FROM rows;
