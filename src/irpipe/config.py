"""Whole configs: read, checked and resolved before any job starts.

A config names data sets, methods, recipes, attacks, tables and figures, and lists the networks to make from them. One
config replaces another, they never merge. The Snakefile and the command line both come through here.
"""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from irpipe.errors import IrpipeError
from irpipe.quantities import Count, Folder, Index, Positive, Radius, Schedule, Switch
from irpipe.spec import Strict, explain, resolve, unknown

SHIPPED = Path(__file__).resolve().parents[2] / "config"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")
CATEGORIES = {
    "datasets": "datasets",
    "methods": "methods",
    "attacks": "attacks",
    "tables": "reports",
    "figures": "reports",
}


class Recipe(Strict):
    """How a network is trained (protocol C.2). Schedules are points [step, value], linear in between."""

    batch: Count
    epochs: Count
    rate: Schedule  # learning rate
    ramp: Schedule  # share of the radius
    steps: Count  # of the inner maximisation
    step_size: Positive
    radius: Radius | None = None  # None: the data set's own
    seed: Index = 99  # C.1; run seed<k> starts from seed + k


class Networks(Strict):
    """Networks of one data set and model: which methods, trained how often, attacked by what."""

    dataset: str
    model: Literal["small", "pool", "wresnet"]
    methods: list[str] = Field(min_length=1)
    attacks: list[str] = Field(min_length=1)
    recipe: str | None = None
    seeds: Index | None = None  # networks trained per method: runs seed0, seed1, ...; none given: the config's number
    released: dict[str, str] = {}  # method: file in the folder of released networks


class Config(Strict):
    """A whole config, as written."""

    data: Folder | None = None  # none: the environment's IRPIPE_DATA, else data
    released: Folder | None = None  # none: the environment's IRPIPE_RELEASED, else released
    download: Switch = False
    seeds: Index = 1
    datasets: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]] = {}
    recipes: dict[str, Recipe] = {}
    attacks: dict[str, dict[str, Any]]
    networks: list[Networks] = Field(min_length=1)
    tables: dict[str, dict[str, Any]] = {}
    figures: dict[str, dict[str, Any]] = {}


class _Loader(yaml.SafeLoader):
    """YAML whose mappings name each key once: the second would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.YAMLError(f"line {node.value[number][0].start_mark.line + 1}: key {key!r} a second time")
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file as a mapping; raises IrpipeError if it is missing, no mapping or names a key twice."""
    try:
        raw = yaml.load(path.read_text(), _Loader)  # a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise IrpipeError(f"{path}: not a readable config ({reason})") from error
    except yaml.YAMLError as error:
        raise IrpipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise IrpipeError(f"{path}: expected a mapping of sections; found {type(raw).__name__}")
    return raw


def check(raw: dict[str, Any], where: str = "config") -> dict[str, Any]:
    """Check a whole config and resolve every named entry.

    Returns JSON values: each entry as `{kind, ...all options}`, fractions as numbers, defaults filled in. Raises
    IrpipeError with one line for the first thing that is wrong.
    """
    try:
        written = Config.model_validate(raw)
    except ValidationError as error:
        raise explain(error, where) from error
    config = written.model_dump(mode="json")
    for section, category in CATEGORIES.items():
        for name, entry in config[section].items():
            check_name(name, f"{where}.{section}")
            config[section][name] = resolve(category, entry, f"{where}.{section}.{name}")
    for name in config["recipes"]:
        check_name(name, f"{where}.recipes")
    made: set[tuple[str, str, str, str]] = set()
    for number, entry in enumerate(config["networks"]):
        if entry["seeds"] is None:
            entry["seeds"] = config["seeds"] if entry["recipe"] else 0
        _check_networks(entry, written, f"{where}.networks.{number}")
        for run in runs(entry):
            if run in made:
                raise IrpipeError(f"{where}.networks.{number}: makes {'/'.join(run)} a second time; list it once")
            made.add(run)
    return config


def check_name(name: str, where: str) -> None:
    """Raise IrpipeError if a name cannot be a folder and a wildcard."""
    if not NAME.fullmatch(name):
        raise IrpipeError(f"{where}: '{name}' is no name; use letters, digits and _ (it becomes a folder)")


def _check_networks(entry: dict[str, Any], config: Config, where: str) -> None:
    """Check that an entry only names what the config defines, and that it makes something."""
    named: list[tuple[str, Collection[str], list[str]]] = [("dataset", config.datasets, [entry["dataset"]])]
    named += [("attacks", config.attacks, entry["attacks"])]
    named += [("methods", config.methods, entry["methods"] if entry["seeds"] else [])]
    named += [("released", entry["methods"], [*entry["released"]])]
    named += [("recipe", config.recipes, [entry["recipe"]] if entry["recipe"] else [])]
    for key, known, names in named:
        for name in names:
            if name not in known:
                raise IrpipeError(f"{where}.{key}: {unknown(key.removesuffix('s'), name, sorted(known))}")
    if entry["seeds"] and entry["recipe"] is None:
        raise IrpipeError(f"{where}.recipe: missing; {entry['seeds']} networks per method are to be trained")
    if not entry["seeds"] and not entry["released"]:
        raise IrpipeError(f"{where}: makes no network; give it a recipe, or name released files")
    idle = [method for method in entry["methods"] if not entry["seeds"] and method not in entry["released"]]
    if idle:
        raise IrpipeError(f"{where}.methods: makes no network of '{idle[0]}'; name its released file or drop it")
    for key in ("methods", "attacks"):
        if len(set(entry[key])) < len(entry[key]):
            raise IrpipeError(f"{where}.{key}: names one twice; found {entry[key]}")


def runs(entry: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """All (dataset, model, method, run) that one checked `networks` entry makes, in its order."""
    made = []
    for method in entry["methods"]:
        names = ["released"] if method in entry["released"] else []
        names += [f"seed{k}" for k in range(entry["seeds"])]
        made += [(entry["dataset"], entry["model"], method, name) for name in names]
    return made


def resolved(section: str, entry: object, where: str) -> dict[str, Any]:
    """Check one entry of a section and fill in its defaults; raises IrpipeError naming `where`."""
    if section != "recipes":
        return resolve(CATEGORIES[section], entry, where)
    try:
        return Recipe.model_validate(entry).model_dump(mode="json")
    except ValidationError as error:
        raise explain(error, where) from error


def lookup(section: str, name: str, path: Path | None) -> dict[str, Any]:
    """The resolved entry `name` of a section: from the config at `path`, else from the configs the project ships.

    Raises IrpipeError if none has it, or if two of the shipped ones differ in it.
    """
    known: set[str] = set()
    found: dict[str, dict[str, Any]] = {}
    for file in [path] if path else sorted(SHIPPED.glob("*.yaml")):
        entries = read(file).get(section) or {}
        if not isinstance(entries, dict):
            raise IrpipeError(f"{file}: {section}: expected a mapping of names; found {entries!r}")
        if name in entries:
            found[str(file)] = resolved(section, entries[name], f"{file}: {section}.{name}")
        known |= set(entries)
    if len({json.dumps(entry, sort_keys=True) for entry in found.values()}) > 1:
        raise IrpipeError(f"{section}.{name} differs between {' and '.join(found)}; say which with --config")
    if found:
        return next(iter(found.values()))
    raise IrpipeError(f"{path or SHIPPED}: {section}: {unknown(section.removesuffix('s'), name, sorted(known))}")
