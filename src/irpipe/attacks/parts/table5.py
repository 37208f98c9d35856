"""What Table 5 of the paper did: shared by the attacks and by the reports on them (protocol C.6-3)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from irpipe.io import Result

RADII = {"gabor": 400.0, "snow": 2.0, "jpeg_linf": 0.25, "jpeg_l2": 8.0, "jpeg_l1": 256.0, "fog": 2048.0}
STEPS = 200
OPTIONS = {"variant": "code", "step": "code", "steps": STEPS, "targeted": True, "iterate": "last"}
TITLES = {
    "gabor": "Gabor",
    "snow": "Snow",
    **{f"jpeg_l{p}": f"JPEG \N{SCRIPT SMALL L}{sign}" for p, sign in (("inf", "∞"), ("2", "2"), ("1", "1"))},
    "fog": "Fog",
}
# of the variables that do not grow with eps, so that their steps should not either
RANGES = {"gabor": (-1, 1), "snow": (0, 1), "fog": (0, 1)}


def column(spec: Mapping[str, Any]) -> str:
    """The column of the table that an attack's entry belongs to."""
    return "_".join(filter(None, (spec["kind"], spec.get("norm"))))


def radii(spec: Mapping[str, Any]) -> list[float]:
    """The radii of an entry that names none: the table's, in the attack's own space."""
    return [RADII[column(spec)]]


def as_published(spec: Mapping[str, Any]) -> bool:
    """Whether an attack's entry is what the table did, whatever its radii, sample and draws."""
    return all(spec.get(key, value) == value for key, value in OPTIONS.items())


def title(result: Result) -> str:
    """Display name of a result's attack: as printed if it is what the table did, else its name in the config."""
    attrs = result.attrs
    return TITLES[column(attrs["spec"])] if as_published(attrs["spec"]) else str(attrs["attack"])


def as_scored(result: Result) -> Result:
    """A result as the released code scores it: an image whose iterate is NaN counts as one of class 0."""
    zero = (result.arrays["label"] == 0)[:, None, None]
    correct = np.where(result.arrays["nan"], zero, result.arrays["correct"])
    return Result(result.attrs, result.arrays | {"correct": correct})
