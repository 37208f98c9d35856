"""The verdict on each claim, per network, and the flags of gradient masking."""

import math
from collections.abc import Iterator, Sequence

from irpipe import config
from irpipe.analysis.claims import CLAIMS, ClaimResult
from irpipe.analysis.gradient_masking import masking_flags, summarise
from irpipe.documents.cells import network_name
from irpipe.documents.comparisons import Sourced
from irpipe.documents.numbers import Name, Number
from irpipe.reports.claims_table import assess_runs, claim_networks
from irpipe.results.labels import eps_label
from irpipe.results.select import Network, network_of

PAGE = "verdict"


def claim_attacks() -> list[str]:
    """The attacks by which config/stress.yaml assesses the claims."""
    attacks: list[str] = config.lookup("tables", "claims", None)["attacks"]
    return attacks


def results_on_claims(sourced: Sequence[Sourced]) -> list[Sourced]:
    """The results of `claim_attacks` and, per network, the proofs that were searched longest."""
    attacks = claim_attacks()
    searches = [item for item in sourced if item[0].attrs["kind"] == "certify"]
    proofs: dict[Network, Sourced] = {}
    for item in sorted(searches, key=_search_limits):
        proofs[network_of(item[0])] = item
    attacked = [item for item in sourced if item[0].attrs["attack"] in attacks]
    return [*attacked, *proofs.values()]


def _search_limits(item: Sourced) -> tuple[int, float]:
    """Leaves per target, then seconds per image, of a result of kind `certify`."""
    options = item[0].attrs["options"]
    return options["leaves"], options["seconds"] or math.inf


def verdict_numbers(sourced: Sequence[Sourced]) -> Iterator[tuple[Name, Number]]:
    """The verdicts by name: claim; position from 1; `dataset/model/run`; field.

    Flags of masking are `masking; NETWORK; FIELD`.
    """
    attacks, shown = claim_attacks(), results_on_claims(sourced)
    sources = {id(result): source for result, source in shown}
    networks = claim_networks([result for result, _ in shown], PAGE, attacks)
    for position, claim in enumerate(CLAIMS, 1):
        claim_results = [
            item for groups in networks.values() for item in assess_runs(claim, groups, PAGE)
        ]
        for item in claim_results:
            first = item.results[0].attrs
            network = f"{first['dataset']}/{first['model']}/{first['run']}"
            files = tuple(sources[id(result)] for result in item.results)
            for field, text in _fields(item).items():
                yield ("claim", str(position), network, field), Number(text, files)
    for group in (group for groups in networks.values() for group in groups):
        files = tuple(sources[id(result)] for result in group)
        name = ("masking", network_name(group[0]))
        met = sum(result.attrs["attack"] in attacks for result in group)
        yield (*name, "attacks"), Number(f"{met}", files)
        if flags := masking_flags(group, PAGE):
            yield (*name, "flags"), Number(summarise(flags), files)


def _fields(item: ClaimResult) -> dict[str, str]:
    fields = {
        "eps": eps_label(item.results[0].attrs["train_eps"]),
        "published": item.published or "–",
        "under the paper's attack": item.under_paper_attack,
        "under all attacks": item.under_all_attacks,
        "verdict": item.verdict,
        "attacks": str(len({result.attrs["attack"] for result in item.results})),
    }
    if item.bracket:
        fields["proofs"] = f"{item.bracket.verdict}: {item.bracket.text}"
    return fields
