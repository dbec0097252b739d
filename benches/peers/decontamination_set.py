"""Makes a set on which decontamination is measured: held-out questions (GSM8K test, MMLU validation and dev), and documents
of which some repeat one of them in a known way.

    python3 decontamination_set.py SHARED_DATA OUT

SHARED_DATA is a folder with gsm8k/, mmlu/, openbookqa/, webqs/ and mutual/ as their repositories have them. Writes
OUT/heldout.jsonl (task, source_row, question, answer_text), OUT/documents.jsonl (name, kind, words, task, source_row, text,
answer), and OUT/pieces.jsonl (kind, text): the texts of clean documents one after the other, in pieces of 500 characters,
and those of all documents. Everything is drawn from one seed.
"""

import gzip
import json
import random
import re
import sys
from pathlib import Path

data, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
draw = random.Random(7)


def lines(path):
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path)
    with opened as file:
        return [json.loads(line) for line in file if line.strip()]


heldout, seen = [], set()
for nth, row in enumerate(lines(data / "gsm8k/test.jsonl")):
    heldout.append(("gsm8k", nth, row["question"], row["answer"].split("####")[-1].strip()))
for file in ("mmlu_validation-1", "mmlu_dev-1"):
    for row in lines(data / f"mmlu/{file}.jsonl.gz"):
        if row["is_correct"] and row["question"] not in seen:
            seen.add(row["question"])
            heldout.append(("mmlu", row["doc_id"], row["question"], row["answer"]))

# Documents that are no copies: other splits of GSM8K (the same form) and other datasets.
clean = [row["question"] for row in lines(data / "gsm8k/train.jsonl")]
clean += [row["question"] + " " + row["answer"] for row in lines(data / "gsm8k/train.jsonl")]
clean += [row.get("question_stem") or row["question"] for row in lines(data / "openbookqa/train.jsonl")]
clean += [row["question"] for row in lines(data / "webqs/train.jsonl")]
dialogues = [row.get("article") or row.get("text") or json.dumps(row) for row in lines(data / "mutual/train.jsonl")]
clean += dialogues
vocabulary = sorted({word for text in clean[:4000] for word in re.findall(r"[a-z]{3,}", text)})


def edited(text, share):
    """Each word with this probability replaced, left out or followed by another one."""
    words = []
    for word in text.split():
        if draw.random() >= share:
            words.append(word)
            continue
        change = draw.randrange(3)
        if change != 1:
            words += [draw.choice(vocabulary)] if change == 0 else [word, draw.choice(vocabulary)]
    return " ".join(words)


def embedded(text):
    before, after = draw.choice(dialogues)[:300], draw.choice(dialogues)[:300]
    return f"{before} {text} {after}"


def numbers(text):
    return re.sub(r"\d+", lambda m: str(draw.randrange(2, 10 ** len(m.group()) + 7)), text)


def form(text):
    text = text.upper() if draw.random() < 0.5 else text.lower()
    return re.sub(r"[.,;:!?]", "", text).replace(" ", "  ")


def cut(text):
    words = text.split()
    return " ".join(words[: -(-len(words) * 6 // 10)])


documents = []


def add(kind, text, answer=None, task=None, row=None, words=0):
    documents.append(dict(name=f"d{len(documents)}", kind=kind, words=words, task=task,
                          source_row=None if row is None else str(row), text=text, answer=answer))


for task, row, question, answer in heldout:
    words = len(question.split())
    if words < 8:
        continue
    for kind, text, given in [
        ("verbatim", question + " " + answer, answer),
        ("question_only", question, None),
        ("form", form(question), None),
        ("embedded", embedded(question), None),
        ("edited_10", edited(question, 0.1), None),
        ("edited_20", edited(question, 0.2), None),
        ("edited_10_answer", edited(question, 0.1), answer),
        ("edited_20_answer", edited(question, 0.2), answer),
        ("numbers", numbers(question), None),
        ("cut_60", cut(question), None),
    ]:
        if kind != "numbers" or text != question:
            add(kind, text, given, task, row, words)
for text in clean:
    add("clean", text)
draw.shuffle(documents)

with open(out / "heldout.jsonl", "w") as file:
    for task, row, question, answer in heldout:
        file.write(json.dumps(dict(task=task, source_row=str(row), question=question, answer_text=answer)) + "\n")
with open(out / "documents.jsonl", "w") as file:
    for document in documents:
        file.write(json.dumps(document) + "\n")
with open(out / "pieces.jsonl", "w") as file:
    for kind, texts in [("clean", clean), ("all", [document["text"] for document in documents])]:
        joined = "\n".join(texts)
        for start in range(0, len(joined) - 499, 500):
            file.write(json.dumps(dict(kind=kind, text=joined[start : start + 500])) + "\n")
print(f"{len(heldout)} held-out questions, {len(documents)} documents, {len(clean)} of them clean")
