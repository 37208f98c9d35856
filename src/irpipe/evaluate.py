"""Run one attack on one network and score what comes out, image by image (protocol C.4, C.7).

The attack is not trusted: shape, range, radius and finiteness of its images are checked here and every prediction is
recomputed by the plain network.
"""

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import Case
from irpipe.data import Images, dataset, load
from irpipe.errors import IrpipeError
from irpipe.hardware import versions
from irpipe.io import Checkpoint, Result, read_checkpoint
from irpipe.models import Folded, Network, from_tensors

SLACK = 1e-6  # rounding allowed beyond a radius


def load_network(checkpoint: Checkpoint, where: Path) -> Network:
    """The network of a checkpoint, ready to attack; raises IrpipeError naming `where` if it fits no model."""
    about = checkpoint.identity(where)
    module = dataset(about["data"]["kind"])
    network = from_tensors(about["model"], module.SHAPE, len(module.CLASSES), checkpoint.tensors, str(where))
    return network.requires_grad_(False).eval()


def _checked(adversarial: Tensor, images: Tensor, bound: Tensor, kind: str) -> Tensor:
    """Measured l-inf radii `[E, N]` of an attack's images; raises RuntimeError if they are none or leave their set.

    `bound` `[E, N]` is how far each may lie from its own.
    """
    if adversarial.shape != (len(bound), *images.shape):
        wanted = (len(bound), *images.shape)
        raise RuntimeError(f"attack {kind}: gave images of shape {tuple(adversarial.shape)}, not {wanted}")
    if not bool(adversarial.isfinite().all()):
        raise RuntimeError(f"attack {kind}: gave images that are not finite")
    if bool(((adversarial < 0) | (adversarial > 1)).any()):
        raise RuntimeError(f"attack {kind}: gave pixels outside [0, 1]")
    radius = (adversarial - images).abs().flatten(2).amax(dim=2)
    if bool((radius > bound + SLACK).any()):
        worst = int((radius - bound).argmax())
        found, allowed = float(radius.flatten()[worst]), float(bound.flatten()[worst])
        raise RuntimeError(f"attack {kind}: went {found:.6f} far where {allowed:.6f} is allowed")
    return radius


def _score(network: Network, adversarial: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Prediction, correctness and cross-entropy, `[E, N]`, by the plain network."""
    with torch.no_grad():
        logits = torch.stack([network(images.float()) for images in adversarial])
    if not bool(logits.isfinite().all()):
        raise IrpipeError("the network gives logits that are not finite; train it again")
    wanted = labels.expand(len(adversarial), -1)
    prediction = logits.argmax(dim=2)
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view_as(prediction)
    return {"prediction": prediction, "correct": prediction == wanted, "loss": loss}


def _run(case: Case, kind: Any, spec: dict[str, Any]) -> dict[str, np.ndarray]:
    """Attack one batch; arrays `[N, E, S]` and, under the name of the last axis, its places `[S]`."""
    measure = getattr(kind, "measure", None)
    own, radii = _accepted(kind.attack, spec), torch.tensor(spec.get("eps", ()), dtype=torch.float64)
    above = radii > 0  # radius 0 is the clean image: nothing to attack there, C.4
    if "eps" in own:
        own["eps"] = radii[above].tolist()
    places: list[int] = []
    parts: dict[str, list[Tensor]] = {}
    for outcome in kind.attack(case, **own):
        adversarial, bound = outcome.images, outcome.bound
        if bound is None:
            bound = radii[above].to(adversarial.device)[:, None].expand(-1, len(case.images))
        arrays = dict(outcome.extra) | {"radius": _checked(adversarial, case.images, bound, spec["kind"])}
        if not above.all():
            arrays = {name: _beside(torch.zeros_like(part[0]), part, above) for name, part in arrays.items()}
            adversarial = _beside(case.images, adversarial, above)
        arrays |= _score(case.network, adversarial, case.labels)
        if measure:
            arrays |= measure(case, adversarial, **_accepted(measure, spec))
        for name, part in arrays.items():
            parts.setdefault(name, []).append(part.transpose(0, 1))
        places.append(outcome.at)
    done = {name: torch.stack(part, dim=2).cpu().numpy() for name, part in parts.items()}
    return done | {_axis(kind): np.array(places)}


def _beside(clean: Tensor, attacked: Tensor, above: Tensor) -> Tensor:
    """One row a radius: `attacked` where that is above 0, `clean` elsewhere."""
    whole = clean.repeat(len(above), *[1] * clean.dim())
    whole[above.to(whole.device)] = attacked
    return whole


def _axis(kind: Any) -> str:
    """Name of a result's last axis."""
    return str(getattr(kind, "AXIS", "steps"))


def _accepted(function: Callable[..., Any], spec: dict[str, Any]) -> dict[str, Any]:
    """The options of an entry that a kind's function takes; the evaluator keeps the rest for itself."""
    named = inspect.signature(function).parameters.values()
    return {
        option.name: spec[option.name] for option in named if option.kind is option.KEYWORD_ONLY and option.name in spec
    }


def _sections(kind: Any) -> list[str]:
    """The protocol's sections that a kind's source cites beside what they decide."""
    return sorted(set(re.findall(r"\bC\.\d(?:-\d)?(?: [TPI]\d+)?", inspect.getsource(kind))))


def sample(
    images: Images, spec: dict[str, Any], where: torch.device
) -> tuple[np.ndarray, Images, np.random.RandomState]:
    """Indices, images and labels of the test images that the spec draws, and the generator behind the draw (C.4).

    A spec with `places` names its images itself.
    """
    if spec["images"] > len(images):
        raise IrpipeError(f"attack option images: {spec['images']}, but the test set has {len(images)}")
    rng = np.random.RandomState(spec["seed"])
    index = rng.permutation(len(images))[: spec["images"]]
    if spec.get("places"):
        index = np.array(spec["places"])
        if index.max() >= len(images):
            raise IrpipeError(f"attack option places: {index.max()}, but the test set has {len(images)}")
    return index, Images(images.images[index].to(where), images.labels[index].to(where)), rng


@dataclass(frozen=True)
class Subject:
    """A network to attack: itself and for loops, what it is (data set, data, model, method, run), its SHA-256."""

    network: Network
    folded: Folded
    about: dict[str, Any]
    sha256: str


def subject_of(path: Path, where: torch.device) -> Subject:
    """The network in the checkpoint at `path`; raises IrpipeError if there is none."""
    checkpoint = read_checkpoint(path)
    about, network = checkpoint.identity(path), load_network(checkpoint, path).to(where)
    return Subject(network, Folded(network, dataset(about["data"]["kind"]).SHAPE), about, checkpoint.sha256)


def evaluate(path: Path, name: str, spec: dict[str, Any], data: Path, where: torch.device, code: str) -> Result:
    """Attack the network in the checkpoint at `path`, as `examine` does."""
    return examine(subject_of(path, where), name, spec, data, where, code)


def examine(subject: Subject, name: str, spec: dict[str, Any], data: Path, where: torch.device, code: str) -> Result:
    """Attack a network with the attack called `name`.

    `spec` is its resolved entry, `data` the folder of data sets. Returns per-image arrays with axes image, radius
    (or the attack's own points), step count (or what else its outcomes differ in). Raises IrpipeError for bad input.
    """
    about = subject.about
    module = dataset(about["data"]["kind"])
    test = load(about["data"], data, "test")
    kind = importlib.import_module(f"irpipe.attacks.{spec['kind']}")
    if "eps" in spec:
        spec = spec | {"eps": spec["eps"] or (kind.radii(spec) if hasattr(kind, "radii") else list(module.RADII))}
    index, chosen, rng = sample(test, spec, where)
    batches = []
    label = f"{name} on {'/'.join(about[key] for key in ('dataset', 'model', 'method', 'run'))}"
    for start in range(0, len(index), spec["batch"]):
        part = slice(start, start + spec["batch"])
        shown = f"{label}, from image {start}"
        images, labels = chosen.images[part], chosen.labels[part]
        case = Case(subject.network, subject.folded, images, labels, index[part], rng, shown, start)
        batches.append(_run(case, kind, spec))
    axis = _axis(kind)
    arrays = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0] if key != axis}
    arrays |= {"index": index, "label": chosen.labels.cpu().numpy(), axis: batches[0][axis]}
    if "eps" in spec:
        arrays["eps"] = np.array(spec["eps"])
    attrs = {key: about[key] for key in ("dataset", "model", "method", "run")}
    attrs |= {
        "classes": list(module.CLASSES),
        "attack": name,
        "kind": spec["kind"],
        "spec": spec,
        "code": code,
        "seed": spec["seed"],
    }
    attrs |= {"network_sha256": subject.sha256, "network": about, "data_sha256": test.sha256()}
    attrs |= kind.record(spec) if hasattr(kind, "record") else {}
    attrs |= {
        "protocol": _sections(kind),
        "nominal_radius": module.RADIUS,
        "versions": versions(where),
        "device": where.type,
    }
    return Result(attrs, arrays)
