"""The grammar of everything that has a name: `{kind: <file name>, ...options}`.

The kind is a file in `datasets/`, `methods/`, `attacks/` or `reports/`; the folder listing is the registry. A kind's
options are the keyword-only arguments of its one function, read from the source, so that checking a config imports no
torch, and each default stands in one place: the signature.
"""

import ast
import difflib
import reprlib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from irpipe import quantities
from irpipe.errors import IrpipeError

FOLDER = Path(__file__).resolve().parent
SHOWN = 80  # letters of a wrong name that a message shows
ENTRY = {"datasets": "load", "methods": "objective", "attacks": "attack", "reports": "report"}
SHARED = {  # options of every attack, C.4; a kind that names one in its signature may give it another default
    "eps": (quantities.Radii | None, None),  # radii, for kinds that take them; none given: the data set's own
    "images": (quantities.Count, 200),  # test images: the first of a permutation of the test set
    "seed": (quantities.Index, 99),  # of that permutation and of all that is drawn after it
    "batch": (quantities.Count, 200),  # images at a time
}


NAMES = {name: value for name, value in vars(quantities).items() if name[0].isupper()} | {
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict, "Literal": Literal,
}  # fmt: skip


class Strict(BaseModel):
    """Base of every checked mapping: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


def kinds(category: str) -> list[str]:
    """Kinds of a category: the files of its folder."""
    return sorted(path.stem for path in (FOLDER / category).glob("*.py") if not path.stem.startswith("_"))


def unknown(what: str, name: object, known: list[str]) -> str:
    """One line for a name that is not there, with the nearest one that is."""
    shown = str(name)[:SHOWN]
    near = difflib.get_close_matches(shown, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"no {what} '{shown}'; have: {', '.join(known) or 'none'}{hint}"


@cache
def options(category: str, kind: str) -> type[Strict]:
    """The checked options of a kind: a model with one field per keyword-only argument of its function."""
    tree = ast.parse((FOLDER / category / f"{kind}.py").read_text())
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == ENTRY[category]]
    if not found:
        raise IrpipeError(f"{category}/{kind}.py: no function '{ENTRY[category]}'; every kind has exactly one")
    named = {argument.arg for argument in found[0].args.kwonlyargs}
    fields: dict[str, Any] = {}
    if category == "attacks":
        fields = {name: field for name, field in SHARED.items() if name != "eps" or name in named}
    for argument, default in zip(found[0].args.kwonlyargs, found[0].args.kw_defaults, strict=True):
        if argument.annotation is None:
            raise IrpipeError(f"{category}/{kind}.py: option '{argument.arg}' has no type")
        if default is None and argument.arg in fields:
            continue  # every kind of this category has it, with a shared default
        annotation = eval(ast.unparse(argument.annotation), dict(NAMES))
        fields[argument.arg] = (annotation, ... if default is None else ast.literal_eval(default))
    return create_model(f"{category}/{kind}", __base__=Strict, **fields)


def explain(error: ValidationError, where: str) -> IrpipeError:
    """Turn the first finding of a failed check into one line that names the key."""
    first = error.errors()[0]
    key = ".".join([where, *(str(part) for part in first["loc"])]).strip(".")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return IrpipeError(f"{key}: unknown key; remove it or correct its spelling")
    if first["type"] == "missing":
        return IrpipeError(f"{key}: missing")
    return IrpipeError(f"{key}: {message[0].lower()}{message[1:]}; found {reprlib.repr(first['input'])}")


def resolve(category: str, entry: object, where: str) -> dict[str, Any]:
    """Check one named entry and fill in its defaults.

    `entry` is the mapping from the config, `where` the key to name in messages. Returns `{kind, ...all options}` as
    JSON values. Raises IrpipeError for an unknown kind or key, a wrong type or a number out of range.
    """
    if not isinstance(entry, dict) or "kind" not in entry:
        wanted = f"a mapping with a kind, such as {{kind: {kinds(category)[0]}}}"
        raise IrpipeError(f"{where}: expected {wanted}; found {reprlib.repr(entry)}")
    kind = entry["kind"]
    if kind not in kinds(category):
        raise IrpipeError(f"{where}.kind: {unknown(category.removesuffix('s') + ' kind', kind, kinds(category))}")
    model = options(category, kind)
    given = {key: value for key, value in entry.items() if key != "kind"}
    wrong = [key for key in given if key not in model.model_fields]
    if wrong:
        raise IrpipeError(f"{where}.{wrong[0]}: {unknown('option', wrong[0], sorted(model.model_fields))}")
    try:
        checked = model.model_validate(given)
    except ValidationError as error:
        raise explain(error, where) from error
    return {"kind": kind, **checked.model_dump(mode="json")}
