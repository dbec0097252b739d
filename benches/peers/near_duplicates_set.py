"""Makes a set on which near-duplicate detection is measured: short questions and answers, some of them near copies of others.

    python3 near_duplicates_set.py SHARED_DATA OUT [ROWS]

SHARED_DATA as for decontamination_set.py. Writes OUT/items.jsonl (id, text) with ROWS rows (42,000 if not given): real
questions with answers, and for one row in five a copy with a few words changed, so that Jaccard similarities of word
5-grams lie on both sides of 0.8. More rows than there are real ones are recombined from their sentences. Texts are letters,
digits and single spaces, so that every program sees the same words.
"""

import json
import random
import re
import sys
from pathlib import Path

data, out = Path(sys.argv[1]), Path(sys.argv[2])
rows = int(sys.argv[3]) if len(sys.argv) > 3 else 42_000
out.mkdir(parents=True, exist_ok=True)
draw = random.Random(11)


def lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file if line.strip()]


pool = [f'{row["question"]} {row["answer"].split("####")[-1].strip()}' for row in lines(data / "gsm8k/train.jsonl")]
pool += [f'{row.get("question_stem") or row["question"]} {json.dumps(row)[-60:]}' for row in lines(data / "openbookqa/train.jsonl")]
pool += [row["question"] for row in lines(data / "webqs/train.jsonl")]
pool += [row.get("article") or json.dumps(row) for row in lines(data / "mutual/train.jsonl")]
sentences = [s for text in pool for s in re.split(r"(?<=[.?!])\s+", text) if len(s.split()) > 4]
vocabulary = sorted({word for text in pool for word in re.findall(r"[a-z]{3,}", text)})


def fresh(nth):
    if nth < len(pool):
        return pool[nth]
    return " ".join(draw.sample(sentences, 3)) + f" {draw.choice(vocabulary)} {nth}"


def near(text):
    words = text.split()
    for _ in range(draw.choice([0, 1, 1, 1, 2, 2, 3, 4])):
        at = draw.randrange(len(words))
        change = draw.randrange(3)
        if change == 0:
            words[at] = draw.choice(vocabulary)
        elif change == 1 and len(words) > 6:
            del words[at]
        else:
            words.insert(at, draw.choice(vocabulary))
    return " ".join(words)


texts = [fresh(nth) for nth in range(rows - rows // 5)]
texts += [near(draw.choice(texts)) for _ in range(rows // 5)]
draw.shuffle(texts)
texts = [" ".join(re.findall(r"[A-Za-z0-9]+", text)) for text in texts]
with open(out / "items.jsonl", "w") as file:
    for nth, text in enumerate(texts):
        file.write(json.dumps(dict(id=nth, text=text)) + "\n")
print(f"{len(texts)} rows, {sum(map(len, texts)) // len(texts)} characters each")
