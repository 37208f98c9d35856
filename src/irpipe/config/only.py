"""Cut a config down to some of its networks, by its key `only`."""

from typing import Any

from irpipe.config.kinds import CROSS_CHECK, attacks_of
from irpipe.errors import IrpipeError, no_such
from irpipe.outside_code import plain_name

# What the parts of a selection name, in their order.
PARTS = ("data set", "model", "method")
Name = tuple[str, str, str]


def keep_only(config: dict[str, Any], location: str = "config") -> dict[str, Any]:
    """Return a checked config with the networks that its `only` selects, and what shows them.

    `only` has selections DATASET/MODEL/METHOD, with spaces in between. Each part is a name,
    several names with commas in between, or * for all of them; parts at the end may be left out.
    None selects everything. A table or figure stays if all its attacks still run on a network;
    the check of proofs against attacks stays with those that do.

    Raises IrpipeError if a selection has a name that no network has, or selects no network.
    """
    if config["only"] is None:
        return config
    names = [name for entry in config["networks"] for name in _names(entry)]
    selected: set[Name] = set()
    for selection in config["only"].split():
        selected |= _selected(selection, names, f"{location}.only")
    networks = []
    for entry in config["networks"]:
        methods = [method for *pair, method in _names(entry) if (*pair, method) in selected]
        if methods:
            networks.append(entry | {"methods": methods})
    if not networks:
        raise IrpipeError(f"{location}.only: selects none of the config's networks")
    lost = _attacks(config["networks"]) - _attacks(networks)
    kept = config | {"networks": networks}
    for section in ("tables", "figures"):
        kept[section] = {
            name: entry
            for name, entry in config[section].items()
            if not lost.intersection(attacks_of(entry))
        }
    for name, entry in config["tables"].items():
        if entry["kind"] == CROSS_CHECK:
            attacks = [attack for attack in entry["attacks"] if attack not in lost]
            if any(config["attacks"][attack]["kind"] == "certify" for attack in attacks):
                kept["tables"][name] = entry | {"attacks": attacks}
    return kept


def _names(entry: dict[str, Any]) -> list[Name]:
    """Data set, model and method of each network of an entry."""
    return [(entry["dataset"], plain_name(entry["model"]), method) for method in entry["methods"]]


def _attacks(networks: list[dict[str, Any]]) -> set[str]:
    return {attack for entry in networks for attack in entry["attacks"]}


def _selected(selection: str, names: list[Name], location: str) -> set[Name]:
    """Those of the networks that a selection names."""
    parts = [part.split(",") for part in selection.split("/")]
    if len(parts) > len(PARTS):
        raise IrpipeError(f"{location}: expected DATASET/MODEL/METHOD; found '{selection}'")
    selected = set(names)
    for position, part in enumerate(parts):
        known = {name[position] for name in names}
        for wanted in part:
            if wanted not in {*known, "*"}:
                raise IrpipeError(f"{location}: {no_such(PARTS[position], wanted, sorted(known))}")
        if "*" not in part:
            selected = {name for name in selected if name[position] in part}
    return selected
