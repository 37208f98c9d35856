"""The summary of a stress test as JSON, with the fields of RobustBench's model cards."""

import json
from collections.abc import Sequence
from typing import Any, get_args

from irpipe.option_types import AutoAttackMember
from irpipe.reports.stress_page.against import PairedTest
from irpipe.reports.stress_page.numbers import StressNumbers, accuracy_at
from irpipe.results.accuracy import Accuracy
from irpipe.results.labels import eps_label
from irpipe.results.result import Result
from irpipe.results.stress_record import Attempt

STANDARD_AUTOATTACK = list(get_args(AutoAttackMember))


def summary_json(
    name: str,
    results: Sequence[Result],
    numbers: StressNumbers | None,
    attempts: Sequence[Attempt],
    tests: Sequence[PairedTest] = (),
) -> str:
    """The summary as text.

    `model_card` has those fields of RobustBench's model_info files that a stress test knows:
    accuracies in percent, as text. `autoattack_acc` is there only if the standard version ran.
    """
    summary: dict[str, Any] = {"name": name, "attacks": {}}
    for attempt in attempts:
        entry: dict[str, Any] = {"state": attempt.state, "kind": attempt.kind}
        if attempt.reason:
            entry["reason"] = attempt.reason
        if attempt.seconds is not None:
            entry["seconds"] = attempt.seconds
        summary["attacks"][attempt.attack] = entry
    if results:
        summary["network_sha256"] = results[0].attrs["network_sha256"]
        summary["data_sha256"] = results[0].attrs["data_sha256"]
    if numbers:
        summary |= _number_fields(numbers)
        summary["model_card"] = _model_card(results[0], numbers)
        for result in numbers.counted:
            entry = summary["attacks"][result.attrs["attack"]]
            entry["accuracy"] = _as_dict(accuracy_at(result, numbers.eps))
            entry["sha256"] = result.sha256
    if tests:
        summary["paired_tests"] = [
            {
                "against": test.other,
                "attack": test.attack,
                **test.difference._asdict(),
                "p_holm": test.p_holm,
            }
            for test in tests
        ]
    return f"{json.dumps(summary, indent=1)}\n"


def _number_fields(numbers: StressNumbers) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "threat_model": numbers.norm.capitalize(),
        "eps": numbers.eps,
        "clean_accuracy": _as_dict(numbers.clean),
        "accuracy_under_all_attacks": _as_dict(numbers.worst),
        "signs_of_masking": {
            "looked_for": len(numbers.flags),
            "of": numbers.n_signs,
            "found": [flag.name for flag in numbers.flags if flag.is_raised],
        },
    }
    if numbers.tau:
        result, tau = numbers.tau
        fields["kendall_tau"] = {
            "attack": result.attrs["attack"],
            "prediction_kept": tau.value if tau.n else None,
            "n": tau.n,
            "lost_images_as_0": tau.value_all,
        }
    return fields


def _as_dict(measured: Accuracy | None) -> dict[str, float] | None:
    return None if measured is None else measured._asdict()


def _model_card(first: Result, numbers: StressNumbers) -> dict[str, Any]:
    card: dict[str, Any] = {
        "dataset": first.attrs["dataset"],
        "architecture": first.attrs["model"],
        "eps": eps_label(numbers.eps),
    }
    if numbers.clean:
        card["clean_acc"] = _percent(numbers.clean)
    for result in numbers.counted:
        attrs = result.attrs
        is_standard = (
            attrs["kind"] == "autoattack"
            and attrs["options"]["attacks_to_run"] == STANDARD_AUTOATTACK
            and "left_out" not in attrs
        )
        measured = accuracy_at(result, numbers.eps)
        if is_standard and measured:
            card["autoattack_acc"] = _percent(measured)
    return card


def _percent(measured: Accuracy) -> str:
    return f"{100 * measured.value:.2f}"
