"""An attack batch whose maps are known, and results of the attack `aai`."""

from typing import Any

import numpy as np
import torch
from made_batches import make_batch
from torch import nn

from irpipe.attacks import AttackBatch, aai
from irpipe.networks.network import Network
from irpipe.results.result import Result

EPS = [0.05, 0.1, 0.2, 0.3]
# The two channels of an image, which are the maps of the two classes.
FIRST_MAP = [0.9, 0.8, 0.2, 0.5]
FLAT_MAP = [0.57] * 4
OPTIONS: dict[str, Any] = {"eps": [0.1], "step_size": 0.04, "random_start": False}


def channel_batch(*images: tuple[list[float], list[float]], labels: list[int]) -> AttackBatch:
    """Images of two channels, 2 x 2, and a network whose maps they are.

    The logits are the means of the channels.
    """
    network = Network(nn.Identity(), None, 2, 2)
    network.head = nn.Parameter(torch.eye(2), requires_grad=False)
    return make_batch(network, torch.tensor(images).view(-1, 2, 2, 2), torch.tensor(labels))


def attacked_channels(batch: AttackBatch, **options: Any) -> list[list[list[float]]]:
    """The two channels of each image after `aai` at the first eps."""
    (output,) = aai.attack(batch, **OPTIONS | options)
    return [image.flatten(1).tolist() for image in output.images[0]]


def make_aai_result(tau: list[float], n_unchanged: list[int], n: int = 100, **attrs: str) -> Result:
    """A result of `aai` on MNIST Small, with one entry of `tau` and `n_unchanged` per eps.

    At each eps the first `n_unchanged` images keep their prediction and have this tau. The others
    have tau -1.
    """
    is_unchanged = np.arange(n)[:, None, None] < np.array(n_unchanged)[None, :, None]
    arrays = {
        "eps": np.array(EPS),
        "steps": np.array([200]),
        "indices": np.arange(n),
        "prediction_unchanged": is_unchanged,
        "kendall_tau": np.where(is_unchanged, np.array(tau)[None, :, None], -1.0),
        "tau_defined": np.ones_like(is_unchanged),
        "label": np.zeros(n, int),
        "prediction": np.where(is_unchanged, 0, 1),
        "correct": is_unchanged,
        "loss": np.zeros(is_unchanged.shape),
        "linf_distance": np.zeros(is_unchanged.shape),
    }
    known: dict[str, Any] = {
        "dataset": "mnist",
        "model": "small",
        "method": "int",
        "run": "released",
        "attack": "aai",
        "kind": "aai",
        "code_hash": "c0de",
        "seed": 99,
        "device": "cpu",
        "network_sha256": "feed",
        "data_sha256": "beef",
        "train_eps": 0.3,
        "options": {"interpreter": "cam", "steps": 200, "images": n},
    }
    return Result(known | attrs, arrays)
