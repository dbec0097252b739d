"""rouge_l beside the package rouge-score: rows a second, and the greatest difference of values.

    pip install rouge-score
    python3 rouge_l.py SEEDMILL SHARED_DATA [PAIRS]

Pairs of GSM8K training questions, a million if not given; rouge-score does the first 5,000 of them.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import seedmill_sql

binary, data = Path(sys.argv[1]), Path(sys.argv[2])
pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000
questions = [json.loads(line)["question"] for line in open(data / "gsm8k/train.jsonl")]
# rouge-score knows ASCII letters only.
questions = [question.encode("ascii", "ignore").decode() for question in questions]

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "questions.jsonl")
    file.write_text("".join(json.dumps(dict(nth=n, q=q)) + "\n" for n, q in enumerate(questions)))
    copies = -(-pairs // len(questions))
    source = f"""(SELECT a.nth, b.value AS step, a.q AS a, coalesce(lead(a.q) OVER (PARTITION BY b.value ORDER BY stable_hash(a.nth, b.value)), a.q) AS b
                  FROM questions a CROSS JOIN generate_series(1, {copies}) AS b(value))"""
    _, without = seedmill_sql.run(binary, {"questions": file}, f"SELECT max(length(a) + length(b)) AS x FROM {source}")
    _, with_it = seedmill_sql.run(binary, {"questions": file}, f"SELECT max(rouge_l(a, b)) AS x FROM {source}")
    few = f"SELECT a, b, rouge_l(a, b) AS score FROM {source} WHERE step = 1 ORDER BY nth LIMIT 5000"
    rows, _ = seedmill_sql.run(binary, {"questions": file}, few)

ours = copies * len(questions) / (with_it - without)
print(f"seedmill: {ours:.0f} pairs/s of {copies * len(questions)} (with {with_it:.2f} s, without {without:.2f} s)")

from rouge_score.rouge_scorer import RougeScorer  # noqa: E402

scorer = RougeScorer(["rougeL"])
start = time.perf_counter()
theirs = [scorer.score(row["a"], row["b"])["rougeL"].fmeasure for row in rows]
seconds = time.perf_counter() - start
print(f"rouge-score: {len(rows) / seconds:.0f} pairs/s of {len(rows)}; {ours * seconds / len(rows):.0f} times")
print(f"greatest difference: {max(abs(float(row['score']) - t) for row, t in zip(rows, theirs)):.1e}")
