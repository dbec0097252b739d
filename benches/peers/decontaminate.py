"""decontaminate on the set of decontamination_set.py, beside two published rules written in plain Python.

    python3 decontaminate.py SEEDMILL SET

SEEDMILL is the release binary, SET the folder with heldout.jsonl, documents.jsonl and pieces.jsonl. For each kind of document and each
length of question: the share that is flagged with the right question. For clean documents: the share that is flagged at
all. For seedmill also the pieces of 500 characters that its operator did in a second of the processor, by EXPLAIN ANALYZE,
the best of three. The rules:
Janitor's (any 13-gram of words in common) and Tülu 3's (8-grams cover more than half of the question).
"""

import json
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

import seedmill_sql

binary, folder = Path(sys.argv[1]), Path(sys.argv[2])
heldout = [json.loads(line) for line in open(folder / "heldout.jsonl")]
documents = [json.loads(line) for line in open(folder / "documents.jsonl")]


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def grams(tokens, n):
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def janitor():
    known = defaultdict(set)
    for nth, row in enumerate(heldout):
        for gram in grams(words(row["question"]), 13):
            known[gram].add(nth)
    return [set().union(*(known.get(g, ()) for g in grams(words(d["text"]), 13))) for d in documents]


def tulu():
    known, lengths = defaultdict(list), []
    for nth, row in enumerate(heldout):
        tokens = words(row["question"])
        lengths.append(len(tokens))
        for i in range(len(tokens) - 7):
            known[tuple(tokens[i : i + 8])].append((nth, i))
    found = []
    for document in documents:
        covered = defaultdict(set)
        for gram in grams(words(document["text"]), 8):
            for nth, i in known.get(gram, ()):
                covered[nth].update(range(i, i + 8))
        found.append({nth for nth, places in covered.items() if len(places) > 0.5 * lengths[nth]})
    return found


def seedmill():
    sql = """SELECT name, contamination['source_table'] AS source_table, contamination['source_row'] AS source_row
             FROM decontaminate(documents, against => exam, text => text, answer => answer)
             WHERE contamination IS NOT NULL"""
    tables = {"documents": folder / "documents.jsonl", "exam": folder / "heldout.jsonl"}
    rows, _ = seedmill_sql.run(binary, tables, sql)
    place = {(row["task"], row["source_row"]): nth for nth, row in enumerate(heldout)}
    found = {row["name"]: {place[row["source_table"], row["source_row"]]} for row in rows}
    return [found.get(document["name"], set()) for document in documents]


def operator():
    pieces = {"pieces": folder / "pieces.jsonl", "exam": folder / "heldout.jsonl"}
    kinds = [json.loads(line)["kind"] for line in open(folder / "pieces.jsonl")]
    for kind in ("clean", "all"):
        some = f"(SELECT * FROM pieces WHERE kind = '{kind}')"
        sql = f"SELECT contamination FROM decontaminate({some}, against => exam, text => text)"
        times = [seedmill_sql.operators_seconds(binary, pieces, sql, ["DecontaminateExec"]) for _ in range(3)]
        took = min(time["DecontaminateExec"] for time in times)
        count = kinds.count(kind)
        print(f"its operator, {kind} documents: {count / took:.0f} pieces of 500 characters a second of the processor")


def bucket(document):
    count = document["words"]
    return "" if not count else "8-19 words" if count < 20 else "20 and more"


operator()
table, programs = defaultdict(dict), {"seedmill": seedmill, "tulu": tulu, "janitor": janitor}
for name, program in programs.items():
    start = time.perf_counter()
    found = program()
    seconds = time.perf_counter() - start
    counts = defaultdict(lambda: [0, 0])
    for document, questions in zip(documents, found):
        if document["kind"] == "clean":
            right = bool(questions)
        else:
            # The same question may stand in the set twice.
            texts = {heldout[nth]["question"] for nth in questions}
            right = any(heldout[nth]["source_row"] == document["source_row"] for nth in questions)
            right = right or bool(texts) and any(words(t) == words(document["text"]) for t in texts)
        for key in {(document["kind"], bucket(document)), (document["kind"], "all")}:
            counts[key][0] += right
            counts[key][1] += 1
    for key, (right, count) in counts.items():
        table[key][name] = right / count
    print(f"{name}: {len(documents) / seconds:.0f} documents/s, start and reading included")

print(f"{'kind':18} {'question':12} " + " ".join(f"{name:>9}" for name in programs))
for key in sorted(table):
    if key[1]:
        print(f"{key[0]:18} {key[1]:12} " + " ".join(f"{table[key].get(name, 0):9.4f}" for name in programs))
