"""External networks: any module that gives logits, to be attacked as the paper's networks are.

Opening one can run its maker's code. `module:function` is Python, and torch.export.load unpickles
and evaluates parts of a .pt2 file. D.3: a checkpoint of irpipe cannot run code.
"""

import hashlib
import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from irpipe.errors import IrpipeError
from irpipe.files import content_sha256
from irpipe.networks._gap_head import GapHead, find_gap_head
from irpipe.networks._probe import agree, check_logits, first_line, probe_images
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
    contain the bias b of the head: L(x, c) = sum_k W_ck A_k + b_c.
    """

    def __init__(self, module: nn.Module, n_classes: int, gap_head: GapHead | None) -> None:
        placeholder = GapHead(nn.Identity(), torch.zeros(n_classes, 0), None)
        backbone, head, bias = gap_head or placeholder
        super().__init__(_OwnImages(backbone), None, head.shape[1], n_classes)
        self.module = _OwnImages(module)
        self.has_maps = gap_head is not None
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

    `source` is a torch.export file NAME.pt2, whose SHA-256 is that of the file, or
    `module:function`, whose SHA-256 is that of `source` and the weights. The module is looked
    for in the current folder first, and the function, without arguments, returns the network.

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
    if source.endswith(".pt2"):
        graph, sha256 = _load_exported(Path(source), device)
        module = graph
    else:
        module = _call_factory(source).to(device)
        module.eval()
        graph = None
    probe = check_logits(module, source, shape, n_classes, device)
    gap_head = _try_gap_head(module, graph, probe, n_classes)
    if graph is None:
        sha256 = content_sha256({"source": source}, _weights(module))
    return ExternalNetwork(module, n_classes, gap_head), sha256


def _weights(module: nn.Module) -> dict[str, np.ndarray]:
    """Weights and buffers as float32; what else a state holds is no number and is left out."""
    weights = {}
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            real = torch.view_as_real(value) if value.is_complex() else value
            weights[name] = real.detach().float().cpu().numpy()
    return weights


def _load_exported(path: Path, device: torch.device) -> tuple[nn.Module, str]:
    """Return the module in a torch.export file, and the SHA-256 of the file."""
    from torch.export.passes import move_to_device_pass

    if not path.is_file():
        raise IrpipeError(f"{path}: no such file; expected what torch.export.save wrote")
    try:
        program = torch.export.load(path)
    except Exception as error:  # Zip, JSON, pickle, operators that this torch lacks, ...
        reason = first_line(error)
        raise IrpipeError(f"{path}: not a readable torch.export file ({reason})") from error
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return move_to_device_pass(program, device).module(), sha256


def _call_factory(source: str) -> nn.Module:
    """Return the module that the function named by `source`, `module:function`, returns."""
    module_name, _, function_name = source.partition(":")
    sys.path.insert(0, "")  # The current folder, where `python -m` looks first, too.
    try:
        python_module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # Importing runs the module's own code.
        reason = first_line(error)
        raise IrpipeError(
            f"{source}: module '{module_name}' cannot be imported ({reason})"
        ) from error
    finally:
        sys.path.remove("")
    factory: Callable[[], object] | None = getattr(python_module, function_name, None)
    if not callable(factory):
        raise IrpipeError(f"{source}: module '{module_name}' has no function '{function_name}'")
    try:
        network = factory()
    except (Exception, SystemExit) as error:
        raise IrpipeError(f"{source}: the function fails ({first_line(error)})") from error
    if not isinstance(network, nn.Module):
        raise IrpipeError(f"{source}: gave a {type(network).__name__}, not a torch.nn.Module")
    return network


def _try_gap_head(
    module: nn.Module, graph: nn.Module | None, probe: Tensor, n_classes: int
) -> GapHead | None:
    """Return the end of `module`, whose exported form is `graph` if it has one.

    None means that no end is found whose maps average to the logits, also on other images.
    """
    try:
        if graph is None:
            any_batch_size = ({0: torch.export.Dim.AUTO},)
            graph = torch.export.export(module, (probe,), dynamic_shapes=any_batch_size).module()
        gap_head = find_gap_head(graph, probe)
        if gap_head is None:
            return None
        # The weights of the last layer may themselves depend on the images.
        network = ExternalNetwork(module, n_classes, gap_head)
        for seed in (0, 1):
            images = probe_images(probe.shape[1:], seed, probe.device).flip(0)[:2]
            with torch.no_grad():
                means = network.maps(images).mean(dim=(2, 3))
                logits = module(images.clone())
            if not agree(logits, means):
                return None
    except Exception:
        # torch.export cannot follow every module, and documents no errors. Then no maps are known.
        return None
    return gap_head
