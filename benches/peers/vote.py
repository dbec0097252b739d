"""How true the items are that a vote keeps: a solver that is right in 0.6 of its answers, and else wrong in one of three
ways, answers each item five times; kept is what has a share of at least 0.6. Beside the expectation, counted exactly.

    python3 vote.py SEEDMILL [ITEMS]
"""

import itertools
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import seedmill_sql

binary, items = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
ACCURACY, SOLVES, SHARE = 0.6, 5, 0.6
answers = {"right": ACCURACY, **{f"wrong {n}": (1 - ACCURACY) / 3 for n in range(3)}}

draw = random.Random(3)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "solved.jsonl")
    with open(file, "w") as out:
        for nth in range(items):
            drawn = draw.choices(list(answers), list(answers.values()), k=SOLVES)
            # In other forms each time: the vote is for the answer, not for its letters.
            forms = [draw.choice([a, a.upper(), f" {a}.", f"The {a}"]) for a in drawn]
            out.write(json.dumps(dict(id=nth, answers=forms)) + "\n")
    sql = f"""SELECT count(*) AS kept, count(*) FILTER (WHERE same_text(vote['winner'], 'right')) AS true_ones
              FROM (SELECT majority_vote(answers) AS vote FROM solved)
              WHERE vote['share'] >= {SHARE} AND NOT vote['tie']"""
    (row,), _ = seedmill_sql.run(binary, {"solved": file}, sql)

kept = true = 0.0
for drawn in itertools.product(answers, repeat=SOLVES):
    chance = 1.0
    for answer in drawn:
        chance *= answers[answer]
    winner, votes = Counter(drawn).most_common(1)[0]
    if votes >= SHARE * SOLVES:
        kept += chance
        true += chance * (winner == "right")
print(f"kept {int(row['kept']) / items:.4f}, expected {kept:.4f}")
print(f"true of those {int(row['true_ones']) / int(row['kept']):.4f}, expected {true / kept:.4f}; before the vote {ACCURACY}")
