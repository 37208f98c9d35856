"""The numbers of one result: its accuracies, rank correlations and discrepancy scores."""

from collections.abc import Iterator

import numpy as np

from irpipe.analysis.nds import NDS_ARRAYS, scores_of
from irpipe.analysis.table5_scoring import score_as_released
from irpipe.documents.numbers import Name, Number, Source
from irpipe.results import to_frame
from irpipe.results.labels import eps_label, measure_labels
from irpipe.results.result import Result

# Columns of `to_frame`; what a result does not have is NaN there.
SHARES = ("accuracy", "certified", "undecided", "tau")


def network_name(result: Result) -> str:
    """The name of a result's network: `dataset/model/method/run`."""
    return "/".join(str(result.attrs[key]) for key in ("dataset", "model", "method", "run"))


def result_numbers(result: Result, source: Source) -> Iterator[tuple[Name, Number]]:
    """The numbers of a result by name.

    - COLUMN; ATTACK; NETWORK; EPS; STEPS for each of SHARES, and `as_scored` for the accuracy as
      the released code scores images that became NaN (C.6-3);
    - isa; NETWORK; INTERPRETER; MEASURE; IMAGES; FIELD for the scores of sneaking attacks;
    - device; ATTACK; NETWORK, and the field `device` of those scores, for what computed them.
    """
    if all(name in result.arrays for name in NDS_ARRAYS):
        yield from _discrepancy_scores(result, source)
    if "eps" not in result.arrays or "steps" not in result.arrays:
        return
    place = (str(result.attrs["attack"]), network_name(result))
    for row in to_frame(result).to_dict("records"):
        cell = (*place, eps_label(row["eps"]), str(row["steps"]))
        for column in SHARES:
            if not np.isnan(row[column]):
                yield (column, *cell), Number(f"{row[column]:.3f}", (source,))
    if "nan" in result.arrays:
        for row in to_frame(score_as_released(result)).to_dict("records"):
            cell = (*place, eps_label(row["eps"]), str(row["steps"]))
            yield ("as_scored", *cell), Number(f"{row['accuracy']:.3f}", (source,))
    yield ("device", *place), Number(_device(result), (source,))


def _device(result: Result) -> str:
    versions = result.attrs["versions"]
    return f"{versions['device']}, torch {versions['torch']}"


def _discrepancy_scores(result: Result, source: Source) -> Iterator[tuple[Name, Number]]:
    network, n_images = network_name(result), str(len(result.arrays["indices"]))
    interpreter = str(result.attrs["options"].get("interpreter", "cam"))
    for index, label in enumerate(measure_labels(result)):
        name = ("isa", network, interpreter, label, n_images)
        scores = scores_of(result, index)
        yield (*name, "n"), Number(str(scores.n_images), (source,))
        yield (*name, "device"), Number(_device(result), (source,))
        if scores.n_images:
            squared = scores_of(result, index, squared=True)
            texts = {
                "nds": f"{scores.nds:.3f}",
                "interval": f"[{scores.low:.1f}, {scores.high:.1f}]",
                "nsl": f"{scores.nsl_per_point:.4f}",
                "squared nds": f"{squared.nds:.3f}",
                "squared nsl": f"{squared.nsl_per_point:.4f}",
            }
            for field, text in texts.items():
                yield (*name, field), Number(text, (source,))
