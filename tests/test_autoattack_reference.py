"""AutoAttack's parts get what the reference's standard version gives its own (fra31/auto-attack, set_version)."""

from typing import Any

import numpy as np
import pytest
import torch
from test_stress import made

from irpipe.ascent import Case
from irpipe.attacks import autoattack
from irpipe.models import Folded

REFERENCE: dict[str, dict[str, Any]] = {  # of 10 classes; the ports' names of the same attributes
    "apgd-ce": {"steps": 100, "n_restarts": 1, "eot_iter": 1, "thr_decr": 0.75, "loss": "ce"},
    "apgd-t": {"steps": 100, "n_restarts": 1, "eot_iter": 1, "thr_decr": 0.75, "n_target_classes": 9},
    "fab-t": {"steps": 100, "n_restarts": 1, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9, "n_target_classes": 9},
    "square": {"n_queries": 5000, "n_restarts": 1, "p_init": 0.8, "rescale_schedule": False, "loss": "margin"},
}


@pytest.mark.parametrize("component", list(REFERENCE))
def test_settings_are_the_references(component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchattacks

    name = {"apgd-ce": "APGD", "apgd-t": "APGDT", "fab-t": "FAB", "square": "Square"}[component]
    seen: dict[str, Any] = {}

    class Spy(getattr(torchattacks, name)):  # type: ignore[misc]
        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            seen.update(vars(self))
            return images

    monkeypatch.setattr(torchattacks, name, Spy)
    network = made(1, (1, 28, 28), 10)
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    labels = network(images).argmax(dim=1)
    case = Case(network, Folded(network, (1, 28, 28)), images, labels, np.arange(3), np.random.RandomState(11))
    list(autoattack.attack(case, eps=[0.3], components=[component]))  # type: ignore[list-item]
    assert {key: seen[key] for key in REFERENCE[component]} == REFERENCE[component]
    assert (seen["norm"], seen["eps"]) == ("Linf", 0.3)
    assert component != "fab-t" or seen["multi_targeted"]
