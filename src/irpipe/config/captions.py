"""Captions of the report page: what a table or figure shows, and from which networks."""

import ast
from dataclasses import dataclass
from typing import Any

from irpipe import config as configs
from irpipe.config.kinds import attacks_of, kind_file
from irpipe.outside_code import parse_file

PARTS = ("The paper", "The paper's appendix", "Beyond the paper")


def part(name: str) -> str:
    """The part of the report page for a table or figure of this name.

    "3" and "1_imagenet" show numbers of the paper, "A1" those of its appendix.
    """
    number, *_ = name.split("_")
    if number.isdigit():
        return PARTS[0]
    is_appendix = number[0] == "A" and number[1:].isdigit()
    return PARTS[1] if is_appendix else PARTS[2]


@dataclass(frozen=True)
class Caption:
    """What a table or figure shows, and one line of networks for each data set and model."""

    text: str
    networks: list[str]

    def restructured_text(self) -> str:
        """The caption for Snakemake's own report."""
        lines = [self.text, "", "Networks:", "", *(f"- {line}" for line in self.networks)]
        return "\n".join([*lines, ""])


def caption(config: dict[str, Any], section: str, name: str) -> Caption:
    """The caption of an entry in the `tables` or `figures` of a checked config.

    It begins with the first paragraph of the docstring of the entry's kind.
    """
    entry = config[section][name]
    attacks = attacks_of(entry)
    attacked_by = f" Attacked by: {', '.join(sorted(attacks))}." if attacks else ""
    lines = []
    for networks, runs_by_method in _networks(config, set(attacks)).items():
        methods = [f"{method} ({_shorten(runs)})" for method, runs in runs_by_method.items()]
        lines.append(f"{networks}: {', '.join(methods)}")
    return Caption(_first_paragraph(entry["kind"]) + attacked_by, lines)


def _first_paragraph(kind: str) -> str:
    docstring = ast.get_docstring(parse_file(kind_file("reports", kind))) or ""
    return docstring.split("\n\n")[0].replace("\n", " ")


def _networks(config: dict[str, Any], attacks: set[str]) -> dict[str, dict[str, list[str]]]:
    """Runs by method by data set and model: the networks that meet one of the attacks.

    Without attacks, all trained networks, because only they have training logs.
    """
    networks: dict[str, dict[str, list[str]]] = {}
    for entry in config["networks"]:
        is_attacked = bool(attacks & set(entry["attacks"]))
        for dataset, model, method, run in configs.runs(entry):
            if is_attacked or (not attacks and run != "released"):
                by_method = networks.setdefault(f"{dataset} {model}", {})
                by_method.setdefault(method, []).append(run)
    return networks


def _shorten(runs: list[str]) -> str:
    return ", ".join(runs) if len(runs) < 4 else f"{runs[0]}, {runs[1]} ... {runs[-1]}"
