"""Runs one statement with the seedmill binary in a workspace of its own: rows as dicts, and the seconds that the command took."""

import csv
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

csv.field_size_limit(1 << 30)


def run(binary, tables, sql):
    with tempfile.TemporaryDirectory() as workspace:
        lines = [f'[tables.{name}]\nlocation = "{Path(file).absolute()}"\n' for name, file in tables.items()]
        Path(workspace, "seedmill.toml").write_text("".join(lines))
        start = time.perf_counter()
        command = [Path(binary).absolute(), "sql", "--format", "csv", "-c", sql]
        done = subprocess.run(command, cwd=workspace, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    return list(csv.DictReader(io.StringIO(done.stdout))), seconds
