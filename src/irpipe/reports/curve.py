"""Adversarial test accuracy as a curve over radii or step counts, one panel per data set and model."""

import math
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import PGD_TABLES, values
from irpipe.quantities import Count
from irpipe.reports.parts.draw import Style, handles, key, save, style
from irpipe.reports.parts.selection import SAME, Pair, Rate, eps_label, name, network, rate, select

Points = list[tuple[float, Rate]]


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "pgd",
    over: Literal["eps", "steps"] = "eps",
    steps: Count = 200,
) -> list[Path]:
    """Draw accuracy with its 95% Wilson band as `output`.png, .pdf and .svg; return the paths.

    The x axis holds all radii (l-infinity, [0, 1]) at `steps` steps, or all step counts at the training
    radius. Published values are hollow markers. Equal results give equal bytes. Raises IrpipeError as
    `selection.select` does, and if a result has nothing to draw.
    """
    chosen = select(results, attack, output.name)
    colours, styles = key([result for members in chosen.values() for result in members])
    wide = min(len(chosen), 3)
    tall = math.ceil(len(chosen) / wide)
    with style():
        figure = Figure(figsize=(3.4 * wide + 1.5, 2.9 * tall + 0.4), layout="constrained")
        panels = figure.subplots(tall, wide, squeeze=False).ravel()
        published = False
        for panel, (pair, members) in zip(panels, chosen.items(), strict=False):
            fixed = f"{steps} steps" if over == "eps" else f"ε = {eps_label(members[0].attrs['nominal_radius'])}"
            panel.set_title(f"{network(pair)}, {fixed}", fontsize=9)
            for result in members:
                points = _points(result, over, steps)
                if not points:
                    raise IrpipeError(f"{output.name}: {name(result)} was not evaluated at {fixed}")
                _draw(panel, points, colours[result.attrs["method"]], styles[result.attrs["run"]])
            published |= _draw_published(panel, pair, members, over, steps, colours)
            _dress(panel, members, over)
        for panel in panels[len(chosen) :]:
            panel.remove()
        figure.suptitle(title, fontsize=10)
        figure.legend(handles=_legend(colours, styles, published), loc="outside right upper", frameon=False, fontsize=8)
        return save(figure, output)


def _points(result: Result, over: str, steps: int) -> Points:
    if over == "eps":
        found = [(float(eps), rate(result, eps, steps)) for eps in result.arrays["eps"]]
    else:
        radius = result.attrs["nominal_radius"]
        found = [(float(count), rate(result, radius, count)) for count in result.arrays["steps"]]
    return sorted((x, ours) for x, ours in found if ours)


def _draw(panel: Axes, points: Points, colour: str, style: Style) -> None:
    x = [at for at, _ in points]
    panel.plot(x, [ours.value for _, ours in points], style, color=colour, linewidth=1.3)
    low, high = [ours.low for _, ours in points], [ours.high for _, ours in points]
    panel.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0)


def _draw_published(
    panel: Axes, pair: Pair, members: list[Result], over: str, steps: int, colours: dict[str, str]
) -> bool:
    """Mark what any table of the paper prints for these networks; tell whether there was something."""
    radius, methods = members[0].attrs["nominal_radius"], {result.attrs["method"] for result in members}
    points = set()
    for cell, printed in (item for table in PGD_TABLES for item in values(table).items()):
        if cell[:2] != pair or cell.method not in methods or cell.eps is None or cell.steps is None:
            continue
        if over == "eps" and cell.steps == steps:
            points.add((cell.eps, printed.value, colours[cell.method]))
        if over == "steps" and abs(cell.eps - radius) < SAME:
            points.add((float(cell.steps), printed.value, colours[cell.method]))
    for x, y, colour in sorted(points):
        panel.plot(x, y, "o", markersize=5, markerfacecolor="none", markeredgecolor=colour)
    return bool(points)


def _dress(panel: Axes, members: list[Result], over: str) -> None:
    panel.set_ylim(-0.02, 1.02)
    panel.set_ylabel("adversarial test accuracy")
    panel.grid(alpha=0.25, linewidth=0.5)
    if over == "steps":
        counts = sorted({int(count) for result in members for count in result.arrays["steps"]})
        panel.set_xscale("log")
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.set_xticks([], minor=True)
        panel.set_xlabel("steps")
        return
    radii = sorted({float(eps) for result in members for eps in result.arrays["eps"]})
    panel.set_xticks(radii, [eps_label(eps) for eps in radii])
    panel.set_xlabel("radius ε (\N{SCRIPT SMALL L}∞, pixel range [0, 1])")


def _legend(colours: dict[str, str], styles: dict[str, Style], published: bool) -> list[Line2D]:
    hollow = Line2D([], [], linestyle="", marker="o", markerfacecolor="none", color="#444444", label="published")
    return [*handles(colours, styles), *([hollow] if published else [])]
