"""The table gives a verdict on each claim of the paper on robustness. It shows what the paper
prints, what this pipeline measures under the paper's attack, and what all attacks leave.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from irpipe.analysis.claim_brackets import bracket_claim
from irpipe.analysis.claims import CLAIMS, Claim, ClaimResult, assess
from irpipe.analysis.gradient_masking import masking_flags, summarise
from irpipe.errors import IrpipeError
from irpipe.option_types import Names
from irpipe.published import METHODS
from irpipe.reports._cells import Record
from irpipe.reports._file_numbers import FileNumbers, file_list
from irpipe.reports._render import CellText, SubTable, TablePage, write
from irpipe.results.labels import (
    DatasetModel,
    dataset_model,
    dataset_model_label,
    eps_label,
    method_label,
    result_name,
)
from irpipe.results.rank_correlation import MIN_N_FOR_INTERVAL
from irpipe.results.result import USER_BLOCK_BYTES, Result
from irpipe.results.select import ACCURACY_ARRAYS, select_attacks, select_proofs, with_proofs

LEGEND = (
    "All numbers are at the data set's eps. Released and From scratch: under the paper's attack. "
    "Under all attacks: what the attacks that both networks met leave, by the worst one on each "
    "image. In correlations, an image that is misclassified or whose prediction changed counts as "
    "0. Differences have 95% bootstrap intervals over images. "
    "A claim holds if the whole interval is above its bound: 0 or, for "
    '"about as robust", -0.10, the gap that the paper calls comparable. It holds weaker if only '
    'the difference is above it (for "about as robust": above -0.15), or if there are fewer than '
    f"{MIN_N_FOR_INTERVAL} images, else it is not supported. "
    "Robustness is no artefact if no flag of gradient masking tells against the network or an "
    "attack, or if proofs meet attacks; the claim holds weaker if flags tell against an attack "
    "alone. Results: numbers in the list of files. It has "
    f"the first digits of the SHA-256 of what follows a file's first {USER_BLOCK_BYTES} bytes "
    f"(tail -c +{USER_BLOCK_BYTES + 1} FILE | sha256sum)."
)
HEADER = (
    "Network",
    "Published",
    "Released",
    "Released, under all attacks",
    "From scratch",
    "From scratch, under all attacks",
    "Verdict",
    "Results",
)
BRACKET_LEGEND = (
    " Between proofs and attacks: the accuracy under the strongest attack that can exist lies "
    "between the share of certified images, which is 0 without proofs, and the share that all "
    "attacks together left. A verdict is proven if the difference has the same one at both ends: "
    "no attack can change it on these images."
)
NOT_RUN = "not run"

Networks = dict[DatasetModel, list[list[Result]]]  # one list of results per network


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["pgd", "margin_pgd", "autoattack", "square"],  # noqa: B006
    certify: Names | None = None,
) -> list[Path]:
    """Write one table per claim with one row per data set and model; return the paths of its files.

    Records are of one run each. Raises IrpipeError as `assess_claims` does.
    """
    page, claim_results = assess_claims(results, output.name, title, attacks, certify)
    records = [_record(output.name, claim_result) for claim_result in claim_results]
    return write(output, page, pd.DataFrame(records, dtype=object))


def assess_claims(
    results: Sequence[Result],
    report: str,
    title: str,
    attacks: Sequence[str],
    certify: Sequence[str] | None = None,
) -> tuple[TablePage, list[ClaimResult]]:
    """Assess all claims; return the page and the results, claim by claim.

    The legend names the attacks that no result is of. `certify` names the attacks whose results
    have proofs; None means all of kind `certify`.

    Raises IrpipeError, which names `report`, as `select_attacks` and `select_proofs` do, if
    results are of other images or lack the data set's eps, and if they are about no claim.
    """
    networks = claim_networks(results, report, attacks, certify)
    known = {result.attrs["attack"] for result in results}
    absent = [attack for attack in attacks if attack not in known]
    files = FileNumbers()
    subtables: list[SubTable] = []
    claim_results: list[ClaimResult] = []
    for claim in CLAIMS:
        rows = []
        for pair, groups in networks.items():
            pair_results = list(assess_runs(claim, groups, report))
            rows.append(_row(pair, groups[0][0], pair_results, files))
            claim_results += pair_results
        subtables.append(SubTable(f"{claim.text} ({claim.source})", HEADER, rows))
    brackets = [item for item in claim_results if item.bracket]
    if not claim_results:
        raise IrpipeError(
            f"{report}: no claim can be assessed; "
            f"expected results of {METHODS['int']} and another method"
        )
    subtables = [
        _summary(claim_results),
        *([_bracket_table(brackets, files)] if brackets else []),
        *subtables,
        _masking_flags(networks, report, files),
        file_list(files),
    ]
    legend = LEGEND + (BRACKET_LEGEND if brackets else "")
    legend += f" Not run on any network: {', '.join(absent)}." if absent else ""
    return TablePage(title, subtables, legend, is_prose=True), claim_results


def claim_networks(
    results: Sequence[Result],
    report: str,
    attacks: Sequence[str],
    certify: Sequence[str] | None = None,
) -> Networks:
    """The results of these attacks by data set and model, per network, with its proofs.

    Raises IrpipeError, which names `report`, as `select_attacks` and `select_proofs` do.
    """
    known = {result.attrs["attack"] for result in results}
    present = [attack for attack in attacks if attack in known]
    networks: Networks = {}
    if present:
        arrays = (*ACCURACY_ARRAYS, "indices")
        networks = select_attacks(results, present, report, arrays, partly=True)
    proofs = select_proofs(results, certify, report)
    for groups in networks.values():
        groups[:] = [with_proofs(group, proofs) for group in groups]
    return networks


def assess_runs(claim: Claim, groups: list[list[Result]], report: str) -> Iterable[ClaimResult]:
    """What the networks of one data set and model say about a claim, one result per run."""
    by_network = {(group[0].attrs["method"], group[0].attrs["run"]): group for group in groups}
    for (method, run), first in by_network.items():
        second = by_network.get((claim.second or method, run))
        if method == claim.first and second:
            claim_result = assess(claim, first, second, report)
            if claim_result:
                bracket = bracket_claim(claim, first, second, report)
                yield claim_result._replace(bracket=bracket)


def _row(
    pair: DatasetModel, result: Result, claim_results: list[ClaimResult], files: FileNumbers
) -> list[CellText]:
    """The row of one claim, data set and model; `result` is one of its results."""
    released, trained = _by_origin(claim_results)
    published = claim_results[0].published if claim_results else ""
    verdict = _count_verdicts(released)
    if trained:
        verdict += f"; from scratch: {_count_verdicts(trained)}"
    texts = (
        f"{dataset_model_label(pair)}, ε = {eps_label(result.attrs['train_eps'])}",
        published or "–",
        _join(item.under_paper_attack for item in released),
        _join(item.under_all_attacks for item in released),
        _join(item.under_paper_attack for item in trained),
        _join(item.under_all_attacks for item in trained),
        verdict,
        files.cite(used for item in claim_results for used in item.results),
    )
    return list(map(CellText, texts))


def _summary(claim_results: list[ClaimResult]) -> SubTable:
    """One row per claim: on how many networks it has which verdict."""
    rows = []
    for claim in CLAIMS:
        released, trained = _by_origin([item for item in claim_results if item.claim is claim])
        texts = (claim.text, _count_verdicts(released), _count_verdicts(trained))
        rows.append(list(map(CellText, texts)))
    heading = "In short: verdicts, with the number of networks"
    return SubTable(heading, ["Claim", "Released", "From scratch"], rows)


def _bracket_table(claim_results: list[ClaimResult], files: FileNumbers) -> SubTable:
    """One row per claim and network that proofs say something about."""
    rows = []
    for item in claim_results:
        if item.bracket:
            first = item.results[0]
            eps = eps_label(first.attrs["train_eps"])
            texts = (
                item.claim.text,
                f"{dataset_model_label(dataset_model(first))}, {first.attrs['run']}, ε = {eps}",
                item.bracket.text,
                item.bracket.verdict,
                files.cite(item.bracket.results),
            )
            rows.append(list(map(CellText, texts)))
    header = ["Claim", "Networks", "Brackets", "Verdict", "Results"]
    return SubTable("Between proofs and attacks", header, rows)


def _by_origin(claim_results: list[ClaimResult]) -> tuple[list[ClaimResult], list[ClaimResult]]:
    """The claim results of released networks, and those of trained ones."""
    released: list[ClaimResult] = []
    trained: list[ClaimResult] = []
    for item in claim_results:
        is_released = item.results[0].attrs["run"] == "released"
        (released if is_released else trained).append(item)
    return released, trained


def _count_verdicts(claim_results: list[ClaimResult]) -> str:
    """The verdicts, such as "holds (2), not supported (1)"; without a number for one network."""
    counts = Counter(item.verdict for item in claim_results)
    if len(claim_results) == 1:
        return claim_results[0].verdict
    return ", ".join(f"{verdict} ({count})" for verdict, count in counts.items()) or NOT_RUN


def _join(texts: Iterable[str]) -> str:
    return "; ".join(text or "–" for text in texts) or NOT_RUN


def _masking_flags(networks: Networks, report: str, files: FileNumbers) -> SubTable:
    """One row per network: its flags, and the attacks that only others of its kind have met."""
    rows = []
    for pair, groups in networks.items():
        results = [result for group in groups for result in group]
        all_attacks = dict.fromkeys(result.attrs["attack"] for result in results)
        for group in groups:
            attacks = {result.attrs["attack"] for result in group}
            flags = masking_flags(group, report)
            texts = (
                f"{dataset_model_label(pair)}, {method_label(group[0], results)}",
                summarise(flags) if flags else NOT_RUN,
                ", ".join(attack for attack in all_attacks if attack not in attacks) or "–",
                files.cite(group),
            )
            rows.append(list(map(CellText, texts)))
    header = ["Network", "Flags", "Attacks not run", "Results"]
    return SubTable("Flags of gradient masking", header, rows)


def _record(table: str, claim_result: ClaimResult) -> Record:
    """The claim result with the results that it uses, as dataset/model/method/run/attack."""
    first, bracket = claim_result.results[0], claim_result.bracket
    numbers = {
        "difference": claim_result.value,
        "low": claim_result.low,
        "high": claim_result.high,
    }
    return {
        "table": table,
        "claim": claim_result.claim.text,
        "source": claim_result.claim.source,
        **{key: first.attrs[key] for key in ("dataset", "model", "run")},
        "eps": eps_label(first.attrs["train_eps"]),
        "n": len(first.arrays["indices"]),
        "published": claim_result.published,
        "under_paper_attack": claim_result.under_paper_attack,
        "under_all_attacks": claim_result.under_all_attacks,
        **{name: None if number is None else round(number, 6) for name, number in numbers.items()},
        "verdict": claim_result.verdict,
        "bracket_low": round(bracket.low, 6) if bracket else None,
        "bracket_high": round(bracket.high, 6) if bracket else None,
        "bracket": bracket.text if bracket else "",
        "bracket_verdict": bracket.verdict if bracket else "",
        "results": " ".join(result_name(result) for result in claim_result.results),
        "sha256": " ".join(result.sha256 for result in claim_result.results),
    }
