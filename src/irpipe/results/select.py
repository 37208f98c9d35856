"""What every report does first: check that results belong together, and select and order them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irpipe.errors import IrpipeError
from irpipe.published import DATASETS, METHODS, MODELS, order_of
from irpipe.results.labels import DatasetModel, dataset_model, result_name
from irpipe.results.result import Result

# Attributes in which all results of an attack on a data set must agree, and their display names.
MUST_AGREE = {
    "code_hash": "code",
    "data_sha256": "data",
    "options": "options",
    "surrogates_sha256": "surrogates",
}
# Attributes in which all results of a network must agree, and their display names.
OF_ONE_NETWORK = {"network_sha256": "SHA-256 of the network", "data_sha256": "SHA-256 of the data"}
# What a result with accuracies per eps and step count must have.
ACCURACY_ARRAYS = ("eps", "steps", "correct", "linf_distance")

Network = tuple[str, str, str, str]  # data set, model, method, run


def select_attack(
    results: Iterable[Result], attack: str, report: str, arrays: Iterable[str] = ACCURACY_ARRAYS
) -> dict[DatasetModel, list[Result]]:
    """Results of one attack by data set and model, in order; within those by method, then run.

    Raises IrpipeError, which names `report`, if
    - two results have the same name,
    - results of one attack on one data set disagree in an attribute of MUST_AGREE,
    - results of one network disagree in an attribute of OF_ONE_NETWORK,
    - no result is of this attack,
    - a result of it lacks one of the `arrays`.
    """
    results = list(results)
    refuse_mixed(results, report)
    selected = [result for result in results if result.attrs["attack"] == attack]
    if not selected:
        attacks = sorted({result.attrs["attack"] for result in results})
        raise IrpipeError(
            f"{report}: expected results of attack '{attack}'; "
            f"found {', '.join(attacks) or 'no results at all'}"
        )
    for result in selected:
        missing = [name for name in arrays if name not in result.arrays]
        if missing:
            raise IrpipeError(
                f"{report}: {result_name(result)} is of kind '{result.attrs['kind']}', "
                f"which has no '{missing[0]}'"
            )
    selected.sort(key=_order)
    groups = itertools.groupby(selected, key=dataset_model)
    return {pair: list(group) for pair, group in groups}


def select_attacks(
    results: Iterable[Result],
    attacks: Sequence[str],
    report: str,
    arrays: Sequence[str] = ACCURACY_ARRAYS,
    partly: bool = False,
) -> dict[DatasetModel, list[list[Result]]]:
    """Results of several attacks by data set and model: one list per network, in order.

    A network's list has one result per attack, in the order of `attacks`. Raises IrpipeError as
    `select_attack` does and, unless `partly`, if a network lacks an attack that another one has.
    """
    results = list(results)
    networks: dict[tuple[Any, ...], dict[str, Result]] = {}
    for attack in attacks:
        for result in itertools.chain(*select_attack(results, attack, report, arrays).values()):
            networks.setdefault(_order(result), {})[attack] = result
    groups: dict[DatasetModel, list[list[Result]]] = {}
    for _, by_attack in sorted(networks.items()):
        first = next(iter(by_attack.values()))
        missing = [attack for attack in attacks if attack not in by_attack]
        if missing and not partly:
            raise IrpipeError(
                f"{report}: found {result_name(first)}, "
                f"but no result of '{missing[0]}' on this network"
            )
        group = [by_attack[attack] for attack in attacks if attack in by_attack]
        groups.setdefault(dataset_model(first), []).append(group)
    return groups


def network_of(result: Result) -> Network:
    """Data set, model, method and run of a result, as named in the config."""
    attrs = result.attrs
    return attrs["dataset"], attrs["model"], attrs["method"], attrs["run"]


def select_proofs(
    results: Iterable[Result], certify: Sequence[str] | None, report: str
) -> dict[Network, Result]:
    """The results of kind `certify` by network. `certify` names their attacks; None means all.

    Raises IrpipeError, which names `report`, if `certify` is not None and there is none, if a
    network has two, and as `select_attack` does.
    """
    results = list(results)
    refuse_mixed(results, report)
    proofs: dict[Network, Result] = {}
    for result in results:
        attrs = result.attrs
        if attrs["kind"] != "certify" or (certify and attrs["attack"] not in certify):
            continue
        other = proofs.setdefault(network_of(result), result)
        if other is not result:
            raise IrpipeError(
                f"{report}: found {result_name(other)} and {result_name(result)}; "
                "name the attack of one of them in the option 'certify'"
            )
    if certify and not proofs:
        raise IrpipeError(
            f"{report}: expected results of {', '.join(certify)}, of kind certify; found none"
        )
    return proofs


def with_proofs(group: list[Result], proofs: Mapping[Network, Result]) -> list[Result]:
    """The results of one network, with its proofs if it has some."""
    found = proofs.get(network_of(group[0]))
    is_missing = found is not None and all(result is not found for result in group)
    return [*group, found] if found and is_missing else group


def select_with_proofs(
    results: Iterable[Result], attack: str, certify: Sequence[str] | None, report: str
) -> dict[DatasetModel, list[tuple[Result, Result | None]]]:
    """Results of an attack by data set and model, each with the proofs of its network, if any.

    Of a network that has proofs but no result of the attack, both are the proofs: the search for
    them is an attack, too. If `certify` names attacks, networks without proofs are left out.

    The order and the errors are those of `select_attack` and `select_proofs`.
    """
    results = list(results)
    proofs = select_proofs(results, certify, report)
    by_network = dict(proofs)
    if not proofs or any(result.attrs["attack"] == attack for result in results):
        for result in itertools.chain(*select_attack(results, attack, report).values()):
            by_network[network_of(result)] = result
    groups: dict[DatasetModel, list[tuple[Result, Result | None]]] = {}
    for network, result in sorted(by_network.items(), key=lambda item: _order(item[1])):
        if network in proofs or not certify:
            groups.setdefault(dataset_model(result), []).append((result, proofs.get(network)))
    return groups


def _order(result: Result) -> tuple[Any, ...]:
    """Sort key of a result's network: the paper's order, unknown names last, then the run."""
    attrs = result.attrs
    run = attrs["run"]
    return (
        order_of(DATASETS, attrs["dataset"]),
        order_of(MODELS, attrs["model"]),
        order_of(METHODS, attrs["method"]),
        run != "released",
        len(run),  # seed2 comes before seed10
        run,
    )


def refuse_mixed(results: list[Result], report: str) -> None:
    """Raise IrpipeError if two results have one name, or must agree and do not.

    Those of one attack must agree in MUST_AGREE, those of one network in OF_ONE_NETWORK.
    """
    names: set[str] = set()
    first_of: dict[tuple[str, str, str], Result] = {}
    first_of_network: dict[Network, Result] = {}
    for result in results:
        name = result_name(result)
        if name in names:
            raise IrpipeError(f"{report}: two results of {name}; give each one once")
        names.add(name)
        attrs = result.attrs
        first = first_of.setdefault((attrs["kind"], attrs["attack"], attrs["dataset"]), result)
        for key, label in MUST_AGREE.items():
            of_first, of_this = _differing(first.attrs.get(key), attrs.get(key))
            if of_first != of_this:
                raise IrpipeError(
                    f"{report}: {result_name(first)} is from {label} {of_first}, "
                    f"but {name} is from {label} {of_this}; "
                    f"evaluate both again with the same {label}"
                )
        if "network_sha256" in attrs:  # A training log has none.
            first = first_of_network.setdefault(network_of(result), result)
            for key, label in OF_ONE_NETWORK.items():
                if first.attrs[key] != attrs[key]:
                    raise IrpipeError(
                        f"{report}: {result_name(first)} and {name} differ in the {label}; "
                        "one of them is older: evaluate it again, or leave it out"
                    )


def _differing(first: object, second: object) -> tuple[object, object]:
    """Two values of an attribute; of two mappings only the keys that differ."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return first, second
    differ = [
        key
        for key in {**first, **second}
        if (key in first, first.get(key)) != (key in second, second.get(key))
    ]
    texts = [
        ", ".join(f"{key}: {values[key]}" if key in values else f"no {key}" for key in differ)
        for values in (first, second)
    ]
    return texts[0], texts[1]
