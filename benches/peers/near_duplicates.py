"""near_duplicates beside gaoya 0.2.2, on the set of near_duplicates_set.py.

    pip install gaoya==0.2.2
    python3 near_duplicates.py SEEDMILL SET

SEEDMILL is the release binary, SET the folder with items.jsonl. The truth is counted in plain Python: rows in the order of
their ids, a row is a duplicate if its Jaccard similarity of word 5-grams with a row kept before is at least 0.8. For each
program: rows a second (for seedmill of the whole command, and of what its operators used of the processor; for gaoya of
the loop), and precision and recall of the rows
that it calls duplicates, where a row counts as right if it is like a row which that program itself kept.
"""

import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import seedmill_sql

binary, folder = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
items = [json.loads(line) for line in open(folder / "items.jsonl")]
THRESHOLD = 0.8


def shingles(text):
    words = text.lower().split()
    return frozenset(tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4)))


sets = [shingles(item["text"]) for item in items]


def like(row, kept_with):
    """Whether a row is like one of the kept rows, which `kept_with` gives by n-gram."""
    shared = Counter(other for shingle in sets[row] for other in kept_with.get(shingle, ()))
    size = len(sets[row])
    return any(n / (size + len(sets[other]) - n) >= THRESHOLD for other, n in shared.items())


def judged(duplicates):
    """For each row whether it is like a row that was kept before it."""
    kept_with, truth = defaultdict(list), []
    for row in range(len(items)):
        truth.append(like(row, kept_with))
        if row not in duplicates if duplicates is not None else not truth[-1]:
            for shingle in sets[row]:
                kept_with[shingle].append(row)
    return truth


truth = judged(None)
print(f"{len(items)} rows, {sum(truth)} duplicates")


def report(name, duplicates, seconds):
    own = judged(duplicates)
    right = sum(own[row] for row in duplicates)
    precision = right / max(1, len(duplicates))
    recall = sum(row in duplicates for row, true in enumerate(truth) if true) / max(1, sum(truth))
    print(f"{name:12} {len(items) / seconds:10.0f} rows/s  precision {precision:.4f}  recall {recall:.4f}")


sql = f"""SELECT id FROM near_duplicates(items, key => id, text => text, threshold => {THRESHOLD})
          WHERE duplicate IS NOT NULL"""
tables = {"items": folder / "items.jsonl"}
rows, seconds = seedmill_sql.run(binary, tables, sql)
report("seedmill", {int(row["id"]) for row in rows}, seconds)
took = seedmill_sql.operators_seconds(binary, tables, sql, ["ShingleExec", "SortExec", "NearDuplicatesExec"])
print(f"  its operators {len(items) / sum(took.values()):10.0f} rows a second of the processor {took}")

try:
    from gaoya.minhash import MinHashStringIndex
except ImportError:
    sys.exit("gaoya is not installed")

for bands, size in [(20, 5), (42, 3)]:
    index = MinHashStringIndex(32, THRESHOLD, bands, size, None, "word", True, (5, 5), "vec")
    start, found = time.perf_counter(), set()
    for item in items:
        if index.query(item["text"]):
            found.add(item["id"])
        else:
            index.insert_document(item["id"], item["text"])
    report(f"gaoya {bands}x{size}", found, time.perf_counter() - start)
