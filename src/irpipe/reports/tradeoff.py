"""The discrepancy that sneaking attacks need, against their radius (Figure 2 (a) and (b))."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import CLASS_SETS, INTERPRETERS, NORMS
from irpipe.quantities import Index
from irpipe.reports.parts import nds
from irpipe.reports.parts.draw import save, style
from irpipe.reports.parts.selection import method, name, network, pair_of, select
from irpipe.stats import bootstrap

COLOURS = {"one": "#D55E00", "two": "#0072B2", "all": "#009E73"}  # Okabe and Ito


def report(
    results: list[Result], output: Path, *, title: str, attack: str = "isa", image: Index | None = None
) -> list[Path]:
    """Draw one row of panels per network, a panel per norm, as `output`.png, .pdf and .svg; return the paths.

    A line shows how a measure's discrepancy (for l2 its square, C.5 I13), as the running minimum over growing radii,
    falls. Of one `image`, by its place in the test set: against the radius. Of none: the mean over the images whose
    points are all valid, with its 95% bootstrap band, against the penalty, the radius over each image's smallest. The
    hollow point is the plain attack. Raises IrpipeError as `selection.select` does, and if a result lacks the
    image or has nothing to draw.
    """
    arrays = (*nds.ARRAYS, "discrepancy", "index")
    chosen = [result for members in select(results, attack, output.name, arrays).values() for result in members]
    norms = list(dict.fromkeys(s.norm for result in chosen for s in nds.measured_by(result)))
    with style():
        size = (3.6 * len(norms) + 0.4, 2.9 * len(chosen) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(chosen), len(norms), squeeze=False)
        for row, result in zip(panels, chosen, strict=True):
            for panel, norm in zip(row, norms, strict=True):
                _panel(panel, result, norm, image, output.name)
        figure.suptitle(title, fontsize=10)
        return save(figure, output)


def _panel(panel: Axes, result: Result, norm: str, image: int | None, report: str) -> None:
    for place, specification in enumerate(nds.measured_by(result)):
        if specification.norm == norm:
            colour, label = COLOURS[specification.classes], CLASS_SETS[specification.classes]
            x, y, low, high = _line(result, place, image, report)
            panel.plot(x, y, "-o", color=colour, label=label, linewidth=1.3, markersize=3)
            panel.plot(x[:1], y[:1], "o", color=colour, markerfacecolor="white", markersize=6)
            panel.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0)
    interpreter = INTERPRETERS[result.attrs["spec"]["interpreter"]]
    panel.set_title(f"{network(pair_of(result))}, {method(result)}, {interpreter}", fontsize=9)
    panel.set_ylabel(f"{'squared ' if norm == 'l2' else ''}{NORMS[norm]} discrepancy")
    panel.set_xlabel("radius over the smallest one" if image is None else "radius ε")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25, linewidth=0.5)
    panel.legend(frameon=False, fontsize=8, loc="lower left")


def _line(
    result: Result, place: int, image: int | None, report: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places, values and their interval, `[E]`, of one measure."""
    values, radius, valid = (result.arrays[key][:, :, place] for key in ("discrepancy", "radius", "valid"))
    if image is not None:
        (row,) = np.nonzero(result.arrays["index"] == image)
        if not (row.size and valid[row[0]].any()):
            missing = "has no valid attack on" if row.size else "does not have"
            raise IrpipeError(f"{report}: {name(result)} {missing} test image {image}")
        kept = valid[row[0]]
        line = np.minimum.accumulate(values[row[0], kept])
        return radius[row[0], kept], line, line, line
    whole = np.minimum.accumulate(values[valid.all(axis=1)], axis=1)
    if not len(whole):
        raise IrpipeError(f"{report}: {name(result)} has no image with valid attacks at every radius")
    bounds = np.array([bootstrap(column) for column in whole.T])
    return np.array([1, *result.attrs["spec"]["penalties"]]), whole.mean(axis=0), bounds[:, 0], bounds[:, 1]
