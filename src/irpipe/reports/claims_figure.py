"""The figure shows by how much the networks of each claim of the paper differ under all attacks,
with the claim's bound and, where there are proofs, what no attack can change.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.analysis.claims import ClaimResult
from irpipe.option_types import Names
from irpipe.reports._plotting import plot_style, save_figure
from irpipe.reports.claims_table import assess_claims
from irpipe.results.labels import dataset_model, dataset_model_label
from irpipe.results.result import Result

COLOURS = {  # Okabe and Ito's palette
    "holds": "#009E73",
    "holds weaker": "#E69F00",
    "not supported": "#D55E00",
}
BRACKET_LINE: dict[str, Any] = {"color": "#777777", "marker": "|", "linewidth": 1}


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["pgd", "margin_pgd", "autoattack", "square"],  # noqa: B006
    certify: Names | None = None,
) -> list[Path]:
    """Draw one line per claim and network; return the paths of the figure.

    Raises IrpipeError as `assess_claims` does.
    """
    _, claim_results = assess_claims(results, output.name, title, attacks, certify)
    with plot_style():
        return save_figure(_draw_differences(claim_results), output)


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
