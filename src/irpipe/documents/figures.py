"""The figures of the documents, each drawn from the results or the numbers that it shows."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from irpipe.analysis.claims import CLAIMS, Verdict
from irpipe.documents.comparisons import Sourced
from irpipe.documents.numbers import Name, Number, Numbers, Source, short_sha256
from irpipe.reports import (
    accuracy_curve,
    claims_figure,
    saliency_maps,
    training_cost,
    training_curves,
)
from irpipe.results.labels import dataset_model
from irpipe.results.result import Result

Draw = Callable[[list[Result], Path], list[Path]]
VERDICT: Name = ("figure", "verdict")
# Of the texts of a verdict: `under all attacks` and `proofs`.
DIFFERENCE = re.compile(r"difference (.+) \[(.+), (.+)\]$")
BRACKET = re.compile(r"the difference in \[(.+), (.+)\]$")


def figure_numbers(sourced: Sequence[Sourced], folder: Path) -> Iterator[tuple[Name, Number]]:
    """Draw all figures for which there are results as `folder`/NAME.png.

    Yields the first digits of the SHA-256 of each file by name: figure; NAME.
    """
    for name, draw, shown in _figures(sourced):
        if shown:
            text = _png(name, partial(draw, [result for result, _ in shown]), folder)
            sources = dict.fromkeys(source for _, source in shown)
            yield ("figure", name), Number(text, tuple(sources))


def verdict_figure(numbers: Numbers, folder: Path) -> dict[Name, Number]:
    """Draw the verdicts on the claims from the numbers of their page, as `folder`/verdict.png.

    So it shows the networks of all results from which the page was ever made. Returns its number,
    or nothing if no verdict is about a difference.
    """
    differences: list[claims_figure.Difference] = []
    sources: set[Source] = set()
    claims = [name for name in numbers if name[0] == "claim" and name[3:] == ("under all attacks",)]
    for name in sorted(claims, key=lambda name: int(name[1])):  # numbers new to a page come last
        number = numbers[name]
        if found := DIFFERENCE.search(number.text):
            proofs = numbers.get((*name[:3], "proofs"))
            differences.append(_difference(name, numbers[*name[:3], "verdict"].text, found, proofs))
            sources |= {*number.sources, *(proofs.sources if proofs else ())}
    if not differences:
        return {}
    text = _png(VERDICT[1], partial(claims_figure.draw, differences), folder)
    return {VERDICT: Number(text, tuple(sorted(sources)))}


def _difference(
    name: Name, verdict: str, found: re.Match[str], proofs: Number | None
) -> claims_figure.Difference:
    """The line of a claim that has this name and whose numbers are `found`."""
    dataset, model, run = name[2].split("/")
    value, low, high = map(float, found.groups())
    between = BRACKET.search(proofs.text) if proofs else None
    return claims_figure.Difference(
        CLAIMS[int(name[1]) - 1],
        (dataset, model),
        run,
        cast(Verdict, verdict),
        value,
        low,
        high,
        (float(between[1]), float(between[2])) if between else None,
    )


def _png(name: str, draw: Callable[[Path], list[Path]], folder: Path) -> str:
    """Draw `folder`/NAME.png; return the first digits of its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        paths = draw(Path(scratch, name))
        png = next(path for path in paths if path.suffix == ".png")
        shutil.copy(png, folder)
        return short_sha256(png)


def _figures(sourced: Sequence[Sourced]) -> Iterator[tuple[str, Draw, list[Sourced]]]:
    """Name, function and results of each figure."""
    small = [item for item in sourced if dataset_model(item[0]) == ("mnist", "small")]
    released = [item for item in small if item[0].attrs["run"] == "released"]
    trained = [item for item in small if item[0].attrs["run"] != "released"]
    logs = _of(trained, "training")
    title = "Accuracy under 200 steps of PGD"
    yield "mnist_small_eps", partial(accuracy_curve.report, title=title), _of(released, "pgd")
    yield "cpu_training", partial(training_curves.report, title="How training went"), logs
    title = "Figure 3: seconds per epoch and accuracy"
    attacked = _of(trained, "pgd")
    shown = logs + attacked if logs and attacked else []
    yield "cpu_figure_3", partial(training_cost.report, title=title), shown
    title, attack = "Figure 1: maps of a clean and an adversarial image", "pgd_maps_imagenet"
    draw = partial(saliency_maps.report, title=title, attack=attack)
    yield "figure_1_restricted_imagenet", draw, _of(sourced, attack)


def _of(sourced: Sequence[Sourced], *attacks: str) -> list[Sourced]:
    return [item for item in sourced if item[0].attrs["attack"] in attacks]
