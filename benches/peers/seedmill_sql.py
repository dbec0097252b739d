"""Runs statements with the seedmill binary in a workspace of its own."""

import csv
import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

csv.field_size_limit(1 << 30)


def output(binary, tables, sql):
    """What a statement prints as CSV, and the seconds that the command took."""
    with tempfile.TemporaryDirectory() as workspace:
        lines = [f'[tables.{name}]\nlocation = "{Path(file).absolute()}"\n' for name, file in tables.items()]
        Path(workspace, "seedmill.toml").write_text("".join(lines))
        start = time.perf_counter()
        command = [Path(binary).absolute(), "sql", "--format", "csv", "-c", sql]
        done = subprocess.run(command, cwd=workspace, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout, seconds


def run(binary, tables, sql):
    """A query's rows as dicts, and the seconds that the command took."""
    text, seconds = output(binary, tables, sql)
    return list(csv.DictReader(io.StringIO(text))), seconds


def operators_seconds(binary, tables, sql, names):
    """The seconds of processor that the plan's nodes of these names took in all partitions, by EXPLAIN ANALYZE."""
    text, _ = output(binary, tables, f"EXPLAIN ANALYZE {sql}")
    units = {"s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    took = {}
    for name, metrics in re.findall(r"(\w+Exec)[^\n]*?metrics=\[([^\]]*)\]", text):
        found = re.search(r"elapsed_compute=([0-9.]+)(ns|µs|ms|s)\b", metrics)
        if found and name in names:
            took[name] = took.get(name, 0) + float(found[1]) * units[found[2]]
    missing = [name for name in names if name not in took]
    if missing:
        sys.exit(f"the plan has no {missing[0]}:\n{text}")
    return took
