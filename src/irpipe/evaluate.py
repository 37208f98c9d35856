"""Run one attack on one network and score what comes out, image by image (protocol C.4, C.7).

The attack is not trusted: shape, range, radius and finiteness of its images are checked here and every prediction is
recomputed by the plain network.
"""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

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

Attack = Callable[..., Iterator[tuple[int, Tensor]]]
SLACK = 1e-6  # rounding allowed beyond a radius


def load_network(checkpoint: Checkpoint, where: Path) -> Network:
    """The network of a checkpoint, ready to attack; raises IrpipeError naming `where` if it fits no model."""
    about = checkpoint.identity(where)
    module = dataset(about["data"]["kind"])
    network = from_tensors(about["model"], module.SHAPE, len(module.CLASSES), checkpoint.tensors, str(where))
    return network.requires_grad_(False).eval()


def _checked(adversarial: Tensor, images: Tensor, eps: list[float], kind: str) -> Tensor:
    """Measured radii `[E, N]` of an attack's images; raises RuntimeError if they are none or leave their set."""
    if adversarial.shape != (len(eps), *images.shape):
        raise RuntimeError(
            f"attack {kind}: gave {tuple(adversarial.shape)} for {len(eps)} radii of {tuple(images.shape)}"
        )
    if not bool(adversarial.isfinite().all()):
        raise RuntimeError(f"attack {kind}: gave images that are not finite")
    if bool(((adversarial < 0) | (adversarial > 1)).any()):
        raise RuntimeError(f"attack {kind}: gave pixels outside [0, 1]")
    radius = (adversarial - images).abs().flatten(2).amax(dim=2)
    if bool((radius > radius.new_tensor(eps)[:, None] + SLACK).any()):
        raise RuntimeError(f"attack {kind}: went {float(radius.max()):.6f} far for the radii {eps}")
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


def _run(case: Case, attack: Attack, spec: dict[str, Any]) -> dict[str, np.ndarray]:
    """Attack one batch; arrays `[N, E, S]` and the step counts `[S]`."""
    steps: list[int] = []
    parts: dict[str, list[Tensor]] = {}
    own = {key: value for key, value in spec.items() if key not in {"kind", "images", "seed", "batch", "eps"}}
    moving = [number for number, radius in enumerate(spec["eps"]) if radius > 0]
    for count, moved in attack(case, eps=[spec["eps"][number] for number in moving], **own):
        # radius 0 is the clean image: nothing to attack, C.4
        if moved.shape != (len(moving), *case.images.shape):
            found, wanted = tuple(moved.shape), (len(moving), *case.images.shape)
            raise RuntimeError(f"attack {spec['kind']}: gave images of shape {found}, not {wanted}")
        adversarial = case.images.repeat(len(spec["eps"]), 1, 1, 1, 1)
        adversarial[moving] = moved
        radius = _checked(adversarial, case.images, spec["eps"], spec["kind"])
        for name, part in ({"radius": radius} | _score(case.network, adversarial, case.labels)).items():
            parts.setdefault(name, []).append(part.T)
        steps.append(count)
    arrays = {name: torch.stack(part, dim=2).cpu().numpy() for name, part in parts.items()}
    return arrays | {"steps": np.array(steps)}


def sample(
    images: Images, spec: dict[str, Any], where: torch.device
) -> tuple[np.ndarray, Images, np.random.RandomState]:
    """Indices, images and labels of the test images that the spec draws, and the generator behind the draw (C.4)."""
    if spec["images"] > len(images):
        raise IrpipeError(f"attack option images: {spec['images']}, but the test set has {len(images)}")
    rng = np.random.RandomState(spec["seed"])
    index = rng.permutation(len(images))[: spec["images"]]
    return index, Images(images.images[index].to(where), images.labels[index].to(where)), rng


def evaluate(path: Path, name: str, spec: dict[str, Any], data: Path, where: torch.device, code: str) -> Result:
    """Attack the network in the checkpoint at `path` with the attack called `name`.

    `spec` is its resolved entry, `data` the folder of data sets. Returns per-image arrays with axes image, radius,
    step count. Raises IrpipeError for bad input.
    """
    checkpoint = read_checkpoint(path)
    about = checkpoint.identity(path)
    module = dataset(about["data"]["kind"])
    test = load(about["data"], data, "test")
    spec = spec | {"eps": spec["eps"] or list(module.RADII)}
    network = load_network(checkpoint, path).to(where)
    attack = cast(Attack, importlib.import_module(f"irpipe.attacks.{spec['kind']}").attack)
    index, chosen, rng = sample(test, spec, where)
    folded, batches = Folded(network, module.SHAPE), []
    label = f"{name} on {'/'.join(about[key] for key in ('dataset', 'model', 'method', 'run'))}"
    for start in range(0, len(index), spec["batch"]):
        part = slice(start, start + spec["batch"])
        case = Case(network, folded, chosen.images[part], chosen.labels[part], rng, f"{label}, from image {start}")
        batches.append(_run(case, attack, spec))
    arrays = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0] if key != "steps"}
    arrays |= {
        "index": index,
        "label": chosen.labels.cpu().numpy(),
        "eps": np.array(spec["eps"]),
        "steps": batches[0]["steps"],
    }
    attrs = {key: about[key] for key in ("dataset", "model", "method", "run")}
    attrs |= {"attack": name, "kind": spec["kind"], "spec": spec, "code": code, "seed": spec["seed"]}
    attrs |= {"network_sha256": checkpoint.sha256, "network": about, "data_sha256": test.sha256()}
    attrs |= {"nominal_radius": module.RADIUS, "versions": versions(where), "device": where.type}
    return Result(attrs, arrays)
