"""Entries of the project's configs, which a process reads once for all of its tests."""

import copy
import functools
from typing import Any

from irpipe import config

_lookup = functools.cache(config.lookup)


def entry(section: str, name: str) -> dict[str, Any]:
    """A copy of the resolved entry, to change."""
    return copy.deepcopy(_lookup(section, name, None))
