"""The checked config and what the rules look up in it. Inputs: the config. Outputs: none."""

import json
import os
import re
import sys

from irpipe import codehash, config as configs, lease
from irpipe.errors import IrpipeError
from irpipe.reports.parts import captions

try:
    CONFIG = configs.check(config)
    NETWORKS = {run: made for made in CONFIG["networks"] for run in configs.runs(made)}
    # folders reach the commands by the environment: where data lie decides no number, so moving them reruns nothing
    for variable, key in (("IRPIPE_DATA", "data"), ("IRPIPE_RELEASED", "released")):
        folder = CONFIG[key] or os.environ.get(variable) or key
        CONFIG[key] = os.path.abspath(os.path.expanduser(folder))
        os.environ[variable] = CONFIG[key]
    for run, made in NETWORKS.items():
        if run[3] == "released":
            path = os.path.join(CONFIG["released"], made["released"][run[2]])
            if not os.path.isfile(path):
                raise IrpipeError(
                    f"{path}: no such file; the config wants it as {'/'.join(run)}"
                )
except IrpipeError as error:
    print(f"irpipe: error: {error}", file=sys.stderr, flush=True)
    os._exit(
        2
    )  # before any job; sys.exit would add Snakemake's traceback to the one line

os.environ["IRPIPE_LEASE"] = "1"  # each job computes on a GPU of its own
os.environ["IRPIPE_SOURCE"] = str(configs.SHIPPED.parent)  # for --sdm conda
config["captions"] = {  # where the report's templates find them
    section: {name: captions.caption(CONFIG, section, name) for name in CONFIG[section]}
    for section in ("tables", "figures")
}

LOGS = [
    f"results/{'/'.join(run)}/network.csv" for run in NETWORKS if run[3] != "released"
]
TABLES = [
    f"results/tables/table_{name}.{suffix}"
    for name in CONFIG["tables"]
    for suffix in ("csv", "md", "tex", "html", "sha256")
]
FIGURES = [
    f"results/figures/figure_{name}.{suffix}"
    for name in CONFIG["figures"]
    for suffix in ("png", "pdf", "svg", "sha256")
]


def cores():
    """Cores of a job that computes: 4, or the share of `--cores` that lets a job run on every GPU at a time."""
    given = workflow.resource_settings.cores or sys.maxsize
    gpu = workflow.global_resources.get("gpu")
    return max(1, min(4, given // (gpu and gpu.value or 1)))


def place(wildcards, output):
    """Where a rule's output lies, also where another workflow has put it below a prefix of its own."""
    return os.path.dirname(output[0])


def either(names):
    """A wildcard constraint that admits just these names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def given(section, name):
    """The entry of a name, written so that the command line takes it and any change of it is seen."""
    return f"{name}={json.dumps(CONFIG[section][name], sort_keys=True)}"


def kind(section, name):
    return CONFIG[section][name]["kind"]


def network(wildcards, run):
    """The `networks` entry that makes this network."""
    return NETWORKS[wildcards.dataset, wildcards.model, wildcards.method, run]


def shown(section, name):
    """How the report page lists a table or figure."""
    return {"shows": CONFIG[section][name]["title"]}


def results(section, name):
    """The results that a table or figure shows: those of its attacks, of every network."""
    entry = CONFIG[section][name]
    return [
        f"results/{'/'.join(run)}/{attack}.h5"
        for run, made in NETWORKS.items()
        for attack in entry.get("attacks", [entry.get("attack")])
        if attack in made["attacks"]
    ]


wildcard_constraints:
    dataset=either(CONFIG["datasets"]),
    model=either({run[1] for run in NETWORKS}),
    method=either({run[2] for run in NETWORKS}),
    run=either({run[3] for run in NETWORKS}),
    k=r"\d+",
    split="train|test",
    attack=either(CONFIG["attacks"]),
    table=either(CONFIG["tables"]),
    figure=either(CONFIG["figures"]),
