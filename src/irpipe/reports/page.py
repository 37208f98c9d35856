"""The verdict as a page of the documentation: how it was made, a figure, and the table."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.io import Result, replacing
from irpipe.quantities import Names
from irpipe.reports import verdict
from irpipe.reports.parts.claims import Finding
from irpipe.reports.parts.draw import save, style
from irpipe.reports.parts.render import markdown
from irpipe.reports.parts.selection import network, pair_of

TINT = {"holds": "#009E73", "holds weaker": "#E69F00", "not supported": "#D55E00"}  # Okabe and Ito's
HEAD = """<!-- Generated; edit nothing here. To make it again, after the workflow of config/stress.yaml has run:

    irpipe report --table '{name}={{kind: page, title: "{title}"}}' $(find results -name '*.h5') --output docs
-->

![Differences under all attacks, with 95% intervals, and the bound of each claim]({name}.svg)
"""


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = [  # noqa: B006 (read, never changed)
        "pgd",
        "strong",
        "autoattack",
        "square",
        "transfer_mnist_small",
        "transfer_mnist_pool",
        "transfer_cifar10_small",
        "transfer_cifar10_wresnet",
        "aai_cam",
        "aai_topk",
        "aai_centre",
        "aai_two_class",
        "aai_target",
        "aai_gradcampp",
        "aai_gradcampp_topk",
        "aai_gradcampp_centre",
        "aai_gradcampp_two_class",
        "aai_gradcampp_target",
    ],
) -> list[Path]:
    """Write the page as NAME.md beside NAME.png, .pdf and .svg, NAME being `output`'s without "table_"; return them.

    Raises IrpipeError as `verdict.made` does.
    """
    output = output.with_name(output.name.removeprefix("table_"))
    page, judged = verdict.made(results, output.name, title, attacks)
    figure = save(_figure(judged), output)
    path = output.with_name(f"{output.name}.md")
    with replacing(path) as beside:
        beside.write_text(f"{HEAD.format(name=output.name, title=title)}\n{markdown(page)}", encoding="utf-8")
    return [path, *figure]


def _figure(judged: list[Finding]) -> Figure:
    """Each difference under all attacks with its interval, coloured by its verdict, and its claim's bound as a line."""
    shown = [found for found in judged if found.value is not None]
    with style():
        figure = Figure(figsize=(7.5, 1.2 + 0.28 * len(shown)), layout="constrained")
        panel, labels = figure.subplots(), []
        for place, found in enumerate(shown):
            colour = TINT[found.verdict]
            low, value, high = np.array([found.low, found.value, found.high], dtype=float)
            panel.plot([low, high], [place, place], color=colour, linewidth=2)
            panel.plot(value, place, "o", color=colour)
            panel.plot([found.claim.least] * 2, [place - 0.4, place + 0.4], color="#000000", linewidth=1)
            labels.append(f"{found.claim.text}\n{network(pair_of(found.used[0]))}, {found.used[0].attrs['run']}")
        panel.set_yticks(range(len(shown)), labels, fontsize=6)
        panel.invert_yaxis()
        panel.set_xlabel("difference under the worst attack on each image; black: the bound")
        handles = [Line2D([], [], color=colour, marker="o", label=said) for said, colour in TINT.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
        return figure
