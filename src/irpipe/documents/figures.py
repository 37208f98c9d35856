"""The figures of the documents, each drawn from the results that it shows."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from irpipe.documents.comparisons import Sourced
from irpipe.documents.numbers import Name, Number, short_sha256
from irpipe.documents.verdicts import claim_attacks, results_on_claims
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


def figure_numbers(
    sourced: Sequence[Sourced], has_verdict: bool, folder: Path
) -> Iterator[tuple[Name, Number]]:
    """Draw all figures for which there are results as `folder`/NAME.png.

    `has_verdict` says whether the results give a verdict on a claim.

    Yields the first digits of the SHA-256 of each file by name: figure; NAME.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, draw, shown in _figures(sourced, has_verdict):
            if shown:
                paths = draw([result for result, _ in shown], Path(scratch, name))
                png = next(path for path in paths if path.suffix == ".png")
                shutil.copy(png, folder)
                sources = dict.fromkeys(source for _, source in shown)
                yield ("figure", name), Number(short_sha256(png), tuple(sources))


def _figures(
    sourced: Sequence[Sourced], has_verdict: bool
) -> Iterator[tuple[str, Draw, list[Sourced]]]:
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
    draw = partial(claims_figure.report, title="Verdict", attacks=claim_attacks())
    yield "verdict", draw, results_on_claims(sourced) if has_verdict else []


def _of(sourced: Sequence[Sourced], *attacks: str) -> list[Sourced]:
    return [item for item in sourced if item[0].attrs["attack"] in attacks]
