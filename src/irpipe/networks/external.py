"""External networks: any module that gives logits, to be attacked as the paper's networks are.

Opening one can run its maker's code (`_sources`). D.3: a checkpoint of irpipe cannot run code.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn

from irpipe.errors import IrpipeError, first_line
from irpipe.files import content_sha256
from irpipe.networks._gap_head import GapHead, find_gap_head, without_softmax
from irpipe.networks._probe import (
    Trial,
    agree,
    gradient_note,
    probabilities_note,
    probe_images,
    projection,
    try_network,
)
from irpipe.networks._sources import call_function, load_exported
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network

# A forward pass may store what it computes on the module, so one runs at a time.
_FORWARD_LOCK = threading.RLock()


class _OwnImages(nn.Module):
    """A module that gets images of its own, and whose outputs are float32.

    The images are a copy, which the module may change, in the default memory layout, which
    `view` may need. Where a gradient of the images is NaN, it becomes 0: an attack cannot follow
    it, and it counts as vanished.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Return the module's output for a copy of `images`, in float32."""
        own = images.clone(memory_format=torch.contiguous_format)
        if own.requires_grad:
            own.register_hook(_nan_to_zero)  # type: ignore[no-untyped-call]
        with _FORWARD_LOCK:
            output: Tensor = self.module(own)
        return output.float()


def _nan_to_zero(gradient: Tensor) -> Tensor:
    return torch.where(gradient.isnan(), 0, gradient)


class ExternalNetwork(Network):
    """A network whose logits are those of `module`.

    With a `gap_head`, it has class activation maps. Their means are the logits, since they
    contain the bias b of the head: L(x, c) = sum_k W_ck A_k + b_c. Else `why_no_maps` says why not.
    `notes` are lines on what is odd about the network.
    """

    def __init__(self, module: nn.Module, n_classes: int, gap_head: GapHead | str) -> None:
        placeholder = GapHead(nn.Identity(), torch.zeros(n_classes, 0), None)
        backbone, head, bias = placeholder if isinstance(gap_head, str) else gap_head
        super().__init__(_OwnImages(backbone), None, head.shape[1], n_classes)
        self.module = _OwnImages(module)
        self.has_maps = not isinstance(gap_head, str)
        self.why_no_maps = gap_head if isinstance(gap_head, str) else ""
        self.notes: list[str] = []
        self.head = nn.Parameter(head.detach().float())
        self.bias = None if bias is None else nn.Parameter(bias.detach().float())
        self.requires_grad_(False)

    def map_convolution(self, positive_head: bool = False) -> tuple[Tensor, Tensor | None, int]:
        """Return weight, bias and padding, as `Network.map_convolution`.

        GradCAM++ (`positive_head`) has no bias.
        """
        weight, _, padding = super().map_convolution(positive_head)
        return weight, None if positive_head else self.bias, padding

    def train(self, mode: bool = True) -> "ExternalNetwork":
        """Change nothing: exported modules have no modes."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[N, classes]`, float32.

        Raises ValueError if they are not finite. On a GPU this is not seen within CUDA graphs;
        the evaluator then finds it at the attack's images.
        """
        logits: Tensor = self.module(images)
        is_captured = logits.is_cuda and torch.cuda.is_current_stream_capturing()
        if not is_captured and not bool(logits.isfinite().all()) and bool(images.isfinite().all()):
            raise ValueError("the network gives logits that are not finite")
        return logits.contiguous()

    @property
    def with_softplus(self) -> "Network":
        """Raise IrpipeError, because nothing says which functions of a module are ReLUs."""
        raise IrpipeError(
            "attack option interpreter_variant: 'released' has no integrated gradients of this "
            "network; say original"
        )


class UnfoldedNetwork(FoldedNetwork):
    """A network in place of its folded one, for networks that cannot be folded."""

    def __init__(self, network: Network, shape: Sequence[int]) -> None:
        self.network = network
        self.shape = shape

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits `[N, classes]`."""
        logits: Tensor = self.network(images)
        return logits

    def maps(self, images: Tensor, positive_head: bool = False) -> Tensor:
        """Return the class activation maps `[N, classes, h, w]`, as `Network.maps`."""
        return self.network.maps(images, positive_head)


def load_external(
    source: str, shape: Sequence[int], n_classes: int, device: torch.device
) -> tuple[ExternalNetwork, str]:
    """Load the network that `source` names, and return it with its SHA-256.

    `source` is a torch.export file NAME.pt2, or `FILE.py:function` or `module:function`. The module
    is looked for in the current folder first, and the function, without arguments, returns the
    network. The SHA-256 is that of the .pt2 file; of a function, it covers `source`, the weights,
    the logits on a few images and, if torch.export can follow the network, its graph.

    The network must map images `[N, C, H, W]` in [0, 1] of `shape` (C, H, W), for any N, to
    logits `[N, classes]` that depend on nothing else. Raises IrpipeError if there is no network
    or if it does not do that.
    """
    try:
        return _load_and_try(source, shape, n_classes, device)
    except IrpipeError:
        raise
    except Exception as error:  # The network's own code may raise anything.
        raise IrpipeError(f"{source}: cannot be used as a network ({first_line(error)})") from error


def _load_and_try(
    source: str, shape: Sequence[int], n_classes: int, device: torch.device
) -> tuple[ExternalNetwork, str]:
    """As `load_external`, but an error of the network's own code stays what it is."""
    graph: nn.Module | None
    if source.endswith(".pt2"):
        graph, sha256 = load_exported(Path(source), device)
        module = graph
        trial = try_network(module, source, shape, n_classes, device)
    else:
        module = call_function(source).to(device).eval()
        attributes = _plain_attributes(module)  # before a pass stores there what it computes
        trial = try_network(module, source, shape, n_classes, device)
        graph = _trace(module, trial.images)
        sha256 = _sha256(source, module, attributes, graph, trial)
    notes = [gradient_note(trial.gradient)]
    if outputs := probabilities_note(trial.logits):
        logits_graph = _try_without_softmax(graph, outputs, trial)
        notes.append(_about_outputs(outputs, has_logits=logits_graph is not None))
        module, graph = logits_graph or module, logits_graph or graph
    gap_head = _try_gap_head(module, graph, trial.images, n_classes)
    network = ExternalNetwork(module, n_classes, gap_head)
    network.notes = [note for note in notes if note]
    return network, sha256


def _sha256(
    source: str,
    module: nn.Module,
    attributes: Mapping[str, object],
    graph: nn.Module | None,
    trial: Trial,
) -> str:
    """The identity of a function's network: another normalisation makes another network."""
    # Rounded, because devices and thread counts differ in the last digits.
    numbers = projection(trial.logits).double() / trial.logits.abs().max().clamp(min=1e-12)
    identity = {
        "source": source,
        "graph": str(graph.graph) if isinstance(graph, fx.GraphModule) else "",
        "logits": [round(number, 3) for number in numbers.tolist()],
    }
    # A graph names its constants, such as the mean of a normalisation, but does not show them.
    constants = _plain_attributes(graph) if graph else attributes
    tensors = module.state_dict() | {f"constant {name}": each for name, each in constants.items()}
    return content_sha256(identity, _as_arrays(tensors))


def _plain_attributes(module: nn.Module) -> dict[str, object]:
    """Unsaved buffers, and what the modules hold as attributes; numbers become tensors."""
    attributes: dict[str, object] = dict(module.named_buffers())
    of_every_module = vars(nn.Module()).keys()
    for path, part in module.named_modules():
        for name in vars(part).keys() - of_every_module:
            value = getattr(part, name)
            items = value if isinstance(value, list | tuple) else [value]
            is_numbers = items and all(type(item) is float for item in items)
            attributes[f"{path} {name}"] = torch.tensor(items) if is_numbers else value
    return attributes


def _as_arrays(tensors: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Tensors as float32; what else there is, is no number and is left out."""
    arrays = {}
    for name, value in tensors.items():
        if isinstance(value, Tensor):
            real = torch.view_as_real(value) if value.is_complex() else value
            arrays[name] = real.detach().float().cpu().numpy()
    return arrays


def _trace(module: nn.Module, images: Tensor) -> nn.Module | None:
    """Return the exported form of a module; None if torch.export cannot follow it."""
    any_batch_size = ({0: torch.export.Dim.AUTO},)
    try:
        return torch.export.export(module, (images,), dynamic_shapes=any_batch_size).module()
    except Exception:  # torch.export documents no errors.
        return None


def _try_without_softmax(graph: nn.Module | None, outputs: str, trial: Trial) -> nn.Module | None:
    """Return the traced network before its softmax; None if that cannot be had."""
    try:
        module = without_softmax(graph) if graph else None
        if module is None:
            return None
        # As the attacks call it: on batches of several sizes.
        with torch.no_grad():
            parts = [module(trial.images[:n].clone()).float() for n in (1, 2, len(trial.images))]
    except Exception:  # What fx makes of a graph may raise anything.
        return None
    probabilities = trial.logits if outputs == "probabilities" else trial.logits.exp()
    is_same = all(agree(part.softmax(dim=1), probabilities[: len(part)]) for part in parts)
    return module if is_same else None


def _about_outputs(outputs: str, has_logits: bool) -> str:
    """The line about outputs that are no plain logits."""
    start = f"its outputs are {outputs}, which sum to 1"
    if has_logits:
        return f"{start}; the attacks use the logits before its softmax"
    if outputs == "log-probabilities":
        return f"{start} after exp; the attacks use them as logits, which changes nothing"
    return (
        f"{start}, and its logits cannot be had; where a probability rounds to 1, attacks see no "
        "gradient, so return the logits"
    )


def _try_gap_head(
    module: nn.Module, graph: nn.Module | None, probe: Tensor, n_classes: int
) -> GapHead | str:
    """Return the end of `module`, whose exported form is `graph`, or why it gives no maps.

    The maps must average to the logits, also on other images.
    """
    if graph is None:
        return "torch.export cannot follow it"
    try:
        gap_head = find_gap_head(graph, probe)
        if isinstance(gap_head, str):
            return gap_head
        # The weights of the last layer may themselves depend on the images.
        network = ExternalNetwork(module, n_classes, gap_head)
        for seed in (0, 1):
            images = probe_images(probe.shape[1:], seed, probe.device).flip(0)[:2]
            with torch.no_grad():
                means = network.maps(images).mean(dim=(2, 3))
                logits = module(images.clone())
            if not agree(logits, means):
                return "its maps do not average to its logits on other images"
    except Exception as error:  # What fx makes of a graph may raise anything.
        return f"its end cannot be followed ({first_line(error)})"
    return gap_head
