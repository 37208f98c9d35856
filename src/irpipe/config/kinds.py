"""The grammar of everything that has a name: `{kind: <file name>, ...options}`.

The kind is a file in `datasets/`, `methods/`, `attacks/` or `reports/`; the folder listing is the
registry. Or it is a file beside the config, such as `./my/method.py` (`outside_code`). A kind's
options are the keyword-only arguments of its one function. They are read from the source. So
checking a config imports no torch and runs no code, and each default stands in one place, the
signature.
"""

import ast
import reprlib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model

from irpipe import option_types
from irpipe.errors import MAX_NAME_SHOWN, IrpipeError, no_such, reason_of
from irpipe.outside_code import imported_names, is_outside, outside_file, parse_file

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
FUNCTION_OF_CATEGORY = {
    "datasets": "load",
    "methods": "objective",
    "attacks": "attack",
    "reports": "report",
}
# Options that every attack accepts (C.4). A kind that names one in its own signature may give
# it another default.
COMMON_ATTACK_OPTIONS: dict[str, tuple[Any, Any]] = {
    # l-inf bounds. None means the data set's EVAL_EPS. Only for kinds whose attack() takes eps.
    "eps": (option_types.EpsList | None, None),
    # Test images: the first of a random permutation of the test set.
    "images": (option_types.Count, 200),
    # Seeds that permutation, then all random numbers of the attack.
    "seed": (option_types.Seed, 99),
    # Images at a time.
    "batch_size": (option_types.Count, 200),
}
# Kind and name of the table that checks proofs against attacks.
CROSS_CHECK = "cross_check"
# The function by which a report writes its files: the section of configs that it belongs to.
SECTION_OF_WRITER = {
    "irpipe.reports._render.write": "tables",
    "irpipe.reports._plotting.save_figure": "figures",
}
# What the annotation of an option may name.
BUILTIN_TYPES = {kind.__name__: kind for kind in (int, float, str, bool, list, dict)}
OPTION_TYPES = {
    **{name: value for name, value in vars(option_types).items() if name[0].isupper()},
    **BUILTIN_TYPES,
    "Literal": Literal,
}


class StrictModel(BaseModel):
    """Base of every checked mapping: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


def kinds(category: str) -> list[str]:
    """Kinds of a category: the files of its folder, except those that begin with `_`."""
    return sorted(path.stem for path in (PACKAGE_FOLDER / category).glob("[!_]*.py"))


def kind_file(category: str, kind: str) -> Path:
    """The file of a kind. Raises IrpipeError if a file beside the config is missing."""
    return outside_file(kind) if is_outside(kind) else PACKAGE_FOLDER / category / f"{kind}.py"


def options_model(category: str, kind: str, is_linf: bool = True) -> type[StrictModel]:
    """A pydantic model with one field per option of a kind. It checks the kind's entries.

    If eps is no l-inf bound (not `is_linf`), it may exceed 1.

    Raises IrpipeError if the kind's file lacks its function, or an option has no type.
    """
    path = kind_file(category, kind)
    return _options_model(category, path.resolve(), path.stat().st_mtime_ns, is_linf)


@cache
def _options_model(category: str, path: Path, _mtime: int, is_linf: bool) -> type[StrictModel]:
    """As `options_model`, for a file that was changed last at a time."""
    arguments = _option_arguments(category, path)
    location = f"{category}/{path.name}" if path.is_relative_to(PACKAGE_FOLDER) else str(path)
    names = {argument.arg for argument, _ in arguments}
    fields: dict[str, Any] = {}
    if category == "attacks":
        fields = dict(COMMON_ATTACK_OPTIONS)
        if "eps" not in names:
            del fields["eps"]
    for argument, default in arguments:
        if argument.annotation is None:
            raise IrpipeError(f"{location}: option '{argument.arg}' has no type")
        if default is None and argument.arg in fields:
            continue  # a common option with its common default
        key = f"{location}: option '{argument.arg}'"
        fields[argument.arg] = (_type_of(argument.annotation, key), _default(default, key))
    if not is_linf and fields.get("eps") == COMMON_ATTACK_OPTIONS["eps"]:
        fields["eps"] = (option_types.NormEpsList | None, None)
    try:
        return create_model(location, __base__=StrictModel, **fields)
    except (TypeError, ValueError, NameError, PydanticUserError) as error:
        raise IrpipeError(f"{location}: {reason_of(error)}") from error


def _type_of(annotation: ast.expr, key: str) -> Any:
    """The type that an annotation names. Nothing else in it is evaluated."""
    try:
        text = ast.unparse(annotation)
    except RecursionError as error:
        raise IrpipeError(f"{key} has a type of too many parts") from error
    for node in ast.walk(annotation):
        is_name = isinstance(node, ast.Name) and node.id in OPTION_TYPES
        is_union = isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
        plain = ast.Constant | ast.Subscript | ast.Tuple | ast.expr_context | ast.BitOr
        if not (is_name or is_union or isinstance(node, plain)):
            known = ", ".join(sorted(OPTION_TYPES))
            start = text[:MAX_NAME_SHOWN]
            raise IrpipeError(f"{key} has type '{start}'; have: {known}")
    try:
        return eval(text, {"__builtins__": {}, **OPTION_TYPES})
    except (TypeError, NameError, AttributeError) as error:
        raise IrpipeError(f"{key} has no type ({error})") from error


def _default(default: ast.expr | None, key: str) -> Any:
    """The value of a default; `...` if there is none."""
    try:
        return ... if default is None else ast.literal_eval(default)
    except (ValueError, TypeError) as error:
        raise IrpipeError(f"{key} has a default that is no plain value") from error


def _option_arguments(category: str, path: Path) -> list[tuple[ast.arg, ast.expr | None]]:
    """The keyword-only arguments of a kind's function, each with its default or None."""
    name = FUNCTION_OF_CATEGORY[category]
    for statement in parse_file(path).body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            arguments = statement.args
            return list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    raise IrpipeError(f"{path}: no function '{name}'; every kind of {category} has exactly one")


def check_model_file(model: str) -> None:
    """Raise IrpipeError unless `./FILE.py` is a file beside the config that has `build`."""
    path = outside_file(model)
    functions = [item.name for item in parse_file(path).body if isinstance(item, ast.FunctionDef)]
    if "build" not in functions:
        raise IrpipeError(f"{path}: no function 'build'; a model has build(shape, classes)")


def as_one_line_error(error: ValidationError, location: str) -> IrpipeError:
    """The first fault that pydantic reports, as an error of one line that names the key."""
    first = error.errors()[0]
    key = ".".join([location, *(str(part) for part in first["loc"])]).strip(".")
    if first["type"] == "extra_forbidden":
        return IrpipeError(f"{key}: unknown key; remove it or correct its spelling")
    if first["type"] == "missing":
        return IrpipeError(f"{key}: missing")
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return IrpipeError(f"{key}: {message}; found {reprlib.repr(first['input'])}")


def resolve_entry(category: str, entry: object, location: str) -> dict[str, Any]:
    """The checked entry as `{kind, ...all options}`, in JSON values and with its defaults.

    `entry` is the mapping from the config. `location` is its key, for messages. Raises IrpipeError
    for an unknown kind or key, a wrong type or a number out of range.
    """
    available = kinds(category)
    if not isinstance(entry, dict) or "kind" not in entry:
        expected = f"a mapping with a kind, such as {{kind: {available[0]}}}"
        raise IrpipeError(f"{location}: expected {expected}; found {reprlib.repr(entry)}")
    kind = entry["kind"]
    if not is_outside(kind) and kind not in available:
        noun = f"{category.removesuffix('s')} kind"
        raise IrpipeError(f"{location}.kind: {no_such(noun, kind, available)}")
    try:
        model = options_model(category, kind, entry.get("norm", "linf") == "linf")
    except IrpipeError as error:
        raise IrpipeError(f"{location}.kind: {error}") from error
    options = {key: value for key, value in entry.items() if key != "kind"}
    for key in options:
        if key not in model.model_fields:
            known = sorted(model.model_fields)
            raise IrpipeError(f"{location}.{key}: {no_such('option', key, known)}")
    try:
        checked = model.model_validate(options)
    except ValidationError as error:
        raise as_one_line_error(error, location) from error
    return {"kind": kind, **checked.model_dump(mode="json")}


def check_section(section: str, kind: str, location: str) -> None:
    """Raise IrpipeError if a kind of table is among the figures, or one of figure among the tables.

    A report that writes its files by a function of its own may be in either.
    """
    imported = imported_names(parse_file(kind_file("reports", kind)))
    sections = [SECTION_OF_WRITER[name] for name in SECTION_OF_WRITER if name in imported]
    if sections and section not in sections:
        noun = sections[0].removesuffix("s")
        raise IrpipeError(
            f"{location}.kind: {kind} makes a {noun}; name it in {sections[0]}, or after --{noun}"
        )


def attacks_of(entry: dict[str, Any]) -> list[str]:
    """The attacks whose results a checked entry of `tables` or `figures` shows."""
    attacks = entry.get("attacks") or [entry.get("attack")]
    attacks = [*attacks, *(entry.get("certify") or [])]
    return [attack for attack in dict.fromkeys(attacks) if attack is not None]
