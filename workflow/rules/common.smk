"""The checked config and what the rules look up in it. Inputs: the config. Outputs: none."""

import hashlib
import json
import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from irpipe import code_hash, config as configs
from irpipe.config import captions
from irpipe.config.kinds import attacks_of
from irpipe.config.only import keep_only
from irpipe.errors import IrpipeError
from irpipe.results import data_record
from irpipe.outside_code import external_file, plain_name
from irpipe.runtime import gpu_lock


def refuse(error):
    """End with one line. sys.exit would add Snakemake's traceback."""
    print(f"irpipe: error: {error}", file=sys.stderr, flush=True)
    os._exit(2)


# A folder is text, but Snakemake reads `--config released=2024_01` as a number.
for argument in workflow.config_settings.config_args or ():
    key, _, text = argument.partition("=")
    if key in ("data", "released") and not isinstance(config.get(key), str | None):
        config[key] = text

# Code that the config names lies next to it.
CONFIG_FILES = workflow.overwrite_configfiles or workflow.configfiles
CODE_FOLDER = os.path.dirname(os.path.abspath(CONFIG_FILES[0])) if CONFIG_FILES else "."
os.environ["IRPIPE_CODE"] = CODE_FOLDER

try:
    CONFIG = configs.validate(config)
    # All networks, since surrogates may be others than those that `only` selects.
    NETWORKS = {
        run: entry for entry in CONFIG["networks"] for run in configs.runs(entry)
    }
    CONFIG = keep_only(CONFIG)
    SELECTED_RUNS = [run for entry in CONFIG["networks"] for run in configs.runs(entry)]
    MODEL_OF = {
        plain_name(entry["model"]): entry["model"] for entry in NETWORKS.values()
    }
    # Folders reach the commands through the environment: moving them changes no number,
    # so it must not rerun a job.
    for variable, key in (("IRPIPE_DATA", "data"), ("IRPIPE_RELEASED", "released")):
        folder = CONFIG[key] or os.environ.get(variable) or key
        # Configs are UTF-8. In a locale without it, Python names such a folder otherwise.
        folder = os.fsdecode(folder.encode(errors="surrogateescape"))
        CONFIG[key] = os.path.abspath(os.path.expanduser(folder))
        os.environ[variable] = CONFIG[key]
    for run in SELECTED_RUNS:
        if run[3] == "released":
            file = NETWORKS[run]["released_files"][run[2]]
            path = os.path.join(CONFIG["released"], file)
            if not os.path.isfile(path):
                raise IrpipeError(
                    f"{path}: no such file; the config wants it as {'/'.join(run)}"
                )
except IrpipeError as error:
    refuse(error)

os.environ["IRPIPE_LOCK_GPU"] = "1"  # each job computes on a GPU of its own
os.environ["IRPIPE_SOURCE"] = str(configs.CONFIG_FOLDER.parent)  # for --sdm conda
config["captions"] = {  # where the report's templates find them
    section: {
        name: captions.caption(CONFIG, section, name).restructured_text()
        for name in CONFIG[section]
    }
    for section in ("tables", "figures")
}

TRAINING_LOGS = [
    f"results/{'/'.join(run)}/training_log.csv"
    for run in SELECTED_RUNS
    if run[3].startswith("seed")
]
TABLES = [
    f"results/tables/table_{name}.{suffix}"
    for name in CONFIG["tables"]
    for suffix in ("csv", "parquet", "md", "tex", "html", "sha256")
]
FIGURES = [
    f"results/figures/figure_{name}.{suffix}"
    for name in CONFIG["figures"]
    for suffix in ("png", "pdf", "svg", "sha256")
]


def cores_per_job():
    """Cores of a job that computes: at most 4, and few enough that all GPUs have a job."""
    cores = workflow.resource_settings.cores or sys.maxsize
    gpu = workflow.global_resources.get("gpu")
    n_gpus = gpu.value if gpu and gpu.value else 1
    return max(1, min(4, cores // n_gpus))


def is_proof(wildcards):
    """Whether a job searches for proofs: on one core, and for longer than an attack."""
    return kind("attacks", wildcards.attack) == "certify"


def output_dir(wildcards, output):
    """Folder of a rule's outputs; includes the prefix if another workflow uses this module."""
    return os.path.dirname(output[0])


def state_dir(wildcards, output):
    """Folder of the states of interrupted jobs: `results/state`, with the module's prefix."""
    results_dir = os.path.join(output[0], *[os.pardir] * 5)
    return os.path.normpath(os.path.join(results_dir, "state"))


def any_of(names):
    """Regular expression for a wildcard that may take only these values."""
    return "|".join(map(re.escape, names)) or "(?!)"  # (?!) matches nothing


def entry_argument(section, name):
    """A config entry as the argument NAME={...} of the irpipe command.

    As a rule parameter, it makes Snakemake rerun the job when the entry changes.
    """
    return f"{name}={json.dumps(CONFIG[section][name], sort_keys=True)}"


def attack_argument(wildcards, input):
    """The attack's entry as an argument; its surrogates are where this job's inputs are."""
    surrogates = {"surrogates": list(input.surrogates)} if input.surrogates else {}
    entry = CONFIG["attacks"][wildcards.attack] | surrogates
    return f"{wildcards.attack}={json.dumps(entry, sort_keys=True)}"


def data_changed_to(wildcards):
    """What the content of a split changed to since it was recorded (see `changed_to`)."""
    path = rules.check_data.output[0].format(**wildcards)
    entry = entry_argument("datasets", wildcards.dataset)
    try:
        return data_record.changed_to(Path(path), entry, Path(CONFIG["data"]))
    except IrpipeError as error:
        refuse(error)


@cache
def released_sha256(name):
    """SHA-256 of a released network. Another file is imported again, another folder is not."""
    with open(os.path.join(CONFIG["released"], name), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kind(section, name):
    """The kind of a config entry."""
    return CONFIG[section][name]["kind"]


def network(wildcards, run):
    """The `networks` entry that makes this network."""
    return NETWORKS[wildcards.dataset, wildcards.model, wildcards.method, run]


def external_arguments(wildcards):
    """A network from elsewhere and what it is called, as arguments of the irpipe command."""
    source = network(wildcards, "external")["checkpoints"][wildcards.method]
    names = f"{wildcards.model}/{wildcards.method}"
    dataset = entry_argument("datasets", wildcards.dataset)
    return shlex.join(
        ["--checkpoint", source, "--external", names, "--dataset", dataset]
    )


def network_code(wildcards):
    """Hash of a network from elsewhere: of its file or, if that is Python, of its code."""
    source = network(wildcards, "external")["checkpoints"][wildcards.method]
    path = external_file(source)
    if path.suffix == ".py":
        return code_hash.code_hash(source.partition(":")[0])
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_code(wildcards):
    """Hash of a model that is a file next to the config; empty for others."""
    return code_hash.of_model(MODEL_OF[wildcards.model])


def report_label(section, name):
    """How the report page lists a table or figure."""
    # Snakemake takes {x} for a wildcard, but not with an invisible letter after the brace.
    return {"shows": CONFIG[section][name]["title"].replace("{", "{\N{WORD JOINER}")}


def results(section, name):
    """The results that a table or figure shows: those of its attacks, of every network."""
    attacks = attacks_of(CONFIG[section][name])
    return [
        f"results/{'/'.join(run)}/{attack}.h5"
        for run in SELECTED_RUNS
        for attack in attacks
        if attack in NETWORKS[run]["attacks"]
    ]


wildcard_constraints:
    dataset=any_of(CONFIG["datasets"]),
    model=any_of({run[1] for run in NETWORKS}),
    method=any_of({run[2] for run in NETWORKS}),
    run=any_of({run[3] for run in NETWORKS} - {"external"}),
    k=r"\d+",
    split="train|test",
    attack=any_of(CONFIG["attacks"]),
    table=any_of(CONFIG["tables"]),
    figure=any_of(CONFIG["figures"]),
