"""The figure shows by how much the networks of each claim of the paper differ under all attacks,
with the claim's bound and, where there are proofs, what no attack can change.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.analysis.claims import Claim, ClaimResult, Verdict
from irpipe.option_types import Names
from irpipe.reports._plotting import TEXT_WIDTH, plot_style, save_figure
from irpipe.reports.claims_table import assess_claims
from irpipe.results.labels import DatasetModel, dataset_model, dataset_model_label
from irpipe.results.result import Result

# Colours of Okabe and Ito's palette, and markers that distinguish the verdicts in grey.
VERDICT_STYLES: dict[Verdict, dict[str, Any]] = {
    "holds": {"color": "#009E73", "marker": "o"},
    "holds weaker": {"color": "#E69F00", "marker": "D"},
    "not supported": {"color": "#D55E00", "marker": "X"},
}
BOUND_STYLE: dict[str, Any] = {"color": "#000000", "linewidth": 1}
BRACKET_STYLE: dict[str, Any] = {"color": "#777777", "marker": "|", "linewidth": 1}


class Difference(NamedTuple):
    """A line of the figure: by how much the networks of a claim differ under all attacks.

    `value` in [`low`, `high`] is the difference with its 95% interval. `bracket` is between which
    differences it lies whatever the attack, None without proofs.
    """

    claim: Claim
    pair: DatasetModel
    run: str
    verdict: Verdict
    value: float
    low: float
    high: float
    bracket: tuple[float, float] | None


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
    differences = [_difference(item) for item in claim_results]
    return draw([item for item in differences if item], output)


def draw(differences: Sequence[Difference], output: Path) -> list[Path]:
    """Draw these lines, claim by claim; return the paths of the figure."""
    with plot_style():
        return save_figure(_draw_differences(differences), output)


def _difference(item: ClaimResult) -> Difference | None:
    """The line of a claim's result, if it is about a difference."""
    if item.value is None or item.low is None or item.high is None:
        return None
    first, bracket = item.results[0], item.bracket
    return Difference(
        item.claim,
        dataset_model(first),
        first.attrs["run"],
        item.verdict,
        item.value,
        item.low,
        item.high,
        (bracket.low, bracket.high) if bracket else None,
    )


def _draw_differences(differences: Sequence[Difference]) -> Figure:
    """Draw the differences under all attacks, with their intervals, claim by claim.

    Colour and marker say the verdict. Where there are proofs, a grey line below a difference shows
    between which differences it lies.
    """
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


def _draw_difference(panel: Axes, y: int, item: Difference) -> None:
    style = VERDICT_STYLES[item.verdict]
    panel.plot([item.low, item.high], [y, y], color=style["color"], linewidth=2)
    panel.plot(item.value, y, **style)
    if item.bracket:
        panel.plot(item.bracket, [y + 0.32, y + 0.32], **BRACKET_STYLE)


def _legend(has_brackets: bool) -> list[Line2D]:
    handles = [Line2D([], [], label=verdict, **style) for verdict, style in VERDICT_STYLES.items()]
    handles.append(Line2D([], [], **BOUND_STYLE, label="the claim's bound"))
    if has_brackets:
        handles.append(Line2D([], [], **BRACKET_STYLE, label="between proofs and attacks"))
    return handles


def _label(item: Difference, shown: Sequence[Difference]) -> str:
    """Data set and model, and the run unless the networks are the released ones."""
    label = dataset_model_label(item.pair)
    if not item.run.startswith("seed"):
        return label
    runs = {other.run for other in shown}
    is_only_seed = sum(run.startswith("seed") for run in runs) == 1
    return f"{label}, from scratch" if is_only_seed else f"{label}, {item.run}"
