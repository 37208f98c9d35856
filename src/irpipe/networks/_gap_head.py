"""The end of a network that gives class activation maps: a linear head after average pooling."""

from typing import NamedTuple

import torch
from torch import Tensor, fx, nn


class GapHead(NamedTuple):
    """The end of a module: a linear head after global average pooling.

    `backbone` gives the feature maps `[N, K, h, w]` that are averaged. `head` is `[classes, K]`.
    `bias` is `[classes]`; None means that there is none.
    """

    backbone: nn.Module
    head: Tensor
    bias: Tensor | None


def find_gap_head(module: nn.Module, probe: Tensor) -> GapHead | None:
    """Return the end of a traced module; None means that it is no linear head after pooling.

    Values decide, not the names of layers. On the images `probe`, the feature maps are the last
    tensor `[N, K, h, w]` whose mean over h and w is the input of the last linear layer.
    """
    assert isinstance(module, fx.GraphModule)
    run = fx.Interpreter(module, garbage_collect_values=False)
    run.run(probe)
    (last,) = module.graph.output_node().all_input_nodes[:1]
    if last.target is not torch.ops.aten.linear.default:
        return None
    pooled, head, *bias = (run.env[node] for node in last.all_input_nodes)
    for node in reversed(module.graph.nodes):
        maps = run.env.get(node)
        if isinstance(maps, Tensor) and maps.dim() == 4 and maps.shape[2:].numel() > 1:
            mean = maps.mean(dim=(2, 3))
            if mean.shape == pooled.shape and torch.allclose(mean, pooled, rtol=1e-4, atol=1e-6):
                return GapHead(_up_to(module, node.name), head, bias[0] if bias else None)
    return None


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
