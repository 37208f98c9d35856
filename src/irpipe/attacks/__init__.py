'''Attacks. A file `NAME.py` in this folder is the attack kind `NAME`.

To add one, write two things into a new file:

    PROTOCOL = ("C.4 P7",)  # sections of docs/protocol.md that the kind implements; () for none

    def attack(
        batch: AttackBatch, *, eps: EpsList, steps: Count = 10, beta: Positive = 0.5
    ) -> Iterator[AttackOutput]:
        """Yield the adversarial images, `[E, N, C, H, W]`, at `steps`."""

A config then uses it: `attacks: {mine: {kind: NAME, beta: 0.7}}`.

**Options.** The options of a kind are the keyword-only arguments of its `attack`. They are read
from the source, so that checking a config imports no torch: an annotation is a name of
`irpipe.option_types`, `Literal[...]`, `bool` or the like, and a default is a literal. An option
without a default must be set. Every kind also has `images`, `seed` and `batch_size`
(`COMMON_ATTACK_OPTIONS` in `config/kinds.py`). An option goes to each function that uses it:

    images, seed      evaluation/sample.py: how many test images, and which
    indices           evaluation/sample.py: these test images instead, if `attack` has the option
    batch_size        evaluation/__init__.py: images per call of `attack`
    eps               `attack`, without eps = 0, at which an image stays as it is
    any option        `attack` and the hooks that take `batch`, each only if its signature names
                      the option

So `attack` declares a common option only if it needs its value or another default.

**Hooks.** A kind may define:

    metrics(batch, images, *, ...)  {name: array}: further arrays `[E, N, ...]` of the images
                                    `[E, N, C, H, W]` that the evaluator accepted. An array may
                                    stop after the first images of the sample, for figures.
    default_eps(options)            eps of an entry that sets none; else the data set's EVAL_EPS.
    provenance(options)             {name: value}: further attributes of the result, such as
                                    hashes of the files that the attack reads.
    require_applicable(batch, *, ...)  raises NotApplicableError if the network lacks what the
                                    attack needs; `irpipe stress` asks before it starts. It gets
                                    `eps` as the entry has it: with 0, and None for the default.
    left_out(options, n_classes)    [name]: parts of the attack that need more classes than the
                                    network has; they become the attribute `left_out`.
    NORMS = ("linf", "l2")          norms of eps that the kind has; its option `norm` says which.
                                    A kind without NORMS has l-inf alone.
    n_passes(options, n_eps, n_classes)  how often the network is called for an image, at most,
                                    where a call with a gradient counts thrice; for estimates.
    AXIS = "measure"                name of the result's last axis; else it is "steps".

**Axes.** N counts the images of the batch. E counts the entries of `eps`. A kind without the
option `eps` chooses the perturbation size of each image itself; E then counts its own points, and
it sets `max_distance`. Each `AttackOutput` is one position on the result's last axis (S), such as a
step count. The evaluator stacks the outputs to arrays `[N, E, S]`.

**Trust.** The evaluator does not trust an attack (D.4). It lends copies of images and labels,
checks shape, range and distance of the images, and computes every prediction again. An array of a
kind cannot replace one that the evaluator computes.
'''

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # reports import kinds' option types and must not import torch
    from torch import Tensor

    from irpipe.networks.folded import FoldedNetwork
    from irpipe.networks.network import Network


@dataclass(frozen=True)
class AttackBatch:
    """Images to attack and the network that classifies them.

    - `network`: the network as it was trained; it decides the predictions.
    - `folded`: the same function up to rounding, but faster; for the attack's loops.
    - `images`: `[N, C, H, W]` in [0, 1].
    - `labels`: true classes, `[N]`.
    - `indices`: positions in the test set, `[N]`. Random numbers that must not depend on the
      batch size are seeded with them.
    - `rng`: generator that has just drawn the sample and goes on with the attack's random
      numbers, as in the released code (C.4, C.6-2). All batches share it.
    - `progress_label`: names the work where its progress is shown.
    - `offset`: position of the batch's first image in the sample.
    - `state`: a folder of this evaluation alone, in which an attack may keep what it has done. An
      interrupted evaluation finds it again. None means that nothing is kept.
    - `certified`: whether bounds alone certify an image, by its position in the test set and eps;
      what is proven joins it. Attacks on the same network and test set may share it.
    """

    network: "Network"
    folded: "FoldedNetwork"
    images: "Tensor"
    labels: "Tensor"
    indices: np.ndarray
    rng: np.random.RandomState
    progress_label: str = ""
    offset: int = 0
    state: Path | None = None
    certified: dict[tuple[int, float], bool] = field(default_factory=dict)


class AttackOutput(NamedTuple):
    """Adversarial images at one position on the last axis of the result.

    - `axis_value`: the step count, or the position on the kind's own `AXIS`.
    - `images`: `[E, N, C, H, W]` in [0, 1].
    - `max_distance`: the l-inf distance that each image may have from its clean one, `[E, N]`.
      None means its eps. Infinity means that the attack has no l-inf bound.
    - `extras`: further arrays of the result, `[E, N, ...]`, by name: targets, weights, flags.
    - `files`: bytes of each image, E lists of N, by name. The result has all of them as the array
      of that name and their lengths as `NAME_size` (`results.packed_bytes`).
    """

    axis_value: int
    images: "Tensor"
    max_distance: "Tensor | None" = None
    extras: "Mapping[str, Tensor]" = {}
    files: Mapping[str, list[list[bytes]]] = {}
