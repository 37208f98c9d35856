"""The tables of a page of `irpipe stress`."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from irpipe.analysis.roles import most_steps
from irpipe.published import INTERPRETERS
from irpipe.reports.stress_page.against import PairedTest
from irpipe.reports.stress_page.numbers import (
    StressNumbers,
    accuracies,
    accuracy_at,
    is_bounded,
    tau_at,
)
from irpipe.reports.stress_page.verdict import percentage, signs_not_looked_for
from irpipe.results.labels import bound_label, duration, eps_label, eps_norm
from irpipe.results.rank_correlation import MIN_N_FOR_INTERVAL
from irpipe.results.result import Result
from irpipe.results.stress_record import Attempt

WHAT = {
    "pgd": "gradient ascent on the cross-entropy (the paper's attack)",
    "margin_pgd": "gradient ascent on the margin, random starts, worst iterate",
    "autoattack": "AutoAttack",
    "transfer": "images made against other networks",
    "aai": "changes the map, keeps the prediction",
    "pgd_maps": "PGD for the maps below, at one ε",
    "certify": "search for a proof or a counterexample",
}
TELLS_AGAINST = {"network": "the network", "attack": "the attack", "proofs": "masking"}


class PageTable(NamedTuple):
    """A table with a caption. On a phone, each row becomes a block of lines "heading: cell"."""

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def attacks_table(
    results: Sequence[Result], attempts: Sequence[Attempt], numbers: StressNumbers | None
) -> PageTable:
    """What each attack left and how long it took, in the order of the attempts."""
    by_attack = {result.attrs["attack"]: result for result in results}
    eps_text = f" at {numbers.bound}" if numbers else ""
    header = ["attack", "what it does", f"accuracy left{eps_text}", "images", "steps", "time"]
    rows = []
    for attempt in attempts:
        result = by_attack.get(attempt.attack)
        if result is None:
            text = attempt.state + (f": {attempt.reason}" if attempt.reason else "")
            what = WHAT.get(attempt.kind, attempt.kind)
            rows.append([attempt.attack, what, text, "", "", _time(attempt)])
            continue
        is_comparable = numbers and is_bounded(result) and eps_norm(result) == numbers.norm
        measured = accuracy_at(result, numbers.eps) if numbers and is_comparable else None
        rows.append(
            [
                attempt.attack,
                _what(result),
                percentage(measured) if measured else "–",
                str(len(result.arrays["indices"])),
                _steps(result),
                _time(attempt),
            ]
        )
    caption = "Accuracy with its 95% Wilson interval. Time: wall time on the device named below."
    return PageTable("attacks", "What each attack left", header, rows, caption)


def _time(attempt: Attempt) -> str:
    return "" if attempt.seconds is None else duration(attempt.seconds)


def _steps(result: Result) -> str:
    """The steps of an attack; Square's are queries."""
    options = result.attrs["options"]
    members = options["attacks_to_run"] if result.attrs["kind"] == "autoattack" else []
    texts = [f"{options['n_queries']} queries"] if "square" in members else []
    if "steps" in result.arrays and members != ["square"]:
        texts.insert(0, str(most_steps(result)))
    return ", ".join(texts) or "–"


def _what(result: Result) -> str:
    options = result.attrs["options"]
    if result.attrs["kind"] == "aai":
        return f"{options['loss']} on {options['interpreter']}: {WHAT['aai']}"
    if result.attrs["kind"] == "autoattack":
        members = ", ".join(options["attacks_to_run"])
        left_out = result.attrs.get("left_out")
        return f"AutoAttack: {members}" + (f" (without {', '.join(left_out)})" if left_out else "")
    return WHAT.get(result.attrs["kind"], str(result.attrs["kind"]))


def eps_table(results: Sequence[Result]) -> PageTable:
    """Accuracy of each attack at each eps, after the most steps. All have one norm."""
    values = sorted({eps for result in results for eps, _ in accuracies(result)})
    rows = []
    for result in results:
        by_eps = {eps_label(eps): percentage(measured) for eps, measured in accuracies(result)}
        attack = str(result.attrs["attack"])
        rows.append([attack, *(by_eps.get(eps_label(eps), "–") for eps in values)])
    header = ["attack", *(bound_label(eps, eps_norm(results[0])) for eps in values)]
    return PageTable("accuracies", "Accuracy at each ε", header, rows)


def tau_table(results: Sequence[Result], numbers: StressNumbers) -> PageTable | None:
    """Kendall's tau of the maps under each attack on maps; None if there is none."""
    rows = []
    for result in results:
        tau = tau_at(result, numbers.eps)
        if tau:
            kept = _interval(tau.value, tau.low, tau.high, tau.n) if tau.n else "–"
            n_all = len(result.arrays["indices"])
            rows.append(
                [
                    str(result.attrs["attack"]),
                    INTERPRETERS[result.attrs["options"]["interpreter"]],
                    f"{kept}, n = {tau.n}",
                    _interval(tau.value_all, tau.low_all, tau.high_all, n_all),
                ]
            )
    if not rows:
        return None
    caption = (
        "Mean, with its 95% bootstrap interval, of Kendall's tau-b between the map of the true "
        "class before and after the attack: 1 means that no entry changed its rank. Lost "
        "images are those whose prediction the attack changed, or whose map is constant. † marks "
        f"an interval of fewer than {MIN_N_FOR_INTERVAL} images, which says little."
    )
    header = ["attack", "maps", "with the prediction kept", "with lost images counted as 0"]
    title = f"Kendall's tau of the maps at {numbers.bound}"
    return PageTable("tau", title, header, rows, caption)


def _interval(value: float, low: float, high: float, n: int) -> str:
    dagger = "†" if n < MIN_N_FOR_INTERVAL else ""
    return f"{value:z.3f} [{low:z.3f}, {high:z.3f}]{dagger}"


def signs_table(numbers: StressNumbers) -> PageTable:
    """The signs of masked gradients with their numbers, and those that were not looked for."""
    rows = [
        [
            flag.name,
            "yes" if flag.is_raised else "no",
            flag.numbers,
            TELLS_AGAINST[flag.about],
        ]
        for flag in numbers.flags
    ]
    rows += [[name, "not looked for", "–", "–"] for name in signs_not_looked_for(numbers)]
    header = ["sign", "found", "numbers", "tells against"]
    return PageTable("signs", "Signs of masked gradients", header, rows)


def paired_table(tests: Sequence[PairedTest], numbers: StressNumbers) -> PageTable:
    """The differences in accuracy from other networks, with their tests."""
    rows = [
        [
            test.attack,
            test.other,
            f"{test.difference.value:+z.1%}",
            f"[{test.difference.low:+z.1%}, {test.difference.high:+z.1%}]",
            f"{test.difference.only_first} : {test.difference.only_second}",
            f"{test.p_holm:.2g}",
            str(test.difference.n),
        ]
        for test in tests
    ]
    header = ["attack", "against", "difference", "95% interval", "only this : only other"]
    caption = (
        "This network's accuracy minus the other's, on the same images, with the interval of "
        "Agresti and Min. p is McNemar's exact one, corrected by Holm over this table."
    )
    title = f"Next to other networks, at {numbers.bound}"
    return PageTable("paired", title, [*header, "p", "images"], rows, caption)


def sources_table(results: Sequence[Result]) -> PageTable:
    """Which file each number comes from, and what made it."""
    rows = []
    for result in results:
        attrs = result.attrs
        options = {key: value for key, value in attrs["options"].items() if value is not None}
        rows.append(
            [
                f"{attrs['attack']}.h5",
                result.sha256[:16],
                attrs["code_hash"],
                str(attrs["seed"]),
                json.dumps(options, sort_keys=True),
            ]
        )
    header = ["file", "SHA-256", "code", "seed", "options"]
    caption = (
        "Every number above is computed from these files, which hold one entry per test image. "
        "SHA-256: the first 16 digits, of what follows the first 512 bytes."
    )
    return PageTable("sources", "Where the numbers come from", header, rows, caption)


def network_table(result: Result, source: str) -> PageTable:
    """What was attacked, on which data and machine."""
    attrs = result.attrs
    data = json.dumps(attrs["checkpoint_metadata"]["data"], sort_keys=True)
    versions = ", ".join(f"{name} {value}" for name, value in attrs["versions"].items())
    rows = [
        ["network", source],
        ["SHA-256 of the network", attrs["network_sha256"]],
        ["data set", f"{attrs['dataset']} {data}"],
        ["SHA-256 of the test set", attrs["data_sha256"]],
        ["device and versions", versions],
    ]
    return PageTable("network", "What was attacked", ["what", "which"], rows)
