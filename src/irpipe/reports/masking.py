"""Signs of masked gradients, network by network, and a line on what they come to."""

from pathlib import Path

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.quantities import Names
from irpipe.reports.parts.masking import CHANCE, SHARE, Flag, flags, verdict
from irpipe.reports.parts.render import Block, Entry, Page, write
from irpipe.reports.parts.selection import ACCURACY, eps_label, method, network, together

LEGEND = (
    f"Each sign with its numbers at the data set's radius. Raised: a rival attack leaves fewer images right, a larger "
    f"radius or the last iterate more, by more than chance (McNemar's test on the same images, p < {CHANCE}); the "
    f"largest radius leaves as many right as the smallest; more than {SHARE:.0%} of gradients vanish; steps fall short "
    "of the radius."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["pgd", "strong", "square"],  # noqa: B006 (read, never changed)
) -> list[Path]:
    """Write a row for each network and sign as `output`.csv, .md, .tex and .html; return the four paths.

    Raises IrpipeError as `selection.together` does, if a result lacks the data set's radius, and if none of the
    attacks is of a kind that `masking` knows.
    """
    blocks, records = [], []
    for pair, networks in together(results, attacks, output.name, (*ACCURACY, "index"), partly=True).items():
        for members in networks:
            found = flags(members, output.name)
            if not found:
                raise IrpipeError(f"{output.name}: no sign can be read from the attacks {', '.join(attacks)}")
            heading = f"{network(pair)}, {method(members[0])}, ε = {eps_label(members[0].attrs['nominal_radius'])}"
            rows = [[Entry(flag.name), Entry("yes" if flag.raised else "no"), Entry(flag.numbers)] for flag in found]
            rows.append([Entry("Verdict"), Entry(""), Entry(verdict(found))])
            blocks.append(Block(heading, ["Sign", "Raised", "Numbers"], rows))
            records += [_record(output.name, members[0], flag, verdict(found)) for flag in found]
    return write(output, Page(title, blocks, LEGEND, prose=True), records)


def _record(table: str, result: Result, flag: Flag, said: str) -> dict[str, object]:
    attrs = result.attrs
    return {
        "table": table,
        **{key: attrs[key] for key in ("dataset", "model", "method", "run")},
        "sign": flag.name,
        "about": "network" if flag.network else "attack",
        "raised": "yes" if flag.raised else "no",
        "value": round(flag.value, 6),
        "against": round(flag.against, 6),
        "numbers": flag.numbers,
        "verdict": said,
        "network_sha256": attrs["network_sha256"],
    }
