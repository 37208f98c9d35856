"""Run one attack on one network and score its images one by one (C.4, C.7)."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irpipe.ascent.norms import norms
from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.code_hash import of_model
from irpipe.datasets import DatasetFacts, Images, facts, load
from irpipe.errors import IrpipeError
from irpipe.evaluation.checks import LogitsNotFiniteError, check_images, score_images
from irpipe.evaluation.outputs import join_batches, lent, outputs_of
from irpipe.evaluation.sample import Sample, draw_sample
from irpipe.evaluation.state import EvaluationState
from irpipe.networks.load import LoadedNetwork, load_for_attack
from irpipe.option_types import EpsNorm
from irpipe.outside_code import import_kind, is_outside, plain_name
from irpipe.results.result import Result
from irpipe.runtime.device import machine, versions

# The attributes that name a network.
IDENTITY = ("dataset", "model", "method", "run")


def evaluate_checkpoint(
    path: Path,
    name: str,
    options: dict[str, Any],
    data: Path,
    device: torch.device,
    code_hash: str,
    state: EvaluationState | None = None,
) -> Result:
    """Attack the network in the checkpoint at `path`, as `evaluate_network` does.

    `data` is the folder of data sets.
    """
    network = load_for_attack(path, device)
    test = load(network.metadata["data"], data, "test")
    return evaluate_network(network, name, options, test, device, code_hash, state=state)


def evaluate_network(
    network: LoadedNetwork,
    name: str,
    options: dict[str, Any],
    test: Images,
    device: torch.device,
    code_hash: str,
    on_images: Callable[[Tensor], None] | None = None,
    state: EvaluationState | None = None,
    certified: dict[tuple[int, float], bool] | None = None,
) -> Result:
    """Attack a network with the attack called `name`.

    `options` is the attack's resolved entry, `test` the test set. The arrays of the result have
    the axes [N, E, S]: image, eps (or point of the attack), step count (or whatever `AXIS` of the
    kind names). `on_images` gets the adversarial images `[E, n, C, H, W]` of each batch at the
    last position on S. `state` has what an interrupted evaluation has done, and `certified` what
    `AttackBatch` says. Raises IrpipeError for bad input.
    """
    attrs = result_attributes(network, name, options, test, device, code_hash)
    options = attrs["options"]
    kind = _import_kind(options)
    sample, rng = draw_sample(test, options, device)
    label = f"{name} on {'/'.join(attrs[key] for key in IDENTITY)}"
    try:
        folder = state.folder_for(attrs) if state else None
        if certified is None or is_outside(options["kind"]):
            # What an attack of anybody writes there, no other attack trusts (D.4).
            certified = dict(certified or {})
        arrays = _attack_sample(
            network, kind, options, sample, rng, label, on_images, folder, certified
        )
    except LogitsNotFiniteError as error:
        # Only networks of `irpipe train` can be trained again.
        remedy = "; train it again" if attrs["run"].startswith("seed") else ""
        raise IrpipeError(f"{error}{remedy}") from error
    return Result(attrs | {"machine": machine()}, arrays)


def result_attributes(
    network: LoadedNetwork,
    name: str,
    options: dict[str, Any],
    test: Images,
    device: torch.device,
    code_hash: str,
) -> dict[str, Any]:
    """The attributes of the result of `evaluate_network`: everything that decides its arrays."""
    metadata = network.metadata
    dataset = facts(metadata["data"])
    kind = _import_kind(options)
    if "eps" in options:
        options = options | {"eps": options["eps"] or _default_eps(kind, dataset, options)}
    attrs = {key: metadata[key] for key in IDENTITY}
    attrs |= {
        "model": plain_name(metadata["model"]),
        "class_names": list(dataset.class_names),
        "attack": name,
        "kind": options["kind"],
        "options": options,
        "code_hash": code_hash,
        "seed": options["seed"],
        "network_sha256": network.sha256,
        "checkpoint_metadata": metadata,
        "data_sha256": test.sha256(),
        "protocol": list(kind.PROTOCOL),
        "train_eps": dataset.train_eps,
        "versions": versions(device),
        "device": device.type,
    }
    # A checkpoint has the weights of a model that is a file, and not its code.
    if model_code_hash := of_model(metadata.get("checkpoint", metadata)["model"]):
        attrs["model_code_hash"] = model_code_hash
    if hasattr(kind, "provenance"):
        attrs |= kind.provenance(options)
    if hasattr(kind, "NORMS"):
        attrs["eps_norm"] = _eps_norm(kind, options)
    skipped = kind.left_out(options, len(dataset.class_names)) if hasattr(kind, "left_out") else []
    if skipped:
        attrs["left_out"] = skipped
    return attrs


def _import_kind(options: dict[str, Any]) -> Any:
    return import_kind("attacks", options["kind"])


def _attack_sample(
    network: LoadedNetwork,
    kind: Any,
    options: dict[str, Any],
    sample: Sample,
    rng: np.random.RandomState,
    label: str,
    on_images: Callable[[Tensor], None] | None,
    state: Path | None,
    certified: dict[tuple[int, float], bool],
) -> dict[str, np.ndarray]:
    """All arrays of a result. Attacks `batch_size` images at a time and joins their arrays."""
    batches = []
    n_images = len(sample.indices)
    for offset in range(0, n_images, options["batch_size"]):
        end = min(offset + options["batch_size"], n_images)
        part = slice(offset, end)
        batch = AttackBatch(
            network=network.network,
            folded=network.folded,
            images=sample.images[part],
            labels=sample.labels[part],
            indices=sample.indices[part],
            rng=rng,
            progress_label=f"{label}, images {offset + 1} to {end} of {n_images}",
            offset=offset,
            state=state,
            certified=certified,
        )
        batches.append(_attack_batch(batch, kind, options, on_images))
    axis = _axis(kind)
    arrays = join_batches(batches, axis)
    arrays["indices"] = sample.indices
    arrays["label"] = sample.labels.cpu().numpy()
    arrays[axis] = batches[0][axis]
    if "eps" in options:
        arrays["eps"] = np.array(options["eps"])
    return arrays


def require_applicable(
    network: LoadedNetwork, options: dict[str, Any], test: Images, device: torch.device
) -> None:
    """Raise NotApplicableError if the network lacks what an attack needs, as far as it can say.

    `options` is the attack's resolved entry, `test` the test set.
    """
    kind = _import_kind(options)
    if hasattr(kind, "require_applicable"):
        image, label = test.images[:1].to(device), test.labels[:1].to(device)
        index, rng = np.array([0]), np.random.RandomState()
        batch = AttackBatch(network.network, network.folded, image, label, index, rng)
        kind.require_applicable(batch, **_accepted_options(kind.require_applicable, options))


def norms_of(options: dict[str, Any]) -> tuple[str, ...]:
    """The norms in which an attack can bound its change by eps; `options` is its entry."""
    norms_of_kind: tuple[str, ...] = getattr(_import_kind(options), "NORMS", ("linf",))
    return norms_of_kind


def _eps_norm(kind: Any, options: dict[str, Any]) -> EpsNorm:
    """The norm in which eps bounds the attack's change."""
    norm: EpsNorm = options.get("norm", "linf") if hasattr(kind, "NORMS") else "linf"
    return norm


def _default_eps(kind: Any, dataset: DatasetFacts, options: dict[str, Any]) -> list[float]:
    """The eps of an entry that names none: those of the kind, else those of the data set."""
    if _eps_norm(kind, options) != "linf":
        raise IrpipeError(
            f"attack option eps: missing; those of the data set are l-inf bounds, "
            f"and norm is {options['norm']}"
        )
    if hasattr(kind, "default_eps"):
        return list(kind.default_eps(options))
    return list(dataset.eval_eps)


def _attack_batch(
    batch: AttackBatch,
    kind: Any,
    options: dict[str, Any],
    on_images: Callable[[Tensor], None] | None = None,
) -> dict[str, np.ndarray]:
    """Arrays `[N, E, S]` of one batch and, under the name of the last axis, its values `[S]`.

    At eps = 0 the image stays clean (C.4).
    """
    metrics = getattr(kind, "metrics", None)
    attack_options = _accepted_options(kind.attack, options)
    eps = torch.tensor(options.get("eps", ()), dtype=torch.float64)
    is_positive = eps > 0
    if len(eps) and not is_positive.any():
        raise IrpipeError("attack option eps: 0 leaves nothing to attack; add an eps above 0 to 0")
    if "eps" in attack_options:
        attack_options["eps"] = eps[is_positive].tolist()
    axis_values: list[int] = []
    parts: dict[str, list[Tensor]] = {}
    files: dict[str, list[np.ndarray]] = {}
    is_file = is_outside(options["kind"])
    for output in outputs_of(kind, batch, attack_options, is_outside=is_file):
        adversarial = output.images
        arrays = dict(output.extras) | _distances(output, batch, eps[is_positive], kind, options)
        if not is_positive.all():
            arrays = {
                name: _with_clean_rows(torch.zeros_like(array[0]), array, is_positive)
                for name, array in arrays.items()
            }
            adversarial = _with_clean_rows(batch.images, adversarial, is_positive)
        arrays |= score_images(batch.network, adversarial, batch.labels)
        if metrics:
            given = (lent(batch), adversarial.clone()) if is_file else (batch, adversarial)
            # What the evaluator has computed counts, whatever the kind says of it (D.4).
            arrays |= metrics(*given, **_accepted_options(metrics, options)) | arrays
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array.transpose(0, 1))
        for name, rows in output.files.items():
            of_eps = np.full((len(eps), len(batch.images)), b"", dtype=object)
            of_eps[is_positive.numpy()] = rows
            files.setdefault(name, []).append(of_eps.T)
        axis_values.append(output.axis_value)
    if on_images:
        on_images(adversarial)
    stacked = {name: torch.stack(part, dim=2).cpu().numpy() for name, part in parts.items()}
    own = {name: np.stack(part, axis=2) for name, part in files.items() if name not in stacked}
    return stacked | own | {_axis(kind): np.array(axis_values)}


def _distances(
    output: AttackOutput, batch: AttackBatch, eps: Tensor, kind: Any, options: dict[str, Any]
) -> dict[str, Tensor]:
    """Check an output's images; return their distances `[E, N]` from the clean ones, by array."""
    norm = _eps_norm(kind, options)
    max_distance = output.max_distance
    if max_distance is None:
        bound = eps.to(output.images.device)
        max_distance = bound[:, None].expand(-1, len(batch.images))
    distance = check_images(output.images, batch.images, max_distance, options["kind"], norm)
    distances = {f"{norm}_distance": distance}
    if norm != "linf":
        distances["linf_distance"] = norms(output.images - batch.images, "linf")
    return distances


def _with_clean_rows(clean: Tensor, adversarial: Tensor, is_positive: Tensor) -> Tensor:
    """One row per eps: the `adversarial` row where eps > 0, the `clean` one where eps = 0."""
    rows = clean.repeat(len(is_positive), *[1] * clean.dim())
    rows[is_positive.to(rows.device)] = adversarial
    return rows


def _axis(kind: Any) -> str:
    """Name of a result's last axis."""
    return str(getattr(kind, "AXIS", "steps"))


def _accepted_options(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options that a function of a kind takes. The evaluator uses the others itself."""
    parameters = inspect.signature(function).parameters.values()
    keywords = [
        parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY
    ]
    return {name: options[name] for name in keywords if name in options}
