"""Rows a second of lm-evaluation-harness's own Python over the rows that `cargo bench --bench normalize` made, and of
plain Jinja2 over the same templates, compiled once.

Run by that bench in an environment of its own:

    python3 -m venv ENV && ENV/bin/pip install lm_eval==0.4.13
    ENV/bin/python harness.py FOLDER ROWS

FOLDER holds <task>.jsonl; ROWS is how many rows of each are measured. Prints one line of JSON a task: task, rows,
harness and jinja2 (seconds
of the processor).
"""

import ast
import json
import logging
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
logging.disable(logging.WARNING)

import lm_eval.tasks
from jinja2 import StrictUndefined
from jinja2 import Environment
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

CONFIGS = {
    "gsm8k": "gsm8k/gsm8k.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "pubmedqa": "pubmedqa/pubmedqa.yaml",
    "mutual": "mutual/mutual.yaml",
    "ja_leaderboard_jcommonsenseqa": "japanese_leaderboard/ja_leaderboard_jcommonsenseqa.yaml",
}


def task_over(file, config):
    """The harness's task over a file of rows instead of its dataset."""
    config = dict(config)
    for key in ("fewshot_config", "fewshot_split", "test_split", "metadata", "num_fewshot"):
        config.pop(key, None)
    config.update(
        dataset_path="json",
        dataset_name=None,
        dataset_kwargs={"data_files": {"train": str(file)}},
        training_split="train",
        validation_split="train",
    )
    return ConfigurableTask(config=config)


def harness_seconds(task):
    """Its rows made prompts, targets and choices, as an evaluation makes them; loading the file is not counted."""
    start = time.process_time()
    for doc in task.training_docs():
        task.doc_to_text(doc)
        task.doc_to_target(doc)
        if task.config.doc_to_choice is not None:
            task.doc_to_choice(doc)
    return time.process_time() - start


def jinja2_seconds(task):
    """The same with templates that are compiled once, which the harness does not do."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)

    def renderer(value, reads_list):
        if callable(value):
            return value
        if isinstance(value, str) and value in task.features:
            return lambda doc: doc[value]
        if isinstance(value, str):
            template = environment.from_string(value)
            if reads_list:
                return lambda doc: ast.literal_eval(template.render(**doc))
            return lambda doc: template.render(**doc)
        return lambda doc: value

    text = renderer(task.config.doc_to_text, False)
    target = renderer(task.config.doc_to_target, False)
    choice = renderer(task.config.doc_to_choice, True)
    start = time.process_time()
    for doc in task.training_docs():
        text(doc)
        target(doc)
        choice(doc)
    return time.process_time() - start


def main():
    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    root = Path(lm_eval.tasks.__file__).parent
    for name, config in CONFIGS.items():
        file = folder / f"{name}.jsonl"
        if not file.exists():
            continue
        part = folder / f"{name}.part.jsonl"
        with open(file, encoding="utf-8") as all_rows, open(part, "w", encoding="utf-8") as out:
            for _, line in zip(range(rows), all_rows):
                out.write(line)
        task = task_over(part, load_yaml(root / config))
        measured = {"task": name, "rows": len(task.dataset["train"])}
        measured["harness"] = harness_seconds(task)
        measured["jinja2"] = jinja2_seconds(task)
        print(json.dumps(measured), flush=True)


main()
