"""The setting of Table 5, for the attacks and for the reports on them (C.6-3, U.0).

Here `options` are the resolved options of an attack, `{kind, ...}`.
"""

from collections.abc import Mapping
from typing import Any

# Column of the table -> eps, in the unit of its attack.
EPS = {
    "gabor": 400.0,
    "snow": 2.0,
    "jpeg_linf": 0.25,
    "jpeg_l2": 8.0,
    "jpeg_l1": 256.0,
    "fog": 2048.0,
}
STEPS = 200
OPTIONS = {
    "variant": "released",
    "step_rule": "released",
    "steps": STEPS,
    "targeted": True,
    "iterate": "last",
}
TITLES = {
    "gabor": "Gabor",
    "snow": "Snow",
    "jpeg_linf": "JPEG \N{SCRIPT SMALL L}∞",
    "jpeg_l2": "JPEG \N{SCRIPT SMALL L}2",
    "jpeg_l1": "JPEG \N{SCRIPT SMALL L}1",
    "fog": "Fog",
}
# Ranges that do not depend on eps. The released step does: a fault (U.0).
VARIABLE_RANGES = {"gabor": (-1, 1), "snow": (0, 1), "fog": (0, 1)}


def column(options: Mapping[str, Any]) -> str:
    """The table's column for an attack: its kind, with the norm if it has one."""
    norm = options.get("norm")
    return f"{options['kind']}_{norm}" if norm else str(options["kind"])


def default_eps(options: Mapping[str, Any]) -> list[float]:
    """The table's eps for an attack whose entry names none."""
    return [EPS[column(options)]]


def is_published_setting(options: Mapping[str, Any]) -> bool:
    """Whether an attack is the table's, whatever its eps, images and seeds are."""
    return all(options.get(key, value) == value for key, value in OPTIONS.items())
