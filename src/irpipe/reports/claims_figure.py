"""The figure shows by how much the networks of each claim of the paper differ under all attacks,
with the claim's bound and, where there are proofs, what no attack can change.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.analysis.claims import ClaimResult, Verdict
from irpipe.option_types import Names
from irpipe.reports._plotting import TEXT_WIDTH, plot_style, save_figure
from irpipe.reports.claims_table import assess_claims
from irpipe.results.labels import dataset_model, dataset_model_label
from irpipe.results.result import Result

# Colours of Okabe and Ito's palette, and markers that distinguish the verdicts in grey.
VERDICT_STYLES: dict[Verdict, dict[str, Any]] = {
    "holds": {"color": "#009E73", "marker": "o"},
    "holds weaker": {"color": "#E69F00", "marker": "D"},
    "not supported": {"color": "#D55E00", "marker": "X"},
}
BOUND_STYLE: dict[str, Any] = {"color": "#000000", "linewidth": 1}
BRACKET_STYLE: dict[str, Any] = {"color": "#777777", "marker": "|", "linewidth": 1}


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
    """Draw the differences under all attacks, with their intervals, claim by claim.

    Colour and marker say the verdict. Where there are proofs, a grey line below a difference shows
    between which differences it lies.
    """
    differences = [item for item in claim_results if item.value is not None]
    claims = list(dict.fromkeys(item.claim for item in differences))
    n_rows = len(claims) + len(differences)
    figure = Figure(figsize=(TEXT_WIDTH, 0.9 + 0.2 * n_rows), layout="constrained")
    panel = figure.subplots()
    labels: list[str] = []
    for claim in claims:
        across = panel.get_yaxis_transform()  # x from 0 to 1 across the panel
        panel.text(0.01, len(labels), claim.text, transform=across, weight="bold", va="center")
        labels.append("")
        start = len(labels) - 0.5
        for item in differences:
            if item.claim is claim:
                _draw_difference(panel, len(labels), item)
                labels.append(_label(item, differences))
        panel.plot([claim.min_difference] * 2, [start, len(labels) - 0.5], **BOUND_STYLE, zorder=0)
    panel.set_yticks(range(n_rows), labels)
    panel.tick_params(axis="y", length=0)
    panel.set_ylim(n_rows - 0.5, -0.5)
    panel.set_xlabel("difference under the worst attack on each image, with its 95% interval")
    has_brackets = any(item.bracket for item in differences)
    figure.legend(handles=_legend(has_brackets), loc="outside upper center", ncols=5)
    return figure


def _draw_difference(panel: Axes, y: int, claim_result: ClaimResult) -> None:
    style = VERDICT_STYLES[claim_result.verdict]
    numbers = (claim_result.low, claim_result.value, claim_result.high)
    low, value, high = np.array(numbers, dtype=float)
    panel.plot([low, high], [y, y], color=style["color"], linewidth=2)
    panel.plot(value, y, **style)
    bracket = claim_result.bracket
    if bracket:
        panel.plot([bracket.low, bracket.high], [y + 0.32, y + 0.32], **BRACKET_STYLE)


def _legend(has_brackets: bool) -> list[Line2D]:
    handles = [Line2D([], [], label=verdict, **style) for verdict, style in VERDICT_STYLES.items()]
    handles.append(Line2D([], [], **BOUND_STYLE, label="the claim's bound"))
    if has_brackets:
        handles.append(Line2D([], [], **BRACKET_STYLE, label="between proofs and attacks"))
    return handles


def _label(claim_result: ClaimResult, shown: list[ClaimResult]) -> str:
    """Data set and model, and the run unless the networks are the released ones."""
    pair, run = dataset_model(claim_result.results[0]), claim_result.results[0].attrs["run"]
    label = dataset_model_label(pair)
    if not run.startswith("seed"):
        return label
    runs = {item.results[0].attrs["run"] for item in shown}
    is_only_seed = sum(other.startswith("seed") for other in runs) == 1
    return f"{label}, from scratch" if is_only_seed else f"{label}, {run}"
