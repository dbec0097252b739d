"""What lm-evaluation-harness makes of rows as their datasets have them, `process_docs` and all.

Run by the test peers_rows_as_their_datasets_have_them… in an environment with lm_eval==0.4.13:

    python raw_rows.py ROWS.jsonl FOLDER

A line of ROWS.jsonl has tasks that read one dataset, and rows of its train split. They are written to
FOLDER/<dataset_path>/<dataset_name>/train.parquet, and given to the harness in place of the Hub's. Prints a line of JSON a
row that the harness asks about: task, prompt, target (the first of several), the number of options and the place of the right one,
the last two null without options. The last line has the functions that were run.
"""

import importlib.metadata
import json
import logging
import os
import re
import sys
import types
from collections import defaultdict
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
logging.disable(logging.WARNING)

import datasets

rows_of = {}


def load_dataset(path, name=None, split=None, **_):
    rows = rows_of[path, name]
    return rows if split else datasets.DatasetDict(defaultdict(lambda: rows, train=rows))


# Before the harness's modules take its name. What math_verify and others are wanted for is scoring.
datasets.load_dataset = load_dataset
for module in (
    "antlr4",
    "math_verify",
    "sympy",
    "sympy.parsing",
    "sympy.parsing.latex",
    "tinyBenchmarks",
    "transformers.data.metrics",
    "transformers.data.metrics.squad_metrics",
):
    stub = types.ModuleType(module)
    stub.__path__ = []
    stub.parse = stub.verify = stub.parse_latex = stub.LatexExtractionConfig = None
    sys.modules[module] = stub
    parent, _, name = module.rpartition(".")
    if parent:
        setattr(importlib.import_module(parent), name, stub)
version = importlib.metadata.version
importlib.metadata.version = lambda package: "4.11" if package.startswith("antlr4") else version(package)

import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml


def configs(names):
    """Each task with its config, which is the file that names it, and its `process_docs` as family.module.name."""
    root = Path(lm_eval.tasks.__file__).parent
    for file in sorted(root.rglob("*.yaml")):
        for name in re.findall(r"^[\"']?task[\"']?:\s*[\"']?([^\s\"']+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            if name in names:
                function = load_yaml(file, resolve_func=False).get("process_docs")
                function = function and ".".join(Path(function).relative_to(root).parts)
                yield name, (load_yaml(file), function)


def main():
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    lines = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    found = dict(configs({name for line in lines for name in line["tasks"]}))
    for line in lines:
        rows = datasets.Dataset.from_list(line["rows"])
        for name in line["tasks"]:
            config = dict(found[name][0])
            kwargs = config.get("dataset_kwargs") or {}
            path = config.get("dataset_path") or kwargs["dataset_repo"]
            place = path, config.get("dataset_name") or kwargs.get("dataset_name")
            rows_of[place] = rows
            rows.to_parquet(folder.joinpath(*filter(None, place), "train.parquet"))
            for key in ("fewshot_config", "fewshot_split", "num_fewshot", "test_split"):
                config.pop(key, None)
            task = ConfigurableTask(config=config | {"training_split": "train", "validation_split": "train"})
            description = config.get("description") or ""
            for doc in task.training_docs():
                target, options = task.doc_to_target(doc), None
                if task.config.doc_to_choice is not None:
                    options = task.doc_to_choice(doc)
                if isinstance(target, list):
                    target = target[0]
                if options and isinstance(target, str) and target in options:
                    target = options.index(target)
                place = int(target) if options and not isinstance(target, str) else None
                print(
                    json.dumps(
                        {
                            "task": name,
                            "prompt": description + task.doc_to_text(doc),
                            "target": str(target if place is None else options[place]),
                            "options": options and len(options),
                            "place": place,
                        },
                        ensure_ascii=False,
                    )
                )
    print(json.dumps({"functions": sorted({function for _, function in found.values() if function})}))


main()
