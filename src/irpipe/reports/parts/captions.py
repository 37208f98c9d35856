"""What the report page says below each table and figure: what it shows, and from which networks."""

import ast
from typing import Any

from irpipe import config as configs
from irpipe.spec import FOLDER

PARTS = ("The paper", "The paper's appendix", "Beyond the paper")


def part(name: str) -> str:
    """The part of the paper that a table or figure belongs to: 3, A1 and 1_imagenet show the paper's own numbers."""
    number, *_ = name.split("_")
    own, appendix = number.isdigit(), number[0] == "A" and number[1:].isdigit()
    return PARTS[0] if own else PARTS[1] if appendix else PARTS[2]


def caption(config: dict[str, Any], section: str, name: str) -> str:
    """Caption (reStructuredText) of the entry `name` of a checked config's section `tables` or `figures`.

    The first sentence is that of the kind's own file.
    """
    entry = config[section][name]
    kind = ast.parse((FOLDER / "reports" / f"{entry['kind']}.py").read_text())
    shows = (ast.get_docstring(kind) or "").split("\n\n")[0].replace("\n", " ")
    attacks = {entry.get("attack"), *entry.get("attacks", [])} - {None}
    networks: dict[str, dict[str, list[str]]] = {}
    for made in config["networks"]:
        for dataset, model, method, run in configs.runs(made):
            if attacks & set(made["attacks"]) or (not attacks and run != "released"):
                networks.setdefault(f"{dataset} {model}", {}).setdefault(method, []).append(run)
    lines = [f"- {pair}: {', '.join(f'{m} ({_runs(r)})' for m, r in of.items())}" for pair, of in networks.items()]
    by = f"Attacked by: {', '.join(sorted(attacks))}. " if attacks else ""
    return "\n".join([shows, "", f"{by}Networks:", "", *lines, ""])


def _runs(runs: list[str]) -> str:
    return ", ".join(runs) if len(runs) < 4 else f"{runs[0]}, {runs[1]} ... {runs[-1]}"
