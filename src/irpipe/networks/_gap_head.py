"""The end of a traced network: its logits before a softmax, its head after average pooling."""

from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

_ATEN = torch.ops.aten
SOFTMAX = (_ATEN.softmax.int, _ATEN._softmax.default)
LOG_SOFTMAX = (_ATEN.log_softmax.int, _ATEN._log_softmax.default)
NO_GAP_HEAD = "it does not end in global average pooling and a linear layer"
ONE_PIXEL = "its last maps have one pixel, which explains nothing"


class GapHead(NamedTuple):
    """The end of a module: a linear head after global average pooling.

    `backbone` gives the feature maps `[N, K, h, w]` that are averaged. `head` is `[classes, K]`.
    `bias` is `[classes]`; None means that there is none.
    """

    backbone: nn.Module
    head: Tensor
    bias: Tensor | None


def find_gap_head(module: nn.Module, probe: Tensor) -> GapHead | str:
    """Return the end of a traced module, or a clause that says why it gives no maps.

    Values decide, not the names of layers. On the images `probe`, the feature maps are the last
    tensor `[N, K, h, w]` whose mean over h and w is the input of the last linear layer.
    """
    assert isinstance(module, fx.GraphModule)
    run = fx.Interpreter(module, garbage_collect_values=False)
    run.run(probe)
    last = _last_node(module)
    if last.target is not _ATEN.linear.default:
        return NO_GAP_HEAD
    pooled, head, *bias = (run.env[node] for node in last.all_input_nodes)
    averaged = [node for node in module.graph.nodes if _averages_to(run.env.get(node), pooled)]
    for node in reversed(averaged):
        if _n_pixels(run.env[node]) > 1:
            return GapHead(_up_to(module, node.name), head, bias[0] if bias else None)
    # A pooling layer gives one pixel, too. What it pools has more.
    is_pooled = averaged and any(
        _n_pixels(run.env.get(node)) > 1 for node in averaged[0].all_input_nodes
    )
    is_convolved = averaged and "conv" in str(averaged[0].target)
    return ONE_PIXEL if averaged and (is_convolved or not is_pooled) else NO_GAP_HEAD


def without_softmax(module: nn.Module) -> nn.Module | None:
    """Return a traced module up to the softmax or log-softmax at its end; None if it has none."""
    assert isinstance(module, fx.GraphModule)
    last = _last_node(module)
    if last.target not in SOFTMAX + LOG_SOFTMAX or last.args[1] not in (1, -1):
        return None
    return _up_to(module, last.all_input_nodes[0].name)


def _last_node(module: fx.GraphModule) -> fx.Node:
    """Return the node that gives the output of a traced module."""
    (last,) = module.graph.output_node().all_input_nodes[:1]
    return last


def _n_pixels(value: object) -> int:
    """Return h * w of maps `[N, K, h, w]`; 0 for anything else."""
    is_map = isinstance(value, Tensor) and value.dim() == 4
    return value.shape[2:].numel() if is_map else 0  # type: ignore[attr-defined]


def _averages_to(value: object, pooled: Tensor) -> bool:
    """Whether `value` are maps whose mean over h and w is `pooled`."""
    if not isinstance(value, Tensor) or not _n_pixels(value):
        return False
    mean = value.mean(dim=(2, 3))
    return mean.shape == pooled.shape and torch.allclose(mean, pooled, rtol=1e-4, atol=1e-6)


def _up_to(module: fx.GraphModule, name: str) -> fx.GraphModule:
    """Return a traced module that ends at the inner node called `name` and shares the weights."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(module.graph, copies)
    assert output is not None
    graph.set_codegen(module.graph._codegen)
    node = next(copy for original, copy in copies.items() if original.name == name)
    graph.output((node,))
    return fx.GraphModule(module, graph)
