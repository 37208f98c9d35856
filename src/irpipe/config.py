"""Whole configs: read, checked and resolved before any job starts.

A config names data sets, methods, recipes, attacks, tables and figures, and lists the networks to make from them. One
config replaces another, they never merge. The Snakefile and the command line both come through here.
"""

import json
import re
import reprlib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from irpipe.errors import IrpipeError
from irpipe.quantities import Count, Folder, Index, Inside, Positive, Radius, Schedule, Switch
from irpipe.spec import SHOWN, Strict, explain, resolve, unknown

SHIPPED = Path(__file__).resolve().parents[2] / "config"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
BYTES, VALUES, DEPTH = 2**16, 10_000, 20  # that a config may have; the longest of ours has 7,310, some 500 and 6
CATEGORIES = {
    "datasets": "datasets",
    "methods": "methods",
    "attacks": "attacks",
    "tables": "reports",
    "figures": "reports",
}


Seeds = Annotated[Index, Field(le=1000)]  # each is a file


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
    seeds: Seeds | None = None  # networks trained per method: runs seed0, seed1, ...; none given: the config's number
    released: dict[str, Inside] = {}  # method: file in the folder of released networks


class Config(Strict):
    """A whole config, as written."""

    data: Folder | None = None  # none: the environment's IRPIPE_DATA, else data
    released: Folder | None = None  # none: the environment's IRPIPE_RELEASED, else released
    download: Switch = False
    seeds: Seeds = 1
    datasets: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]] = {}
    recipes: dict[str, Recipe] = {}
    attacks: dict[str, dict[str, Any]]
    networks: list[Networks] = Field(min_length=1)
    tables: dict[str, dict[str, Any]] = {}
    figures: dict[str, dict[str, Any]] = {}


class _Loader(yaml.SafeLoader):
    """YAML without what makes a config mean more than it says: keys given twice, and values given by reference.

    It stops at the first value too many or too deep, since reading 64 kB of brackets takes more than a second.
    """

    seen = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A value; raises YAMLError at an alias, or at one value too many or too deep."""
        if self.check_event(yaml.AliasEvent):
            line = self.get_event().start_mark.line + 1  # type: ignore[no-untyped-call]  # types-PyYAML
            raise yaml.YAMLError(f"line {line}: an alias (*name); write out what it stands for")
        self.seen += index is not None  # none: a key, or the whole
        if self.seen > VALUES or self.depth > DEPTH:
            raise yaml.YAMLError(f"too deep or too much; a config has {VALUES} values at most, {DEPTH} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises YAMLError at a key that is no text, or is there twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: a key that is no text")
            if key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} a second time")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse(text: str, where: str) -> Any:
    """Read YAML; raises IrpipeError naming `where` if it is none, is too long, names a key twice or has aliases."""
    if len(text) >= BYTES:
        raise IrpipeError(f"{where}: longer than {BYTES} letters, which no config has to be")
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:  # 2024-13-45
        raise IrpipeError(f"{where}: not YAML: {' '.join(str(error).split())}") from error


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file as a mapping; raises IrpipeError if it is missing, none, or as `parse` does."""
    try:
        with path.open("rb") as file:
            text = file.read(BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise IrpipeError(f"{path}: not a readable config ({reason})") from error
    raw = parse(text, str(path))
    if not isinstance(raw, dict):
        raise IrpipeError(f"{path}: expected a mapping of sections; found {type(raw).__name__}")
    return raw


def plain(raw: object, where: str) -> None:
    """Raise IrpipeError, naming the key, unless this is made of mappings, lists, texts and numbers of 64 bits.

    There may be `VALUES` of them, `DEPTH` deep: aliases, which another reader may have taken, multiply values.
    """
    todo, seen = [(where, raw, 0)], 0
    while todo:
        key, value, depth = todo.pop()
        seen += 1
        if isinstance(value, dict):
            parts = [(f"{key}.{name}", part, depth + 1) for name, part in value.items()]
        elif isinstance(value, list | tuple):
            parts = [(f"{key}.{place}", part, depth + 1) for place, part in enumerate(value)]
        else:
            parts = []
            if isinstance(value, int | float) and not abs(value) < 2**63:  # NaN, too: pydantic would make it None
                found = f"{value:g}" if isinstance(value, float) else "more"  # Python writes no whole number that long
                raise IrpipeError(f"{key}: not a finite number of at most 64 bits; found {found}")
            if not isinstance(value, int | float | str | None):
                raise IrpipeError(f"{key}: not a text, number, true, false or null; found {type(value).__name__}")
            if isinstance(value, str) and not value.isprintable():
                raise IrpipeError(f"{key}: has letters that cannot be printed; found {reprlib.repr(value)}")
        todo += parts
        if depth > DEPTH or seen + len(todo) > VALUES:
            raise IrpipeError(f"{key}: too deep or too much; a config has {VALUES} values at most, {DEPTH} deep")


def check(raw: dict[str, Any], where: str = "config") -> dict[str, Any]:
    """Check a whole config and resolve every named entry.

    Returns JSON values: each entry as `{kind, ...all options}`, fractions as numbers, defaults filled in. Raises
    IrpipeError with one line for the first thing that is wrong.
    """
    plain(raw, where)
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
    _check_reports(config, where)
    return config


def check_name(name: str, where: str) -> None:
    """Raise IrpipeError if a name cannot be a folder and a wildcard."""
    if not NAME.fullmatch(name):
        shown = name[:SHOWN]
        raise IrpipeError(f"{where}: '{shown}' is no name; use up to 64 letters, digits and _ (it becomes a folder)")


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
            raise IrpipeError(f"{where}.{key}: names one twice; found {reprlib.repr(entry[key])}")


def _check_reports(config: dict[str, Any], where: str) -> None:
    """Check that tables and figures show attacks that the config defines."""
    for section in ("tables", "figures"):
        for name, entry in config[section].items():
            for attack in entry.get("attacks") or filter(None, [entry.get("attack")]):
                if attack not in config["attacks"]:
                    said = unknown("attack", attack, sorted(config["attacks"]))
                    raise IrpipeError(f"{where}.{section}.{name}: {said}")


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
    plain(entry, where)
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
            raise IrpipeError(f"{file}: {section}: expected a mapping of names; found {reprlib.repr(entries)}")
        if name in entries:
            found[str(file)] = resolved(section, entries[name], f"{file}: {section}.{name}")
        known |= set(entries)
    if len({json.dumps(entry, sort_keys=True) for entry in found.values()}) > 1:
        raise IrpipeError(f"{section}.{name} differs between {' and '.join(found)}; say which with --config")
    if found:
        return next(iter(found.values()))
    raise IrpipeError(f"{path or SHIPPED}: {section}: {unknown(section.removesuffix('s'), name, sorted(known))}")
