"""The few numbers at the top of a page of `irpipe stress`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from irpipe.reports.stress_page.numbers import StressNumbers
from irpipe.results.accuracy import Accuracy


class Tile(NamedTuple):
    """A number with its label, a note below, and the results that it comes from."""

    label: str
    number: str
    note: str
    sources: str


def make_tiles(numbers: StressNumbers) -> list[Tile]:
    """The tiles of a page; one that was not measured is left out."""
    attacks = [str(result.attrs["attack"]) for result in numbers.counted]
    tiles = []
    if numbers.clean:
        tiles.append(_accuracy_tile("clean accuracy", numbers.clean, [numbers.clean_attack]))
    if numbers.worst:
        label = f"accuracy under all attacks, {numbers.bound}"
        tiles.append(_accuracy_tile(label, numbers.worst, attacks))
    n_raised = sum(flag.is_raised and flag.about != "proofs" for flag in numbers.flags)
    note = f"{len(numbers.flags)} of {numbers.n_signs} signs looked for"
    number = str(n_raised) if numbers.flags else "–"
    tiles.append(Tile("signs of masking, or of a weak attack", number, note, "the table of signs"))
    if numbers.tau:
        result, tau = numbers.tau
        kept = "–" if math.isnan(tau.value) else f"{tau.value:z.2f}"
        note = (
            f"with the prediction kept, n = {tau.n}; "
            f"{tau.value_all:z.2f} with lost images counted as 0"
        )
        source = f"{result.attrs['attack']}.h5"
        tiles.append(Tile("Kendall's tau of the maps, worst attack", kept, note, source))
    return tiles


def _accuracy_tile(label: str, measured: Accuracy, attacks: Sequence[str]) -> Tile:
    note = f"[{measured.low:.1%}, {measured.high:.1%}], n = {measured.n}"
    sources = ", ".join(f"{attack}.h5" for attack in attacks)
    return Tile(label, f"{measured.value:.1%}", note, sources)
