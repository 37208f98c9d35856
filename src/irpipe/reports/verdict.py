"""Each claim of the paper on robustness: printed evidence, ours, what stronger attacks leave of it, a verdict."""

from pathlib import Path

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import METHODS
from irpipe.quantities import Names
from irpipe.reports.parts.claims import CLAIMS, Finding, find
from irpipe.reports.parts.render import Block, Entry, Page, write
from irpipe.reports.parts.selection import ACCURACY, eps_label, name, network, pair_of, together

LEGEND = (
    "At the data set's radius. Ours: the published attack. Stress: what every attack at hand leaves, the worst for "
    "each image; misclassified images count as lost, in correlations as 0; differences with 95% bootstrap intervals "
    'over images. A claim holds if the whole interval lies above its bound (0; for "about as robust" -0.10, the gap '
    'that the paper calls comparable), holds weaker if only the difference does (for "about as robust": if it exceeds '
    "-0.15), else it is not supported. Robustness is no artefact if no sign of masking is raised; the claim holds "
    "weaker if a sign tells against an attack alone."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["pgd", "strong", "autoattack", "square"],  # noqa: B006 (read, never changed)
) -> list[Path]:
    """Write a row for each claim, data set, model and run as `output`.csv, .md, .tex and .html; return the four paths.

    The rule for each verdict, with d the difference of the two methods under all `attacks`: a claim holds if d's 95%
    interval lies above its bound, holds weaker if d alone lies above its floor, else is not supported
    (`claims`). Raises IrpipeError as `selection.together` does, if results are of other images or lack
    the data set's radius, and if they bear on no claim.
    """
    by = {
        (*pair, str(members[0].attrs["method"]), str(members[0].attrs["run"])): members
        for pair, networks in together(results, attacks, output.name, (*ACCURACY, "index"), partly=True).items()
        for members in networks
    }
    blocks, records = [], []
    for claim in CLAIMS:
        rows = []
        for (dataset, model, method, run), first in by.items():
            second = by.get((dataset, model, claim.second or method, run))
            found = find(claim, first, second, output.name) if method == claim.first and second else None
            if found and second:
                rows.append(_row(found, first))
                records.append(_record(output.name, found, first, [] if second is first else second))
        if rows:
            header = ["Network", "Published", "Ours", "Stress", "Verdict"]
            blocks.append(Block(f"{claim.text} ({claim.source})", header, rows))
    if not records:
        raise IrpipeError(
            f"{output.name}: no claim can be judged; wants results of {METHODS['int']} and another method"
        )
    return write(output, Page(title, blocks, LEGEND, prose=True), records)


def _row(found: Finding, first: list[Result]) -> list[Entry]:
    attrs = first[0].attrs
    run = "" if attrs["run"] == "released" else f" ({attrs['run']})"
    label = f"{network(pair_of(first[0]))}{run}, ε = {eps_label(attrs['nominal_radius'])}"
    return [Entry(text) for text in (label, found.published or "–", found.ours, found.stress, found.verdict)]


def _record(table: str, found: Finding, first: list[Result], second: list[Result]) -> dict[str, object]:
    """The finding for machines, with the results that it rests on, as dataset/model/method/run/attack."""
    attrs = first[0].attrs
    numbers = {"difference": found.value, "low": found.low, "high": found.high}
    return {
        "table": table,
        "claim": found.claim.text,
        "source": found.claim.source,
        **{key: attrs[key] for key in ("dataset", "model", "run")},
        "eps": eps_label(attrs["nominal_radius"]),
        "n": len(first[0].arrays["index"]),
        "published": found.published,
        "ours": found.ours,
        "stress": found.stress,
        **{key: "" if value is None else round(value, 6) for key, value in numbers.items()},
        "verdict": found.verdict,
        "results": " ".join(name(result) for result in (*first, *second)),
    }
