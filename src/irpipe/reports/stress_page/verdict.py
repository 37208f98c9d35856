"""The verdict of a page of `irpipe stress`: sentences that follow from numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from irpipe.analysis.gradient_masking import FLAG_NAMES, About, is_suspected, raised_names
from irpipe.reports.stress_page.numbers import StressNumbers, accuracy_at
from irpipe.results.accuracy import Accuracy
from irpipe.results.labels import counted
from irpipe.results.rank_correlation import MIN_N_FOR_INTERVAL, RankCorrelation
from irpipe.results.stress_record import Attempt

# Shares of the clean accuracy that a network keeps: at least so much is "nearly all", "most".
NEARLY_ALL = 0.9
MOST = 0.5


class Verdict(NamedTuple):
    """A headline with its tone ("good", "mixed", "bad" or "unknown"), and sentences."""

    tone: str
    headline: str
    sentences: Sequence[str]


def make_verdict(
    network: str,
    numbers: StressNumbers | None,
    attempts: Sequence[Attempt],
    further: Sequence[str] = (),
) -> Verdict:
    """The verdict on a network from its numbers and from how each attack ended.

    `further` are sentences on other networks and on what is odd about this one.
    """
    incomplete = [*further, *_incomplete_sentences(attempts, numbers)]
    if numbers is None or numbers.worst is None:
        return Verdict("unknown", "No attack has measured an accuracy.", incomplete)
    tone, headline = _headline(network, numbers, numbers.worst)
    sentences = [
        _accuracy_sentence(numbers, numbers.worst),
        _strongest_sentence(numbers),
        masking_sentence(numbers),
        _tau_sentence(numbers),
        *incomplete,
        _limit_sentence(numbers, numbers.worst),
    ]
    return Verdict(tone, headline, [sentence for sentence in sentences if sentence])


def percentage(measured: Accuracy) -> str:
    """An accuracy with its interval, such as "71.0% [64.4%, 76.8%]"."""
    return f"{measured.value:.1%} [{measured.low:.1%}, {measured.high:.1%}]"


def tau_text(tau: RankCorrelation) -> str:
    """Kendall's tau in the words that all outputs of `irpipe stress` share."""
    kept = "not defined" if math.isnan(tau.value) else f"{tau.value:z.3f}"
    return (
        f"{kept} with the prediction kept, n = {tau.n}; "
        f"{tau.value_all:z.3f} with lost images counted as 0"
    )


def _headline(network: str, numbers: StressNumbers, worst: Accuracy) -> tuple[str, str]:
    eps = numbers.bound
    clean = numbers.clean
    if clean and clean.low <= numbers.chance:
        return "unknown", f"{network} has nothing to lose: clean, it may be guessing."
    if is_suspected(numbers.flags):
        return "mixed", (
            f"Do not trust the accuracy of {network} at {eps} yet: its gradients seem to be masked."
        )
    if worst.low <= numbers.chance:
        if clean and worst.high >= MOST * clean.value:
            images = counted(worst.n, "image")
            return "unknown", f"With {images}, it is open whether {network} is robust at {eps}."
        rest = "what is left may be guessing" if worst.value else "no image is left"
        return "bad", f"{network} is not robust at {eps}: {rest}."
    if clean is None:
        return "mixed", f"{network} keeps an accuracy of {worst.value:.1%} at {eps}."
    return _headline_above_chance(network, clean, worst, eps)


def _headline_above_chance(
    network: str, clean: Accuracy, worst: Accuracy, eps: str
) -> tuple[str, str]:
    """The headline on a network by the share of its clean accuracy that it keeps."""
    if worst.n < MIN_N_FOR_INTERVAL:
        images = counted(worst.n, "image")
        return "unknown", f"With {images}, it is open how much {network} keeps at {eps}."
    share = worst.value / clean.value
    if share < MOST:
        return "mixed", f"{network} loses most of its accuracy at {eps}."
    kept = "nearly all" if share >= NEARLY_ALL else "most"
    return "good", f"{network} keeps {kept} of its accuracy at {eps}."


def _accuracy_sentence(numbers: StressNumbers, worst: Accuracy) -> str:
    clean = f"{percentage(numbers.clean)} when clean, and " if numbers.clean else ""
    n_attacks = len(numbers.counted)
    attacks = f"all {n_attacks} attacks together" if n_attacks > 1 else "the one attack"
    return (
        f"Of {worst.n} test images it classifies {clean}{percentage(worst)} under {attacks} "
        f"at {numbers.bound} correctly (95% intervals). "
        f"Guessing would get {numbers.chance:.1%}."
    )


def _strongest_sentence(numbers: StressNumbers) -> str:
    if len(numbers.counted) < 2:
        return ""
    left = {
        str(result.attrs["attack"]): measured
        for result in numbers.counted
        if (measured := accuracy_at(result, numbers.eps))
    }
    lowest = min(measured.value for measured in left.values())
    names = [name for name, measured in left.items() if measured.value == lowest]
    if len(names) == 1:
        return f"The strongest single attack, {names[0]}, leaves {lowest:.1%}."
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"The strongest single attacks, {listed}, each leave {lowest:.1%}."


def masking_sentence(numbers: StressNumbers) -> str:
    """How many signs of masked gradients were looked for, then which were found."""
    sentence = f"{len(numbers.flags)} of {numbers.n_signs} signs of masking were looked for"
    if numbers.no_flags_reason:
        return f"{sentence} ({numbers.no_flags_reason})."
    if not numbers.flags:
        return f"{sentence}: no result could show one."
    labels: dict[About, str] = {
        "proofs": "masking is ruled out",
        "network": "masking is suspected" if is_suspected(numbers.flags) else "raised all the same",
        "attack": "an attack is too weak",
    }
    parts = [
        f"{label} ({', '.join(names)})"
        for about, label in labels.items()
        if (names := raised_names(numbers.flags, about))
    ]
    return f"{sentence}: {'; '.join(parts) or 'none was found'}."


def signs_not_looked_for(numbers: StressNumbers) -> list[str]:
    """Names of the signs of masking that no result could show."""
    looked_for = {flag.name for flag in numbers.flags}
    return [name for name in FLAG_NAMES if name not in looked_for]


def _tau_sentence(numbers: StressNumbers) -> str:
    if not numbers.tau:
        return ""
    result, tau = numbers.tau
    return (
        f"The strongest attack on maps, {result.attrs['attack']}, leaves Kendall's tau at "
        f"{tau_text(tau)}."
    )


def _limit_sentence(numbers: StressNumbers, worst: Accuracy) -> str:
    """What attacks that did not run could do; nothing if they find no image to break."""
    if not worst.value:
        return ""
    if numbers.is_proven:
        return "No attack can break more: each image that is left has a proof."
    return "An attack shows what can be broken; a stronger one may break more."


def _incomplete_sentences(attempts: Sequence[Attempt], numbers: StressNumbers | None) -> list[str]:
    """A sentence on the attacks that failed, and one on those that were left out."""
    hint = "" if numbers and numbers.is_proven else " With them, less might be left."
    sentences = []
    for state, text in (("failed", "failed"), ("left out", "were left out")):
        names = [attempt.attack for attempt in attempts if attempt.state == state]
        if names:
            sentences.append(f"Attacks that {text}: {', '.join(names)}.{hint}")
    return sentences
