"""Reads the folder of a published run with what people use, and compares what they see. Prints one line a reader.

    python3 readers.py FOLDER ROWS_KEPT ROWS_REJECTED
"""

import glob
import sys

import datafusion
import datasets
import duckdb
import pandas
import polars
import pyarrow.parquet
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from trl.data_utils import apply_chat_template, is_conversational

folder, kept, rejected = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
files = sorted(glob.glob(f"{folder}/data/*.parquet"))
FIRST = 5
COLUMNS = ["id", "question", "options", "answer_text", "messages", "knowledge", "seed_ids", "votes"]


def plain(value):
    """Lists and structs of any reader as lists and dicts."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def rows(records):
    records = [{column: plain(record[column]) for column in COLUMNS} for record in records]
    return sorted(records, key=lambda record: record["id"])[:FIRST]


table = pyarrow.parquet.read_table(files)
expected = rows(table.to_pylist())
assert table.num_rows == kept and len(expected) == min(FIRST, kept), table.num_rows
assert len({row["id"] for row in expected}) == len(expected)


def same(name, count, records):
    assert count == kept, f"{name}: {count} rows, {kept} are published"
    found = rows(records)
    assert found == expected, f"{name}: {found}\nis not\n{expected}"
    print(f"{name}: {count} rows")


same("pyarrow", table.num_rows, table.to_pylist())
frame = pandas.read_parquet(f"{folder}/data")
same("pandas", len(frame), [{k: None if v is None else v for k, v in r.items()} for r in frame.to_dict("records")])
frame = polars.read_parquet(f"{folder}/data/*.parquet")
same("polars", frame.height, frame.to_dicts())
query = duckdb.sql(f"SELECT * FROM '{folder}/data/*.parquet'")
names = query.columns
found = [dict(zip(names, row)) for row in query.fetchall()]
same("duckdb", len(found), found)
context = datafusion.SessionContext()
context.register_parquet("curated", f"{folder}/data")
found = context.sql("SELECT * FROM curated").to_pylist()
same("datafusion", len(found), found)

# The card names the configurations; curated is the one that is loaded where none is named.
curated = datasets.load_dataset(folder, split="train")
same("datasets", len(curated), list(curated))
left = datasets.load_dataset(folder, "rejected", split="train")
assert len(left) == rejected, f"datasets: {len(left)} rejected rows, {rejected} are published"
assert left.features["reasons"].feature.dtype == "string", left.features

# TRL takes `messages` as a conversation and renders it by a chat template, as its trainers do first.
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"?": 0}, unk_token="?")))
tokenizer.chat_template = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
for row in curated:
    roles = [turn["role"] for turn in row["messages"]]
    assert set(roles) <= {"system", "user", "assistant"} and roles[-1] == "assistant", roles
    assert all(isinstance(turn["content"], str) and turn["content"] for turn in row["messages"])
    conversation = {"messages": row["messages"]}
    assert is_conversational(conversation), row["messages"]
    text = apply_chat_template(conversation, tokenizer)["text"]
    assert text.endswith(f"<assistant>{row['messages'][-1]['content']}"), text
print(f"trl: {len(curated)} rows")

# Types are those that every reader has, and files say enough for a filter to skip row groups.
types = {field.name: str(field.type) for field in table.schema}
assert not any("view" in kind or "dictionary" in kind for kind in types.values()), types
assert types["question"] == "string" and types["options"].startswith("list<"), types
for file in files:
    metadata = pyarrow.parquet.ParquetFile(file).metadata
    for group in range(metadata.num_row_groups):
        columns = [metadata.row_group(group).column(i) for i in range(metadata.num_columns)]
        family = next(column for column in columns if column.path_in_schema == "family")
        assert family.is_stats_set and family.statistics.has_min_max, file
        assert all(column.compression == "ZSTD" for column in columns), file
print(f"types and statistics: {len(files)} files")
