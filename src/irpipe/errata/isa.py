"""Findings on Table 1: the divisor of NSL, squared norms, cells on few images, searches that end early."""

from irpipe.errata import Network, Row, finding, released
from irpipe.io import Result
from irpipe.published import CLASS_SETS, INTERPRETERS, NORMS, Measure, Resistance, resistances
from irpipe.reports.parts import nds
from irpipe.reports.parts.nds import Scores
from irpipe.reports.parts.selection import Pair, method


def rows(chosen: dict[Pair, list[Result]]) -> list[Row]:
    """NSL per point (C.5 I2), squared norms (C.5 I5), images left out (C.5-7) and truncated searches (C.5 I1).

    All but the last of the released networks in Table 1 only.
    """
    found = [row for network, result in released(chosen).items() for row in _of(network, result)]
    return [*found, *(_truncated(pair, result) for pair, members in chosen.items() for result in members)]


def _of(network: Network, result: Result) -> list[Row]:
    interpreter, found = result.attrs["spec"]["interpreter"], []
    for place, specification in enumerate(nds.measured_by(result)):
        printed = resistances().get(Measure(*network, interpreter, *specification))
        if printed is None:
            continue
        norm, classes = specification
        what = f"{INTERPRETERS[interpreter]}, {NORMS[norm]} {CLASS_SETS[classes]}"
        ours, squared = nds.of(result, place), nds.of(result, place, squared=True)
        if classes == "two":
            found.append(_divisor(network[:2], what, printed, ours))
        if norm == "l2" and squared.apart(printed) < ours.apart(printed):
            found.append(_squared(network[:2], what, printed, ours, squared))
        if 2 * ours.images < len(result.arrays["valid"]):
            note = f"{ours.images} of {len(result.arrays['valid'])} images are kept, with {ours.points} points"
            found.append(finding("Few images", "C.5-7", network[:2], what, _pair(printed), _pair(ours), note))
    return found


def _pair(scores: Scores | Resistance) -> str:
    nsl = scores.nsl if isinstance(scores, Resistance) else scores.nsl_per_point
    return f"NDS {scores.nds:.4g}, NSL {nsl:.4f}"


def _divisor(pair: Pair, what: str, printed: Resistance, ours: Scores) -> Row:
    """What NSL is the mean of."""
    found = f"{ours.nsl_per_point:.4f} per point, {ours.nsl_per_image:.4f} per image"
    near = "points" if abs(ours.nsl_per_point - printed.nsl) < abs(ours.nsl_per_image - printed.nsl) else "images"
    note = f"the printed value is nearer to the mean over {near}; the text says images"
    return finding("Divisor of NSL", "C.5 I2", pair, what, f"NSL {printed.nsl:.4f}", found, note)


def _squared(pair: Pair, what: str, printed: Resistance, ours: Scores, squared: Scores) -> Row:
    """A cell that the squares of the normalised discrepancies come nearer to than these themselves."""
    note = f"squared: {_pair(squared)}, which is nearer to what is printed"
    return finding("Norm or its square", "C.5 I5", pair, what, _pair(printed), _pair(ours), note)


def _truncated(pair: Pair, result: Result) -> Row:
    """How often the search for gamma = 1/lambda ended before it found one that is too large."""
    capped, spec = result.arrays["capped"][:, 1:], result.attrs["spec"]
    most = result.arrays["gamma"].max()
    note = f"gamma = 1/lambda of these could be larger; the largest found is {most:.4g}"
    ours = f"{int(capped.sum())} of {capped.size} searches ({capped.mean():.1%}) end at the cap"
    what = f"bisection on lambda, {INTERPRETERS[spec['interpreter']]}, {method(result)}"
    return finding("Truncated search", "C.5 I1", pair, what, "until no successful attack can be found", ours, note)
