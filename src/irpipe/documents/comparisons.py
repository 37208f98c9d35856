"""How many cells of the paper's tables the results of released networks reproduce, how closely."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from irpipe.analysis.nds import measures_of, scores_of
from irpipe.analysis.table5_scoring import score_as_released
from irpipe.documents.cells import network_name
from irpipe.documents.numbers import Name, Number, Source
from irpipe.published import (
    METHODS,
    PGD_TABLES,
    PublishedKey,
    Table1Key,
    published_table,
    published_table1,
    table5,
)
from irpipe.results.accuracy import accuracy
from irpipe.results.labels import eps_label
from irpipe.results.rank_correlation import MIN_N_FOR_INTERVAL, rank_correlation
from irpipe.results.result import Result

TAU_TABLES = ("2", "A4", "A5")
ROUNDING = 1e-6  # of differences between numbers with three decimals
TABLE1_IMAGES = 100  # C.5 I9
Sourced = tuple[Result, Source]
# By network and attack: `dataset/model/method/run`, the attack's name in the config.
ByName = Mapping[tuple[str, str], Sourced]


class Cell(NamedTuple):
    """A cell of `table`: the published and the measured value, a mean over `n` images."""

    table: str
    key: PublishedKey
    published: float
    measured: float
    n: int
    source: Source

    @property
    def difference(self) -> float:
        """Measured minus published."""
        return self.measured - self.published


def comparison_numbers(results: Sequence[Sourced]) -> Iterator[tuple[Name, Number]]:
    """The counts by name: table kind (pgd, tau, table5, table1); data set and model; field."""
    by_name = {
        (network_name(result), str(result.attrs["attack"])): (result, source)
        for result, source in results
    }
    for pair, cells in _by_pair(_accuracy_cells(by_name)).items():
        yield from _named(("pgd", pair), _pgd_fields(cells), cells)
    for pair, cells in _by_pair(_tau_cells(by_name)).items():
        yield from _named(("tau", pair), _tau_fields(cells), cells)
    for pair, cells in _by_pair(_table5_cells(by_name)).items():
        differences = [abs(cell.difference) for cell in cells]
        fields = {
            "cells": str(len(cells)),
            "largest": f"{max(differences):.3f}",
            "mean": f"{np.mean(differences):.4f}",
        }
        yield from _named(("table5", pair), fields, cells)
    yield from _table1_counts(results)


def _accuracy_cells(results: ByName) -> Iterator[Cell]:
    for table in PGD_TABLES:
        for key, value in published_table(table).items():
            result, source = results.get((_network(key), key.attack), (None, None))
            if result and source and key.eps is not None and key.steps is not None:
                measured = accuracy(result, key.eps, key.steps)
                if measured:
                    yield Cell(table, key, value.value, measured.value, measured.n, source)


def _tau_cells(results: ByName) -> Iterator[Cell]:
    """Cells of rank correlations that are over enough images for an interval."""
    for table in TAU_TABLES:
        for key, value in published_table(table).items():
            result, source = results.get((_network(key), key.attack), (None, None))
            if result and source and key.eps is not None and key.steps is not None:
                tau = rank_correlation(result, key.eps, key.steps)
                if tau and tau.n >= MIN_N_FOR_INTERVAL:
                    yield Cell(table, key, value.value, tau.value, tau.n, source)


def _table5_cells(results: ByName) -> Iterator[Cell]:
    """Cells of Table 5, scored as by the released code."""
    for key, value in published_table("5").items():
        result, source = results.get((_network(key), key.attack), (None, None))
        if result and source:
            eps = table5.EPS[key.attack]
            measured = accuracy(score_as_released(result), eps, table5.STEPS)
            if measured:
                yield Cell("5", key, value.value, measured.value, measured.n, source)


def _pgd_fields(cells: list[Cell]) -> dict[str, str]:
    images_off = [round(abs(cell.difference) * cell.n) for cell in cells]
    further = [cell for cell, count in zip(cells, images_off, strict=True) if count > 1]
    return {
        "networks": str(len({cell.key.method for cell in cells})),
        "cells": str(len(cells)),
        "equal": str(images_off.count(0)),
        "within one": str(images_off.count(1)),
        "further": str(len(further)),
        "which": "; ".join(map(_cell_text, further)) or "none",
    }


def _tau_fields(cells: list[Cell]) -> dict[str, str]:
    distances = np.array([abs(cell.difference) for cell in cells])
    return {
        "networks": str(len({cell.key.method for cell in cells})),
        "cells": str(len(cells)),
        "within .005": str(int((distances <= 0.005 + ROUNDING).sum())),
        "within .010": str(int((distances <= 0.010 + ROUNDING).sum())),
        "largest": f"{distances.max():.4f}",
        "above": str(sum(cell.difference > 0.005 + ROUNDING for cell in cells)),
        "below": str(sum(cell.difference < -0.005 - ROUNDING for cell in cells)),
        "which": _cell_text(cells[int(distances.argmax())]),
    }


def _table1_counts(results: Sequence[Sourced]) -> Iterator[tuple[Name, Number]]:
    """How many NDS of Table 1 are within 5% and 15%, for IG and for the other interpreters."""
    distances: dict[tuple[str, str], list[tuple[float, Source]]] = {}
    for result, source in results:
        attrs = result.attrs
        if attrs["kind"] != "isa" or len(result.arrays["indices"]) != TABLE1_IMAGES:
            continue
        dataset, interpreter = attrs["dataset"], attrs["options"]["interpreter"]
        network = dataset, attrs["model"], attrs["method"]
        for index, measure in enumerate(measures_of(result)):
            published = published_table1().get(Table1Key(*network, interpreter, *measure))
            if published:
                # C.5 I5: this column prints squares.
                is_squared = interpreter != "ig" and tuple(measure) == ("l2", "one")
                nds = scores_of(result, index, squared=is_squared).nds
                group = (dataset, "ig" if interpreter == "ig" else "maps")
                distances.setdefault(group, []).append((abs(nds / published.nds - 1), source))
    for group, pairs in distances.items():
        sources = tuple(source for _, source in pairs)
        texts = {
            "cells": len(pairs),
            "within 5%": sum(distance <= 0.05 for distance, _ in pairs),
            "within 15%": sum(distance <= 0.15 for distance, _ in pairs),
        }
        for field, count in texts.items():
            yield ("table1", *group, field), Number(str(count), sources)


def _network(key: PublishedKey) -> str:
    return f"{key.dataset}/{key.model}/{key.method}/released"


def _by_pair(cells: Iterator[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(f"{cell.key.dataset}/{cell.key.model}", []).append(cell)
    return groups


def _named(
    name: Name, fields: Mapping[str, str], cells: list[Cell]
) -> Iterator[tuple[Name, Number]]:
    sources = tuple(dict.fromkeys(cell.source for cell in cells))
    for field, text in fields.items():
        yield (*name, field), Number(text, sources)


def _cell_text(cell: Cell) -> str:
    """Such as "Int, ε = 0.3, 200 steps: 0.375 (0.390)"."""
    place = f"{METHODS[cell.key.method]}, ε = {eps_label(cell.key.eps or 0)}"
    return f"{place}, {cell.key.steps} steps: {cell.measured:.3f} ({cell.published:.3f})"
