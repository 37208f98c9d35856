"""Each claim of the paper on robustness: printed evidence, ours, what stronger attacks leave of it, a verdict."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from irpipe.errors import IrpipeError
from irpipe.io import BLOCK, Result
from irpipe.published import METHODS
from irpipe.quantities import Names
from irpipe.reports.parts.claims import CLAIMS, Claim, Finding, find
from irpipe.reports.parts.masking import flags
from irpipe.reports.parts.masking import verdict as signs
from irpipe.reports.parts.render import Block, Entry, Page, write
from irpipe.reports.parts.selection import ACCURACY, Pair, eps_label, method, name, network, together

LEGEND = (
    "At the data set's radius. Released, from scratch: under the published attack. Under stress: what every attack at "
    "hand leaves, the worst for each image; misclassified images count as lost, in correlations as 0; differences with "
    '95% bootstrap intervals over images. A claim holds if the whole interval lies above its bound (0; for "about as '
    'robust" -0.10, the gap that the paper calls comparable), holds weaker if only the difference does (for "about as '
    'robust": if it exceeds -0.15), else it is not supported. Robustness is no artefact if no sign of masking is '
    "raised; the claim holds weaker if a sign tells against an attack alone. Results: numbers in the list of files, "
    f"which has the first digits of each one's SHA-256 behind {BLOCK} bytes (tail -c +{BLOCK + 1} FILE | sha256sum)."
)
HEADER = ("Network", "Published", "Released", "Released, under stress", "From scratch", "From scratch, under stress")
PART = ("ours", "stress")  # of a finding
NONE = "not run"


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["pgd", "strong", "autoattack", "square"],  # noqa: B006 (read, never changed)
) -> list[Path]:
    """Write a row for each claim, data set and model as `output`.csv, .md, .tex and .html; return the four paths.

    Records are of one run each. Raises IrpipeError as `made` does.
    """
    page, judged = made(results, output.name, title, attacks)
    return write(output, page, [_record(output.name, found) for found in judged])


def made(results: Iterable[Result], report: str, title: str, attacks: Sequence[str]) -> tuple[Page, list[Finding]]:
    """The page, and all that was judged for it, claim by claim.

    The rule for each verdict, with d the difference of the two methods under all `attacks`: a claim holds if d's 95%
    interval lies above its bound, holds weaker if d alone lies above its floor, else is not supported (`claims`).
    Attacks without any result are named in the legend. Raises IrpipeError as `selection.together` does, if results are
    of other images or lack the data set's radius, and if they bear on no claim.
    """
    results = list(results)
    known = {result.attrs["attack"] for result in results}
    present, absent = ([attack for attack in attacks if (attack in known) == there] for there in (True, False))
    found = together(results, present, report, (*ACCURACY, "index"), partly=True) if present else {}
    numbers: dict[str, int] = {}
    blocks, every = [], []
    for claim in CLAIMS:
        rows = []
        for pair, networks in found.items():
            judged = list(_judged(claim, networks, report))
            rows.append(_row(pair, networks[0][0], judged, numbers))
            every += judged
        blocks.append(Block(f"{claim.text} ({claim.source})", [*HEADER, "Verdict", "Results"], rows))
    if not every:
        raise IrpipeError(f"{report}: no claim can be judged; wants results of {METHODS['int']} and another method")
    blocks.insert(0, _short(every))
    blocks += [_signs(found, report, numbers), _files(found, numbers)]
    legend = f"{LEGEND} Not run on any network: {', '.join(absent)}." if absent else LEGEND
    return Page(title, blocks, legend, prose=True), every


def _judged(claim: Claim, networks: list[list[Result]], report: str) -> Iterable[Finding]:
    """What the networks of one data set and model say of a claim, run by run."""
    by = {(members[0].attrs["method"], members[0].attrs["run"]): members for members in networks}
    for (method_, run), first in by.items():
        second = by.get((claim.second or method_, run))
        found = find(claim, first, second, report) if method_ == claim.first and second else None
        if found:
            yield found


def _row(pair: Pair, like: Result, judged: list[Finding], numbers: dict[str, int]) -> list[Entry]:
    label = f"{network(pair)}, ε = {eps_label(like.attrs['nominal_radius'])}"
    released, trained = _parted(judged)
    published = (judged[0].published if judged else "") or "–"
    cells = [_several([getattr(found, key) for found in part]) for part in (released, trained) for key in PART]
    said = [_counted(released), *([f"from scratch: {_counted(trained)}"] if trained else [])]
    used = {_number(result, numbers) for found in judged for result in found.used}
    return [Entry(text) for text in (label, published, *cells, "; ".join(said), _listed(used))]


def _short(every: list[Finding]) -> Block:
    """A row for each claim: how many networks bear which verdict."""
    rows = []
    for claim in CLAIMS:
        parts = _parted([found for found in every if found.claim is claim])
        rows.append([Entry(claim.text), *(Entry(_counted(part)) for part in parts)])
    return Block("In short: verdicts, with the number of networks", ["Claim", "Released", "From scratch"], rows)


def _parted(judged: list[Finding]) -> tuple[list[Finding], list[Finding]]:
    """Findings on released networks, and on trained ones."""
    released = [found for found in judged if found.used[0].attrs["run"] == "released"]
    return released, [found for found in judged if found.used[0].attrs["run"] != "released"]


def _counted(judged: list[Finding]) -> str:
    """Verdicts; of several networks, each with their number."""
    counts = Counter(found.verdict for found in judged)
    if len(judged) == 1:
        return judged[0].verdict
    return ", ".join(f"{verdict} ({count})" for verdict, count in counts.items()) or NONE


def _several(texts: Sequence[str]) -> str:
    return "; ".join(text or "–" for text in texts) or NONE


def _number(result: Result, numbers: dict[str, int]) -> int:
    """The number of a result in the list of files, in the order in which they are first named."""
    return numbers.setdefault(name(result), len(numbers) + 1)


def _listed(used: Iterable[int]) -> str:
    """Numbers in rising order, ranges of three or more as "4-9"."""
    runs: list[list[int]] = []
    for number in sorted(used):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(parts) or "–"


def _signs(found: dict[Pair, list[list[Result]]], report: str, numbers: dict[str, int]) -> Block:
    """For each network the signs of masking, and the attacks that only others of its data set and model met."""
    rows = []
    for pair, networks in found.items():
        all_ = dict.fromkeys(result.attrs["attack"] for members in networks for result in members)
        for members in networks:
            met = {result.attrs["attack"] for result in members}
            raised = flags(members, report)
            texts = [f"{network(pair)}, {method(members[0])}", signs(raised) if raised else NONE]
            texts += [", ".join(attack for attack in all_ if attack not in met) or "–"]
            rows.append([Entry(text) for text in [*texts, _listed({_number(one, numbers) for one in members})]])
    return Block("Signs of masked gradients", ["Network", "Signs", "Attacks not run", "Results"], rows)


def _files(found: dict[Pair, list[list[Result]]], numbers: dict[str, int]) -> Block:
    by = {name(result): result for networks in found.values() for members in networks for result in members}
    rows = []
    for place, number in sorted(numbers.items(), key=lambda item: item[1]):
        attrs = by[place].attrs
        texts = (f"{number}", f"results/{place}.h5", by[place].sha256[:16], attrs["network_sha256"][:16], attrs["code"])
        rows.append([Entry(text) for text in texts])
    return Block("Files that the numbers rest on", ["No.", "File", "SHA-256", "Its network's", "Code"], rows)


def _record(table: str, found: Finding) -> dict[str, object]:
    """The finding for machines, with the results that it rests on, as dataset/model/method/run/attack."""
    first = found.used[0]
    numbers = {"difference": found.value, "low": found.low, "high": found.high}
    return {
        "table": table,
        "claim": found.claim.text,
        "source": found.claim.source,
        **{key: first.attrs[key] for key in ("dataset", "model", "run")},
        "eps": eps_label(first.attrs["nominal_radius"]),
        "n": len(first.arrays["index"]),
        "published": found.published,
        "ours": found.ours,
        "stress": found.stress,
        **{key: "" if value is None else round(value, 6) for key, value in numbers.items()},
        "verdict": found.verdict,
        "results": " ".join(name(result) for result in found.used),
        "sha256": " ".join(result.sha256 for result in found.used),
    }
