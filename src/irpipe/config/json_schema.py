"""The JSON schema of configs, so that editors complete keys: `python -m irpipe.config.json_schema`.

It is exported from the models that check configs, and lies in config/schema.json. A test checks
that the file is up to date.
"""

import json
from typing import Any

from pydantic import TypeAdapter

from irpipe.config import CATEGORY_OF_SECTION
from irpipe.config.kinds import FUNCTION_OF_CATEGORY, kinds, options_model
from irpipe.config.schema import Config

# JSON schema's names of bounds. After a BeforeValidator, pydantic exports its own names.
BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "le": "maximum", "lt": "exclusiveMaximum"}
# A file next to the config, whose options the schema cannot know.
OUTSIDE_ENTRY = {
    "type": "object",
    "required": ["kind"],
    "properties": {"kind": {"type": "string", "pattern": r"^\./.*\.py$"}},
}
# A number may be written as a fraction, such as 8/255.
FRACTION = {"type": "string", "pattern": r"^\s*\d+\s*/\s*\d+\s*$"}


def config_schema() -> dict[str, Any]:
    """The JSON schema of configs, in which a named entry has one variant per kind."""
    schema = TypeAdapter(Config).json_schema()
    definitions = schema["$defs"]
    definitions["Recipe"] = _as_written(definitions["Recipe"])
    for category in FUNCTION_OF_CATEGORY:
        variants = [_entry_schema(category, kind) for kind in kinds(category)]
        variants.append(OUTSIDE_ENTRY)
        definitions[category] = {"type": "object", "required": ["kind"], "oneOf": variants}
    for section, category in CATEGORY_OF_SECTION.items():
        entries = schema["properties"][section]
        entries["additionalProperties"] = {"$ref": f"#/$defs/{category}"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _entry_schema(category: str, kind: str) -> dict[str, Any]:
    """The schema of `{kind: ..., ...options}` for one kind."""
    schema = TypeAdapter(options_model(category, kind)).json_schema()
    options = {name: _as_written(option) for name, option in schema.get("properties", {}).items()}
    for name, option in options.items():
        options[name] = _with_single_value(option)
    schema["properties"] = {"kind": {"const": kind}, **options}
    schema["required"] = ["kind", *schema.get("required", [])]
    return schema


def _as_written(schema: Any) -> Any:
    """The same schema in which a number may be a fraction."""
    if isinstance(schema, list):
        return [_as_written(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "number":
        notes: dict[str, Any] = {key: schema[key] for key in ("title", "default") if key in schema}
        number = {BOUNDS.get(key, key): schema[key] for key in schema if key not in notes}
        return {"anyOf": [number, FRACTION], **notes}
    return {key: _as_written(value) for key, value in schema.items()}


def _with_single_value(option: dict[str, Any]) -> dict[str, Any]:
    """The same schema in which a single value stands for a list of one."""
    if "anyOf" in option:
        return option | {"anyOf": [_with_single_value(part) for part in option["anyOf"]]}
    if option.get("type") != "array":
        return option
    notes: dict[str, Any] = {key: option[key] for key in ("title", "default") if key in option}
    array = {key: value for key, value in option.items() if key not in notes}
    return {"anyOf": [array, array["items"]], **notes}


if __name__ == "__main__":
    print(json.dumps(config_schema(), indent=1))
