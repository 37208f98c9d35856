"""What a config may say: read, checked and resolved before any job starts.

A config names data sets, methods, recipes, attacks, tables and figures, and lists the networks to
make from them. One config replaces another; two never merge. The Snakefile and the command line
both read configs through this module.
"""

import json
import re
import reprlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from irpipe.config.kinds import (
    CROSS_CHECK,
    as_one_line_error,
    attacks_of,
    check_model_file,
    check_section,
    resolve_entry,
)
from irpipe.config.only import keep_only
from irpipe.config.schema import Config, Recipe
from irpipe.config.yaml_reader import check_plain_values, read_yaml
from irpipe.errors import MAX_NAME_SHOWN, IrpipeError, no_such
from irpipe.option_types import MODELS
from irpipe.outside_code import external_file, is_outside, plain_name

# A wheel carries the project's configs in the package.
_CARRIED_CONFIGS = Path(__file__).resolve().parent / "shipped"
_CHECKOUT_CONFIGS = Path(__file__).resolve().parents[3] / "config"
CONFIG_FOLDER = _CARRIED_CONFIGS if _CARRIED_CONFIGS.is_dir() else _CHECKOUT_CONFIGS
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
CATEGORY_OF_SECTION = {
    "datasets": "datasets",
    "methods": "methods",
    "attacks": "attacks",
    "tables": "reports",
    "figures": "reports",
}
Run = tuple[str, str, str, str]  # data set, model, method, run


def validate(raw: dict[str, Any], location: str = "config") -> dict[str, Any]:
    """Check a config and resolve every named entry.

    Returns JSON values: each entry as `{kind, ...all options}`, with fractions as numbers and
    with all defaults. Raises IrpipeError with one line for the first thing that is wrong.
    """
    check_plain_values(raw, location)
    try:
        model = Config.model_validate(raw)
    except ValidationError as error:
        raise as_one_line_error(error, location) from error
    config = model.model_dump(mode="json")
    for section in CATEGORY_OF_SECTION:
        for name, entry in config[section].items():
            check_name(name, f"{location}.{section}")
            config[section][name] = _resolve(section, entry, f"{location}.{section}.{name}")
    for name in config["recipes"]:
        check_name(name, f"{location}.recipes")
    known_runs: set[Run] = set()
    models: dict[str, str] = {}
    for i, entry in enumerate(config["networks"]):
        if entry["seeds"] is None:
            entry["seeds"] = config["seeds"] if entry["recipe"] else 0
        _check_networks(entry, model, f"{location}.networks.{i}")
        first = models.setdefault(plain_name(entry["model"]), entry["model"])
        if first != entry["model"]:
            key = f"{location}.networks.{i}.model"
            raise IrpipeError(f"{key}: {entry['model']} has the name of {first}; rename it")
        for run in runs(entry):
            if run in known_runs:
                name = "/".join(run)
                raise IrpipeError(
                    f"{location}.networks.{i}: makes {name} a second time; list it once"
                )
            known_runs.add(run)
    _check_reports(config, location)
    _add_cross_check(config, location)
    keep_only(config, location)  # checks what `only` says
    return config


def check_name(name: str, location: str) -> None:
    """Raise IrpipeError if a name cannot be a folder and a wildcard."""
    if not NAME_PATTERN.fullmatch(name):
        raise IrpipeError(
            f"{location}: '{name[:MAX_NAME_SHOWN]}' is no name; "
            "use up to 64 letters, digits and _ (it becomes a folder)"
        )


def _check_networks(entry: dict[str, Any], config: Config, location: str) -> None:
    """Check that a `networks` entry makes networks, and only names what the config defines."""
    is_trained = entry["seeds"] > 0
    files = entry["released_files"] | entry["checkpoints"]
    recipes = [entry["recipe"]] if entry["recipe"] else []
    # Key of the entry, what its names are, the names that it may have, the names that it has.
    references: list[tuple[str, str, Collection[str], list[str]]] = [
        ("dataset", "dataset", config.datasets, [entry["dataset"]]),
        ("attacks", "attack", config.attacks, entry["attacks"]),
        ("methods", "method", config.methods, entry["methods"] if is_trained else []),
        ("released_files", "method", entry["methods"], list(entry["released_files"])),
        ("checkpoints", "method", entry["methods"], list(entry["checkpoints"])),
        ("recipe", "recipe", config.recipes, recipes),
    ]
    for key, noun, known, names in references:
        for name in names:
            if name not in known:
                raise IrpipeError(f"{location}.{key}: {no_such(noun, name, sorted(known))}")
    if is_trained and entry["recipe"] is None:
        raise IrpipeError(
            f"{location}.recipe: missing; {entry['seeds']} networks per method are to be trained"
        )
    if not is_trained and not files:
        raise IrpipeError(
            f"{location}: makes no network; add a recipe, released_files or checkpoints"
        )
    for method in entry["methods"]:
        if not is_trained and method not in files:
            raise IrpipeError(
                f"{location}.methods: makes no network of '{method}'; "
                "name its released file or drop it"
            )
    _check_code(entry, is_trained, location)
    for key in ("methods", "attacks"):
        if len(set(entry[key])) < len(entry[key]):
            names_text = reprlib.repr(entry[key])
            raise IrpipeError(f"{location}.{key}: has a name twice; found {names_text}")


def _check_code(entry: dict[str, Any], is_trained: bool, location: str) -> None:
    """Check the files beside the config that a `networks` entry names."""
    model = entry["model"]
    if model == "own" and (is_trained or entry["released_files"]):
        raise IrpipeError(f"{location}.model: own is for checkpoints; say which model to build")
    keys = {"model": model} | {
        f"checkpoints.{method}": source for method, source in entry["checkpoints"].items()
    }
    for key, name in keys.items():
        try:
            if key != "model":
                external_file(name)
            elif is_outside(name):
                check_model_file(name)
                check_name(plain_name(name), "file")
        except IrpipeError as error:
            raise IrpipeError(f"{location}.{key}: {error}") from error
    if is_outside(model) and plain_name(model) in MODELS:
        raise IrpipeError(f"{location}.model: {model} has the name of a model of irpipe; rename it")


def _check_reports(config: dict[str, Any], location: str) -> None:
    """Check that tables and figures show attacks that the config defines."""
    known = sorted(config["attacks"])
    for section in ("tables", "figures"):
        for name, entry in config[section].items():
            for attack in attacks_of(entry):
                if attack not in known:
                    message = no_such("attack", attack, known)
                    raise IrpipeError(f"{location}.{section}.{name}: {message}")


def _add_cross_check(config: dict[str, Any], location: str) -> None:
    """Where networks have proofs, add the table that checks them against all attacks.

    A config may have such a table itself. If it names no attacks, it takes all of them.
    """
    tables = config["tables"]
    used = sorted({attack for entry in config["networks"] for attack in entry["attacks"]})
    own = [entry for entry in tables.values() if entry["kind"] == CROSS_CHECK]
    if not own and any(config["attacks"][attack]["kind"] == "certify" for attack in used):
        if CROSS_CHECK in tables:
            raise IrpipeError(
                f"{location}.tables.{CROSS_CHECK}: this is the name of the check of proofs "
                "against attacks; rename the table"
            )
        entry = {"kind": CROSS_CHECK, "title": "Proofs against attacks"}
        tables[CROSS_CHECK] = resolve_entry("reports", entry, location)
        own = [tables[CROSS_CHECK]]
    for entry in own:
        entry["attacks"] = entry["attacks"] or used


def runs(entry: dict[str, Any]) -> list[Run]:
    """All runs that a checked `networks` entry makes, in its order."""
    runs_of_methods = []
    for method in entry["methods"]:
        if method in entry["released_files"]:
            runs_of_methods.append((method, "released"))
        if method in entry["checkpoints"]:
            runs_of_methods.append((method, "external"))
        runs_of_methods += [(method, f"seed{k}") for k in range(entry["seeds"])]
    model = plain_name(entry["model"])
    return [(entry["dataset"], model, method, run) for method, run in runs_of_methods]


def resolve_named(section: str, entry: object, location: str) -> dict[str, Any]:
    """The checked entry of a section, with its defaults.

    Raises IrpipeError, which names `location`, if something is wrong.
    """
    check_plain_values(entry, location)
    if section != "recipes":
        return _resolve(section, entry, location)
    try:
        return Recipe.model_validate(entry).model_dump(mode="json")
    except ValidationError as error:
        raise as_one_line_error(error, location) from error


def _resolve(section: str, entry: object, location: str) -> dict[str, Any]:
    """The resolved entry of a section other than `recipes`."""
    category = CATEGORY_OF_SECTION[section]
    resolved = resolve_entry(category, entry, location)
    if category == "reports":
        check_section(section, resolved["kind"], location)
    return resolved


def lookup(section: str, name: str, path: Path | None) -> dict[str, Any]:
    """The resolved entry `name` of a section.

    It is looked up in the config at `path`, or in all configs of the project if `path` is None.
    Raises IrpipeError if none has it, or if two of the project's configs differ in it.
    """
    known: set[str] = set()
    resolved: dict[str, dict[str, Any]] = {}
    for file in [path] if path else sorted(CONFIG_FOLDER.glob("*.yaml")):
        entries = read_yaml(file).get(section) or {}
        if not isinstance(entries, dict):
            raise IrpipeError(
                f"{file}: {section}: expected a mapping of names; found {reprlib.repr(entries)}"
            )
        if name in entries:
            resolved[str(file)] = resolve_named(section, entries[name], f"{file}: {section}.{name}")
        known |= set(entries)
    if len({json.dumps(entry, sort_keys=True) for entry in resolved.values()}) > 1:
        files = " and ".join(resolved)
        raise IrpipeError(f"{section}.{name} differs between {files}; say which with --config")
    if resolved:
        return next(iter(resolved.values()))
    message = no_such(section.removesuffix("s"), name, sorted(known))
    raise IrpipeError(f"{path or CONFIG_FOLDER}: {section}: {message}")
