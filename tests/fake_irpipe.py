"""Stands in for the `irpipe` command in tests of the workflow.

It writes the outputs of a job at once. Where `irpipe` locks a GPU, it locks one of four that do
not exist, and adds a line to `gpu_uses`: the GPU, from when, until when. If FAKE_GPUS_AT_ONCE is
a number, it keeps the GPU until so many are in use, however slowly the jobs start.
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


def use_a_gpu() -> None:
    gpu, start = lock_gpu(("a", "b", "c", "d")), time.monotonic()
    # The first job on a GPU makes the file, and those after it find it.
    Path(f"gpu_{gpu}_in_use").touch()
    n_gpus = int(os.environ.get("FAKE_GPUS_AT_ONCE", "1"))
    while len(list(Path().glob("gpu_*_in_use"))) < n_gpus and time.monotonic() < start + 60:
        time.sleep(0.05)
    time.sleep(1)
    with open("gpu_uses", "a", encoding="utf-8") as file:
        print(gpu, start, time.monotonic(), file=file)


command = sys.argv[1]
output = Path(value_of("--output"))
paths = [output]
if command == "train":
    paths.append(Path(value_of("--log")))
if command in ("train", "evaluate"):
    assert os.environ["IRPIPE_LOCK_GPU"] == "1"
    use_a_gpu()
if command == "report":
    section = "table" if "--table" in sys.argv else "figure"
    name = value_of(f"--{section}").partition("=")[0]
    paths = [output / f"{section}_{name}.{suffix}" for suffix in REPORT_SUFFIXES]
for path in paths:
    path.write_text("{}", encoding="utf-8")
