"""Read YAML in which nothing is repeated, hidden or executed. Nothing here affects a number."""

import reprlib
from pathlib import Path
from typing import Any

import yaml

from irpipe.errors import IrpipeError

# Limits of a config. The longest that we ship has 9,600 bytes and 412 values, 5 deep.
MAX_BYTES = 2**16
MAX_VALUES = 10_000
MAX_DEPTH = 20
TOO_LARGE = f"too deep or too much; a config has {MAX_VALUES} values at most, {MAX_DEPTH} deep"


class _Loader(yaml.SafeLoader):
    """YAML of limited size, without duplicate keys and aliases (`*name`), which repeat a value."""

    n_values = 0
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; raises YAMLError at an alias, or at one value too many or too deep.

        It counts while it reads: a file of 64 kB can hold so many brackets that reading them all
        takes more than a second.
        """
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"line {line}: an alias (*name); write out what it stands for")
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        is_collection = self.check_event(yaml.CollectionStartEvent)
        self.n_values += not is_key
        self.depth += is_collection
        if self.n_values > MAX_VALUES or self.depth > MAX_DEPTH:
            raise yaml.YAMLError(TOO_LARGE)
        node = super().compose_node(parent, index)
        self.depth -= is_collection
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises YAMLError at a key that is no text, or that occurs twice."""
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise yaml.YAMLError(f"line {line}: a key that is no text")
            if key in keys:
                raise yaml.YAMLError(f"line {line}: key {key!r} a second time")
            keys.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, location: str) -> Any:
    """The content of a YAML text.

    Raises IrpipeError, which names `location`, if the text is not YAML, is too long or too deep,
    has a key twice or has aliases.
    """
    if len(text) >= MAX_BYTES:
        raise IrpipeError(f"{location}: longer than {MAX_BYTES} letters, which no config has to be")
    # PyYAML raises all of these: ValueError at 2024-13-45, AttributeError at an unclosed tag.
    faults = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except faults as error:
        raise IrpipeError(f"{location}: not YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises IrpipeError if the file is missing or has no mapping."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise IrpipeError(f"{path}: not a readable config ({reason})") from error
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        type_name = type(content).__name__
        raise IrpipeError(f"{path}: expected a mapping of sections; found {type_name}")
    return content


def check_plain_values(content: object, location: str) -> None:
    """Check that `content` consists of mappings, lists, texts and numbers of at most 64 bits.

    Snakemake reads configs by itself and accepts aliases, which multiply values. So there may be
    `MAX_VALUES` values at most, `MAX_DEPTH` deep. Raises IrpipeError, which names the key.
    """
    pending = [(location, content, 0)]
    n_checked = 0
    while pending:
        key, value, depth = pending.pop()
        n_checked += 1
        if isinstance(value, dict):
            pending += [(f"{key}.{name}", part, depth + 1) for name, part in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(f"{key}.{i}", part, depth + 1) for i, part in enumerate(value)]
        else:
            _check_scalar(key, value)
        if depth > MAX_DEPTH or n_checked + len(pending) > MAX_VALUES:
            raise IrpipeError(f"{key}: {TOO_LARGE}")


def _check_scalar(key: str, value: object) -> None:
    # The comparison is False for NaN, which pydantic would turn into None.
    if isinstance(value, int | float) and not abs(value) < 2**63:
        # Python refuses to print very long integers.
        number = f"{value:g}" if isinstance(value, float) else "more"
        raise IrpipeError(f"{key}: not a finite number of at most 64 bits; found {number}")
    if not isinstance(value, int | float | str | None):
        type_name = type(value).__name__
        raise IrpipeError(f"{key}: not a text, number, true, false or null; found {type_name}")
    if isinstance(value, str) and not value.isprintable():
        raise IrpipeError(f"{key}: has letters that cannot be printed; found {reprlib.repr(value)}")
