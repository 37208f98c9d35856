"""The verdict on each claim, per network, and the flags of gradient masking."""

from collections.abc import Iterator, Sequence

from irpipe import config
from irpipe.analysis.claims import CLAIMS, ClaimResult
from irpipe.analysis.gradient_masking import masking_flags, summarise
from irpipe.documents.cells import network_name
from irpipe.documents.comparisons import Sourced
from irpipe.documents.numbers import Name, Number
from irpipe.reports.claims_table import assess_runs, claim_networks
from irpipe.results.labels import eps_label

PAGE = "verdict"


def claim_attacks() -> list[str]:
    """The attacks by which config/stress.yaml assesses the claims."""
    attacks: list[str] = config.lookup("tables", "claims", None)["attacks"]
    return attacks


def proof_attacks(sourced: Sequence[Sourced]) -> list[str] | None:
    """The attack of kind `certify` whose proofs count, the one that searched longest; or None."""
    searches = {
        (result.attrs["options"].get("seconds") or 0, str(result.attrs["attack"]))
        for result, _ in sourced
        if result.attrs["kind"] == "certify"
    }
    return [max(searches)[1]] if searches else None


def verdict_numbers(sourced: Sequence[Sourced]) -> Iterator[tuple[Name, Number]]:
    """The verdicts by name: claim; position from 1; `dataset/model/run`; field.

    Flags of masking are `masking; NETWORK; FIELD`.
    """
    attacks, certify = claim_attacks(), proof_attacks(sourced)
    sources = {
        id(result): source
        for result, source in sourced
        if result.attrs["attack"] in [*attacks, *(certify or [])]
    }
    results = [result for result, _ in sourced if id(result) in sources]
    networks = claim_networks(results, PAGE, attacks, certify)
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
