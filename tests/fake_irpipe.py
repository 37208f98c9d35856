"""Stands in for the `irpipe` command in tests of the workflow.

It writes the outputs of a job at once. Where `irpipe` locks a GPU, it locks one of four that do
not exist, and adds a line to `gpu_uses`: the GPU, from when, until when.
"""

import os
import sys
import time
from pathlib import Path

from irpipe.runtime.gpu_lock import lock_gpu

REPORT_SUFFIXES = ("csv", "parquet", "md", "tex", "html", "png", "pdf", "svg", "sha256")


def value_of(option: str) -> str:
    """The value that follows an option on the command line."""
    return sys.argv[sys.argv.index(option) + 1]


command = sys.argv[1]
output = Path(value_of("--output"))
paths = [output]
if command == "train":
    paths.append(Path(value_of("--log")))
if command in ("train", "evaluate"):
    assert os.environ["IRPIPE_LOCK_GPU"] == "1"
    gpu, start = lock_gpu(("a", "b", "c", "d")), time.monotonic()
    time.sleep(1)
    with open("gpu_uses", "a", encoding="utf-8") as file:
        print(gpu, start, time.monotonic(), file=file)
if command == "report":
    section = "table" if "--table" in sys.argv else "figure"
    name = value_of(f"--{section}").partition("=")[0]
    paths = [output / f"{section}_{name}.{suffix}" for suffix in REPORT_SUFFIXES]
for path in paths:
    path.write_text("{}", encoding="utf-8")
