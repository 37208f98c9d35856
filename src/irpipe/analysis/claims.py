"""The paper's claims on robustness, and whether they hold under the paper's and all attacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from irpipe.analysis.columns import Column, published_value
from irpipe.analysis.gradient_masking import is_suspected, masking_flags, raised_names, summarise
from irpipe.analysis.paired import require_correct, require_same_images
from irpipe.published import published_table
from irpipe.results.accuracy import eps_step_indices
from irpipe.results.labels import EPS_TOLERANCE
from irpipe.results.rank_correlation import MIN_N_FOR_INTERVAL, rank_correlation, robust_tau
from irpipe.results.result import Result
from irpipe.statistics import bootstrap

STEPS = 200  # of the paper's attacks (C.4, C.6-2)
# The tables that print an attack's numbers.
TABLES = {"pgd": ("3", "A1"), "aai_cam": ("2", "A4"), "aai_gradcampp": ("A5",)}
COMPARABLE_GAP = -0.1  # the paper calls an accuracy of 0.790 comparable to one of 0.890

Verdict = Literal["holds", "holds weaker", "not supported"]


@dataclass(frozen=True)
class Claim:
    """The claim that method `first` is more robust than method `second`.

    The claim holds if there are MIN_N_FOR_INTERVAL images or more and the whole interval of their
    difference is above `min_difference`, and holds weaker if the difference itself is above
    `weak_min_difference`. The difference is one of accuracies or, if `interpreter` is not "", of
    the rank correlation of that interpreter's maps.

    If `second` is None, the claim is that the robustness of `first` is not due to masked gradients.
    `source` says where the paper makes the claim or, of a variant, where the protocol has it.
    """

    text: str
    source: str
    first: str
    second: str | None = None
    min_difference: float = 0.0
    weak_min_difference: float = 0.0
    interpreter: str = ""


CLAIMS = (
    Claim(
        "Int is about as robust as adversarial training",
        "abstract; Table 3",
        "int",
        "adv",
        min_difference=COMPARABLE_GAP,
        weak_min_difference=1.5 * COMPARABLE_GAP,
    ),
    Claim(
        "Interpretability alone makes a network robust",
        "title, contribution 3; Table 3",
        "int",
        "normal",
    ),
    Claim(
        "Int is more robust than IG-Norm, even to strong attacks",
        "contribution 3; Table 3",
        "int",
        "ig_norm",
    ),
    Claim(
        "Int is more robust than IG-Norm with the weights of Chen et al.",
        "protocol C.3 T6",
        "int",
        "ig_norm_chen",
    ),
    Claim(
        "Int with two classes is more robust than with one",
        "Sec. 5; Table 3",
        "int",
        "int_one_class",
    ),
    Claim(
        "Int's robustness is no artefact of obfuscated gradients",
        "Sec. 5; Tables 3 and 4",
        "int",
    ),
    Claim(
        "Int explains more robustly than adversarial training",
        "Sec. 6; Table 2",
        "int",
        "adv",
        interpreter="cam",
    ),
    Claim(
        "The same of explanations by GradCAM++",
        "Table A5",
        "int",
        "adv",
        interpreter="gradcampp",
    ),
)


class ClaimBracket(NamedTuple):
    """Between which differences a claim lies, whatever the attack (`bracket_claim`).

    `verdict` is "proven: holds" or the like if both ends have the same, else "open: ... to ...".
    `text` says both networks' brackets. They come from `results`.
    """

    low: float
    high: float
    verdict: str
    text: str
    results: Sequence[Result]


class ClaimResult(NamedTuple):
    """What the results of one data set, model and run say about a claim.

    `published`, `under_paper_attack` and `under_all_attacks` are texts with both methods' numbers:
    as the paper prints them, and as measured. They come from `results`.

    `value` in [`low`, `high`] is the difference under all attacks with its 95% interval. None
    means that the claim is not about a difference. `bracket` is None without proofs.
    """

    claim: Claim
    published: str
    under_paper_attack: str
    under_all_attacks: str
    verdict: Verdict
    results: Sequence[Result]
    value: float | None = None
    low: float | None = None
    high: float | None = None
    bracket: ClaimBracket | None = None


def assess(
    claim: Claim, first: Sequence[Result], second: Sequence[Result], report: str
) -> ClaimResult | None:
    """Assess a claim by all results of its first and second network.

    Only attacks that both networks met count. An image's score is the lowest that any of these
    attacks leaves (`lowest_scores`). Returns None if the paper's attack is missing for either.

    Raises IrpipeError, which names `report`, if two results are of other images or lack the data
    set's eps.
    """
    if claim.second is None:
        return _assess_masking(claim, first, report)
    shared_attacks = _attacks(first) & _attacks(second)
    first = _relevant_results(claim, first, shared_attacks)
    second = _relevant_results(claim, second, shared_attacks)
    first_paper = next(filter(is_papers_attack, first), None)
    second_paper = next(filter(is_papers_attack, second), None)
    if first_paper is None or second_paper is None:
        return None
    for result in (*first, *second):
        require_same_images(first_paper, result, report)
    numbers = [_papers_number(result, report) for result in (first_paper, second_paper)]
    first_scores = np.min([lowest_scores(result, report) for result in first], axis=0)
    second_scores = np.min([lowest_scores(result, report) for result in second], axis=0)
    differences = first_scores - second_scores
    value = float(differences.mean())
    low, high = bootstrap(differences)
    return ClaimResult(
        claim,
        _published_numbers(first_paper, second_paper),
        " against ".join(numbers),
        f"{first_scores.mean():.3f} against {second_scores.mean():.3f}, "
        f"difference {value:+z.3f} [{low:+z.3f}, {high:+z.3f}]",
        decide(claim, value, low, len(differences)),
        [*first, *second],
        value=value,
        low=low,
        high=high,
    )


def decide(claim: Claim, value: float, low: float, n: int) -> Verdict:
    """The verdict on a claim from the difference, the lower end of its interval, and n images."""
    # Where all of a few images agree, the interval has no width.
    has_interval = n >= MIN_N_FOR_INTERVAL
    if has_interval and low > claim.min_difference + EPS_TOLERANCE:
        return "holds"
    if value > claim.weak_min_difference + EPS_TOLERANCE:
        return "holds weaker"
    return "not supported"


def _assess_masking(claim: Claim, group: Sequence[Result], report: str) -> ClaimResult | None:
    """Assess the claim that no gradients are masked; it holds weaker if only an attack is weak.

    None means that no sign was looked for that tells against the network, and no proof meets.
    """
    group = [result for result in group if not _interpreter(result)]
    flags = masking_flags(group, report)
    if not any(flag.about == "network" for flag in flags) and not raised_names(flags, "proofs"):
        return None
    verdict: Verdict = "holds"
    if is_suspected(flags):
        verdict = "not supported"
    elif raised_names(flags, "attack") and not raised_names(flags, "proofs"):
        verdict = "holds weaker"
    return ClaimResult(
        claim=claim,
        published="accuracy falls with eps and steps",
        under_paper_attack="".join(
            _accuracies_by_steps(result, report) for result in group if is_papers_attack(result)
        ),
        under_all_attacks=summarise(flags),
        verdict=verdict,
        results=group,
    )


def _attacks(group: Sequence[Result]) -> set[str]:
    return {result.attrs["attack"] for result in group}


def _relevant_results(claim: Claim, group: Sequence[Result], attacks: set[str]) -> list[Result]:
    """The results of these attacks that are on the claim's maps or, if it has none, on accuracy."""
    return [
        result
        for result in group
        if result.attrs["attack"] in attacks and _interpreter(result) == claim.interpreter
    ]


def is_papers_attack(result: Result) -> bool:
    """Return whether the attack is the paper's: of its kind, with the released code's options."""
    options = result.attrs["options"]
    if result.attrs["kind"] == "aai":
        return not options["hinge_weight"] and options["loss"] == "topk"
    if result.attrs["kind"] != "pgd":
        return False
    if options.get("norm", "linf") != "linf":
        return False
    has_papers_steps = not options["step_size_factor"] and not options["random_start"]
    return has_papers_steps and options["grad_dtype"] != "bfloat16"


def _interpreter(result: Result) -> str:
    """The interpreter whose maps an attack changes; "" if it attacks the prediction."""
    return result.attrs["options"]["interpreter"] if "kendall_tau" in result.arrays else ""


def _papers_number(result: Result, report: str) -> str:
    """What the paper gives for a network: its accuracy or its maps' mean tau-b, "–" of no image."""
    train_eps = result.attrs["train_eps"]
    steps = int(result.arrays["steps"].max())
    if "kendall_tau" not in result.arrays:
        return f"{require_correct(result, train_eps, steps, report).mean():.3f}"
    tau = rank_correlation(result, train_eps, steps)
    return f"{tau.value:z.3f}" if tau and tau.n else "–"


def lowest_scores(result: Result, report: str) -> np.ndarray:
    """The lowest score of each image over an attack's step counts, `[N]`, at the data set's eps.

    A score is 1 for a correct image and 0 for a misclassified one; for maps, it is `robust_tau`.
    """
    train_eps = result.attrs["train_eps"]
    counts = [int(count) for count in result.arrays["steps"]]
    correct = np.array([require_correct(result, train_eps, count, report) for count in counts])
    if "kendall_tau" not in result.arrays:
        return correct.all(axis=0).astype(float)
    indices = [eps_step_indices(result, train_eps, count) for count in counts]
    tau = robust_tau(result.arrays)
    lowest: np.ndarray = np.min([tau[:, *pair] for pair in indices if pair], axis=0)
    return lowest


def _published_numbers(first: Result, second: Result) -> str:
    """The two published numbers, and the table that has both; "" if none has."""
    options = first.attrs["options"]
    attack = "pgd" if first.attrs["kind"] == "pgd" else f"aai_{options['interpreter']}"
    column = Column("", first.attrs["train_eps"], STEPS, attack)
    for table in TABLES.get(attack, ()):
        published = published_table(table)
        first_value = published_value(published, first, column)
        second_value = published_value(published, second, column)
        if first_value and second_value:
            return f"{first_value.value:.3f} against {second_value.value:.3f} (Table {table})"
    return ""


def _accuracies_by_steps(result: Result, report: str) -> str:
    """Accuracies at the data set's eps, such as "0.935 at 1, 0.790 at 200 steps"."""
    train_eps = result.attrs["train_eps"]
    accuracies = []
    for count in result.arrays["steps"]:
        correct = require_correct(result, train_eps, int(count), report)
        accuracies.append(f"{correct.mean():.3f} at {int(count)}")
    return f"{', '.join(accuracies)} steps"
