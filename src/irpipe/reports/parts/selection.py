"""What every report does first: check that results belong together, pick those of one attack, order them."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import DATASETS, METHODS, MODELS, place
from irpipe.stats import wilson

SAME = 1e-6  # radii closer than this are one radius; a pixel of 8 bits is 4e-3
Pair = tuple[str, str]  # data set, model
DECIDES = {  # attributes in which all results of an attack agree, and what they are called
    "code": "code",
    "data_sha256": "data",
    "spec": "options",
    "sources_sha256": "source networks",
}
ACCURACY = ("eps", "steps", "correct", "radius")  # arrays of a result with accuracy over radii and steps


class Rate(NamedTuple):
    """Share of `n` images, with its 95% Wilson interval."""

    value: float
    n: int
    low: float
    high: float


def pair_of(result: Result) -> Pair:
    """Data set and model of a result, as named in the config."""
    return result.attrs["dataset"], result.attrs["model"]


def name(result: Result) -> str:
    """What a result is of, as `dataset/model/method/run/attack`."""
    return "/".join(str(result.attrs[key]) for key in ("dataset", "model", "method", "run", "attack"))


def network(pair: Pair) -> str:
    """Display name of a data set and model; a name the paper does not have is shown as it is."""
    return f"{DATASETS.get(pair[0], pair[0])}, {MODELS.get(pair[1], pair[1])}"


def method(result: Result) -> str:
    """Display name of a result's method, with its run unless that is "released"."""
    plain, run = str(result.attrs["method"]), result.attrs["run"]
    return METHODS.get(plain, plain) + ("" if run == "released" else f" ({run})")


def select(
    results: Iterable[Result], attack: str, report: str, arrays: Iterable[str] = ACCURACY
) -> dict[Pair, list[Result]]:
    """Results of one attack by data set and model, in order; within those by method, then run.

    Raises IrpipeError, naming `report`, if two results say they are the same, if results of one kind and data
    set come from different code, if none is of this attack, or if one of it lacks one of the `arrays`.
    """
    results = list(results)
    _refuse_mixed(results, report)
    chosen = [result for result in results if result.attrs["attack"] == attack]
    if not chosen:
        found = ", ".join(sorted({result.attrs["attack"] for result in results})) or "no results at all"
        raise IrpipeError(f"{report}: wants results of attack '{attack}'; found {found}")
    for result in chosen:
        lacking = [key for key in arrays if key not in result.arrays]
        if lacking:
            kind = result.attrs["kind"]
            raise IrpipeError(f"{report}: {name(result)} is of kind '{kind}', which has no '{lacking[0]}'")
    chosen.sort(key=_order)
    pairs = itertools.groupby(chosen, key=pair_of)
    return {pair: list(members) for pair, members in pairs}


def together(
    results: Iterable[Result],
    attacks: Sequence[str],
    report: str,
    arrays: Sequence[str] = ACCURACY,
    partly: bool = False,
) -> dict[Pair, list[list[Result]]]:
    """Results of several attacks by data set and model: for each network, in order, one result an attack.

    Raises IrpipeError as `select` does, and, unless a part of them will do, if an attack was not run on a network that
    another was.
    """
    results = list(results)
    networks: dict[tuple[Any, ...], dict[str, Result]] = {}
    for attack in attacks:
        for result in itertools.chain(*select(results, attack, report, arrays).values()):
            networks.setdefault(_order(result), {})[attack] = result
    found: dict[Pair, list[list[Result]]] = {}
    for _, by_attack in sorted(networks.items()):
        first = next(iter(by_attack.values()))
        lacking = [attack for attack in attacks if attack not in by_attack]
        if lacking and not partly:
            raise IrpipeError(f"{report}: {name(first)} is there, but no result of '{lacking[0]}' on this network")
        found.setdefault(pair_of(first), []).append([by_attack[attack] for attack in attacks if attack in by_attack])
    return found


def _order(result: Result) -> tuple[Any, ...]:
    attrs = result.attrs
    run = attrs["run"]
    what = (place(DATASETS, attrs["dataset"]), place(MODELS, attrs["model"]), place(METHODS, attrs["method"]))
    return (*what, run != "released", len(run), run)  # seed2 before seed10


def _refuse_mixed(results: list[Result], report: str) -> None:
    seen: set[str] = set()
    first: dict[tuple[str, str, str], Result] = {}
    for result in results:
        if name(result) in seen:
            raise IrpipeError(f"{report}: two results of {name(result)}; give each one once")
        seen.add(name(result))
        other = first.setdefault((result.attrs["kind"], result.attrs["attack"], result.attrs["dataset"]), result)
        for key, what in DECIDES.items():
            if other.attrs.get(key) != result.attrs.get(key):
                theirs, ours = (f"{name(one)} is from {what} {one.attrs.get(key)}" for one in (other, result))
                raise IrpipeError(f"{report}: {theirs}, but {ours}; evaluate both again with the same {what}")


def located(result: Result, eps: float, steps: int) -> tuple[int, int] | None:
    """Where a radius and step count lie on the axes of a result's arrays; None if that was not evaluated."""
    at_eps = np.flatnonzero(np.isclose(result.arrays["eps"], eps, rtol=0, atol=SAME))
    at_steps = np.flatnonzero(result.arrays["steps"] == steps)
    return (int(at_eps[0]), int(at_steps[0])) if at_eps.size and at_steps.size else None


def correct(result: Result, eps: float, steps: int) -> np.ndarray | None:
    """Which images are right at one radius and step count, `[N]`; None if that was not evaluated."""
    at = located(result, eps, steps)
    if at is None:
        return None
    found: np.ndarray = result.arrays["correct"][:, *at].astype(bool)
    return found


def rate(result: Result, eps: float, steps: int) -> Rate | None:
    """Adversarial test accuracy at one radius and step count; None if that was not evaluated."""
    found = correct(result, eps, steps)
    if found is None:
        return None
    count, n = int(found.sum()), len(found)
    return Rate(count / n, n, *wilson(count, n))


def eps_label(eps: float) -> str:
    """A radius as people write it: "0.05", else "2/255" if it is one of those."""
    steps = eps * 255
    if abs(eps - round(eps, 3)) > SAME and abs(steps - round(steps)) < 255 * SAME:
        return f"{round(steps)}/255"
    return f"{eps:.4g}"
