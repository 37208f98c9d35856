"""Stands for irpipe in the workflow: makes a job's outputs, and leases one of four pretended GPUs where irpipe does."""

import os
import sys
import time
from pathlib import Path

from irpipe.lease import lease

command, output = sys.argv[1], Path(sys.argv[sys.argv.index("--output") + 1])
made = [output, output.with_suffix(".csv")]
if command in ("train", "evaluate"):
    assert os.environ["IRPIPE_LEASE"] == "1"
    device, start = lease(("a", "b", "c", "d")), time.monotonic()
    time.sleep(1)
    with open("leases", "a") as file:
        print(device, start, time.monotonic(), file=file)
elif command == "report":
    section = "table" if "--table" in sys.argv else "figure"
    name = sys.argv[sys.argv.index(f"--{section}") + 1].partition("=")[0]
    suffixes = "csv", "md", "tex", "html", "png", "pdf", "svg", "sha256"
    made = [output / f"{section}_{name}.{suffix}" for suffix in suffixes]
for path in made:
    path.write_text("made")
