"""The checked config and what the rules look up in it. Inputs: the config. Outputs: none."""

import json
import os
import re
import sys

from irpipe import codehash, config as configs
from irpipe.errors import IrpipeError

try:
    CONFIG = configs.check(config)
except IrpipeError as error:
    print(f"irpipe: error: {error}", file=sys.stderr, flush=True)
    os._exit(
        2
    )  # before any job; sys.exit would add Snakemake's traceback to the one line

DATA = os.environ.get("IRPIPE_DATA") or CONFIG["data"]
RELEASED = os.environ.get("IRPIPE_RELEASED") or CONFIG["released"]
NETWORKS = {run: entry for entry in CONFIG["networks"] for run in configs.runs(entry)}
RESULTS = [
    f"results/{'/'.join(run)}/{attack}.h5"
    for run, entry in NETWORKS.items()
    for attack in entry["attacks"]
]
LOGS = [
    f"results/{'/'.join(run)}/network.csv" for run in NETWORKS if run[3] != "released"
]
TABLES = [
    f"results/tables/table_{name}.{suffix}"
    for name in CONFIG["tables"]
    for suffix in ("csv", "md", "tex", "html")
]
FIGURES = [
    f"results/figures/figure_{name}.{suffix}"
    for name in CONFIG["figures"]
    for suffix in ("png", "svg")
]


def either(names):
    """A wildcard constraint that admits just these names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def given(section, name):
    """The entry of a name, written so that the command line takes it and any change of it is seen."""
    return f"{name}={json.dumps(CONFIG[section][name], sort_keys=True)}"


def kind(section, name):
    return CONFIG[section][name]["kind"]


def recipe(wildcards):
    """The name of the recipe that trains this network."""
    return NETWORKS[
        wildcards.dataset, wildcards.model, wildcards.method, f"seed{wildcards.k}"
    ]["recipe"]


def splits(dataset):
    """The splits of a data set that some network needs."""
    trained = any(run[0] == dataset and run[3] != "released" for run in NETWORKS)
    return "train test" if trained else "test"


wildcard_constraints:
    dataset=either(CONFIG["datasets"]),
    model=either({run[1] for run in NETWORKS}),
    method=either({run[2] for run in NETWORKS}),
    run=either({run[3] for run in NETWORKS}),
    k=r"\d+",
    attack=either(CONFIG["attacks"]),
    table=either(CONFIG["tables"]),
    figure=either(CONFIG["figures"]),
