"""The page gives a verdict on each claim of the paper on robustness. A figure shows the differences
under all attacks, and the claims table follows.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.analysis.claims import ClaimResult
from irpipe.files import atomic_write
from irpipe.option_types import Names
from irpipe.reports._plotting import plot_style, save_figure
from irpipe.reports._render import render
from irpipe.reports.claims_table import assess_claims
from irpipe.results.labels import dataset_model, dataset_model_label
from irpipe.results.result import Result

COLOURS = {  # Okabe and Ito's palette
    "holds": "#009E73",
    "holds weaker": "#E69F00",
    "not supported": "#D55E00",
}
BRACKET_LINE: dict[str, Any] = {"color": "#777777", "marker": "|", "linewidth": 1}
HEAD = """\
<!-- Generated; do not edit. To make it again after the workflow of config/stress.yaml has run:

    irpipe report --table '{name}={{kind: claims_page, title: "{title}"}}' \
$(find results -name '*.h5') --output docs
-->

![Differences under all attacks, with 95% intervals, and the bound of each claim]({name}.svg)
"""


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = [  # noqa: B006
        "pgd",
        "margin_pgd",
        "autoattack",
        "square",
        "transfer_mnist_small",
        "transfer_mnist_pool",
        "transfer_cifar10_small",
        "transfer_cifar10_wresnet",
        "aai_cam",
        "aai_topk",
        "aai_mass_center",
        "aai_two_class",
        "aai_targeted",
        "aai_gradcampp",
        "aai_gradcampp_topk",
        "aai_gradcampp_mass_center",
        "aai_gradcampp_two_class",
        "aai_gradcampp_targeted",
    ],
    certify: Names | None = None,
) -> list[Path]:
    """Write NAME.md and its figure; return the paths. NAME is that of `output` without "table_".

    Raises IrpipeError as `assess_claims` does.
    """
    output = output.with_name(output.name.removeprefix("table_"))
    page, claim_results = assess_claims(results, output.name, title, attacks, certify)
    with plot_style():
        figure_paths = save_figure(_draw_differences(claim_results), output)
    path = output.with_name(f"{output.name}.md")
    head = HEAD.format(name=output.name, title=title)
    with atomic_write(path) as temporary:
        temporary.write_text(f"{head}\n{render(page, '.md')}", encoding="utf-8")
    return [path, *figure_paths]


def _draw_differences(claim_results: list[ClaimResult]) -> Figure:
    """Draw each difference under all attacks with its interval, in the colour of its verdict.

    Where there are proofs, a grey line below it shows between which differences it lies.
    """
    differences = [item for item in claim_results if item.value is not None]
    figure = Figure(figsize=(7.5, 1.2 + 0.28 * len(differences)), layout="constrained")
    panel = figure.subplots()
    for y, claim_result in enumerate(differences):
        _draw_difference(panel, y, claim_result)
    panel.set_yticks(range(len(differences)), [_label(item) for item in differences], fontsize=6)
    panel.invert_yaxis()
    panel.set_xlabel("difference under the worst attack on each image; black: the claim's bound")
    handles = [
        Line2D([], [], color=colour, marker="o", label=verdict)
        for verdict, colour in COLOURS.items()
    ]
    if any(item.bracket for item in differences):
        handles.append(Line2D([], [], **BRACKET_LINE, label="between proofs and attacks"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def _draw_difference(panel: Axes, y: int, claim_result: ClaimResult) -> None:
    colour = COLOURS[claim_result.verdict]
    numbers = (claim_result.low, claim_result.value, claim_result.high)
    low, value, high = np.array(numbers, dtype=float)
    bound = claim_result.claim.min_difference
    panel.plot([low, high], [y, y], color=colour, linewidth=2)
    panel.plot(value, y, "o", color=colour)
    bracket = claim_result.bracket
    if bracket:
        panel.plot([bracket.low, bracket.high], [y + 0.28, y + 0.28], **BRACKET_LINE)
    panel.plot([bound, bound], [y - 0.4, y + 0.4], color="#000000", linewidth=1)


def _label(claim_result: ClaimResult) -> str:
    result = claim_result.results[0]
    network = f"{dataset_model_label(dataset_model(result))}, {result.attrs['run']}"
    return f"{claim_result.claim.text}\n{network}"
