"""Networks that others made: any module that gives logits, to be attacked as those of the paper are.

Opening one can run code of whoever made it: `module:function` is Python, and torch.export.load unpickles and evaluates
parts of a .pt2 file. Checkpoints of irpipe cannot (design.md, decision 3).
"""

import hashlib
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from irpipe.errors import IrpipeError
from irpipe.io import digest
from irpipe.models import Folded, Network

DYNAMIC = "dynamic_shapes=({0: torch.export.Dim.AUTO},)"
PROBES = 3  # images that a module is tried on


class Pooled(NamedTuple):
    """A module's end: `trunk` gives the maps `[N, K, h, w]` that are averaged for a head `[classes, K]` with a bias."""

    trunk: nn.Module
    head: Tensor
    bias: Tensor | None


class Foreign(Network):
    """A network whose logits are a module's; its maps, where it has `pooled`, average to them, bias included."""

    def __init__(self, module: nn.Module, classes: int, pooled: Pooled | None) -> None:
        trunk, head, bias = pooled or Pooled(nn.Identity(), torch.zeros(classes, 0), None)
        super().__init__(trunk, None, head.shape[1], classes)
        self.module, self.has_maps = module, pooled is not None
        self.head = nn.Parameter(head.detach())
        self.bias = None if bias is None else nn.Parameter(bias.detach())
        self.requires_grad_(False)

    def map_convolution(self, positive: bool = False) -> tuple[Tensor, Tensor | None, int]:
        """As `Network.map_convolution`; a bias has no part in GradCAM++."""
        weight, _, padding = super().map_convolution(positive)
        return weight, None if positive else self.bias, padding

    def train(self, mode: bool = True) -> "Foreign":
        """Stay as it is: exported modules have no modes."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[N, classes]`."""
        logits: Tensor = self.module(images)
        return logits

    @property
    def softened(self) -> "Network":
        """Not to be had: which of a module's functions are ReLUs cannot be told. Raises IrpipeError."""
        raise IrpipeError("attack option variant: 'code' has no integrated gradients of this network; say literature")


class AsItIs(Folded):
    """A network in the place of its folded twin, for one that cannot be folded."""

    def __init__(self, network: Network, shape: Sequence[int]) -> None:
        self.network, self.shape = network, shape

    def __call__(self, images: Tensor) -> Tensor:
        """Logits `[N, classes]`."""
        logits: Tensor = self.network(images)
        return logits

    def maps(self, images: Tensor, positive: bool = False) -> Tensor:
        """Class activation maps `[N, classes, h, w]`, as `Network.maps`."""
        return self.network.maps(images, positive)


def load(given: str, shape: Sequence[int], classes: int, where: torch.device) -> tuple[Foreign, str]:
    """The network in a torch.export file (NAME.pt2) or made by `module:function`, and its SHA-256.

    The hash is of the file or, for a function, of its name and the weights. The module must take images
    `[N, C, H, W]` of `shape` in [0, 1], for any N, and give logits `[N, classes]` that depend on nothing else. Modules
    are looked for in the current folder first. Raises IrpipeError if there is none, or none like that.
    """
    if given.endswith(".pt2"):
        module, total = _exported(Path(given), where)
        probe = _tried(module, given, shape, classes, where)
        return Foreign(module, classes, _pooled(module, probe)), total
    module = _made(given).to(where).eval()
    probe = _tried(module, given, shape, classes, where)
    try:
        graph = torch.export.export(module, (probe,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    except Exception:  # whatever the tracer cannot follow: then there are no maps
        pooled = None
    else:
        pooled = _pooled(graph, probe)
    weights = {name: value.detach().float().cpu().numpy() for name, value in module.state_dict().items()}
    return Foreign(module, classes, pooled), digest({"given": given}, weights)


def _exported(path: Path, where: torch.device) -> tuple[nn.Module, str]:
    from torch.export.passes import move_to_device_pass

    if not path.is_file():
        raise IrpipeError(f"{path}: no such file; expected what torch.export.save wrote")
    try:
        program = torch.export.load(path)
    except Exception as error:  # zip, JSON, pickle, operators unknown here ...
        raise IrpipeError(f"{path}: not a readable torch.export file ({_line(error)})") from error
    with path.open("rb") as file:
        total = hashlib.file_digest(file, "sha256").hexdigest()
    return move_to_device_pass(program, where).module(), total


def _made(given: str) -> nn.Module:
    name, _, function = given.partition(":")
    sys.path.insert(0, "")  # the current folder, as `python -m` has it
    try:
        found = importlib.import_module(name)
    except (ImportError, ValueError, SyntaxError) as error:
        raise IrpipeError(f"{given}: module '{name}' cannot be imported ({_line(error)})") from error
    finally:
        sys.path.remove("")
    make: Callable[[], object] | None = getattr(found, function, None)
    if not callable(make):
        raise IrpipeError(f"{given}: module '{name}' has no function '{function}'")
    module = make()
    if not isinstance(module, nn.Module):
        raise IrpipeError(f"{given}: gave a {type(module).__name__}, not a torch.nn.Module")
    return module


def _tried(module: nn.Module, given: str, shape: Sequence[int], classes: int, where: torch.device) -> Tensor:
    """Images `[PROBES, C, H, W]` that the module takes as it should; raises IrpipeError if it does not."""
    probe = torch.rand(PROBES, *shape, generator=torch.Generator().manual_seed(0)).to(where).requires_grad_()
    try:
        logits, alone = module(probe), module(probe[:1])
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        hint = f"; if it takes so many images only, export it with {DYNAMIC}" if given.endswith(".pt2") else ""
        raise IrpipeError(f"{given}: cannot take images {list(probe.shape)} ({_line(error)}){hint}") from error
    found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != [PROBES, classes]:
        raise IrpipeError(f"{given}: gives {found} for {PROBES} images of {classes} classes, not logits")
    if not bool(logits.isfinite().all()):
        raise IrpipeError(f"{given}: gives logits that are not finite")
    if not logits.requires_grad:
        raise IrpipeError(f"{given}: gives logits without a gradient, which every white-box attack needs")
    if alone.shape != (1, classes) or not torch.allclose(logits[:1], alone, rtol=1e-3, atol=1e-4):
        raise IrpipeError(f"{given}: an image's logits depend on chance or on the other images; export it in eval mode")
    return probe.detach()


def _pooled(module: nn.Module, probe: Tensor) -> Pooled | None:
    """A traced module's end, if it is a linear head over averaged maps; found by its values on the probe."""
    assert isinstance(module, fx.GraphModule)
    run = fx.Interpreter(module, garbage_collect_values=False)
    run.run(probe)
    (last,) = module.graph.output_node().all_input_nodes[:1]
    if last.target is not torch.ops.aten.linear.default:
        return None
    mean, head, *bias = (run.env[node] for node in last.all_input_nodes)
    for node in reversed(module.graph.nodes):
        maps = run.env.get(node)
        if isinstance(maps, Tensor) and maps.dim() == 4 and maps.shape[2:].numel() > 1:
            average = maps.mean(dim=(2, 3))
            if average.shape == mean.shape and torch.allclose(average, mean, rtol=1e-4, atol=1e-6):
                return Pooled(_up_to(module, node.name), head, bias[0] if bias else None)
    return None


def _up_to(module: fx.GraphModule, name: str) -> fx.GraphModule:
    """The traced module with the value of an inner node as its output; weights are shared."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(module.graph, copies)
    assert output is not None
    graph.set_codegen(module.graph._codegen)
    node = next(copy for original, copy in copies.items() if original.name == name)
    graph.output((node,))
    return fx.GraphModule(module, graph)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
