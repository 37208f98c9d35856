"""Networks of strangers: each gives the numbers of plain torch, or one line says why not."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.attacks import AttackBatch, margin_pgd, pgd
from irpipe.errors import IrpipeError
from irpipe.evaluation.checks import score_images
from irpipe.networks import external
from irpipe.networks._probe import Trial, probe_images

CPU = torch.device("cpu")
N_IMAGES = 4
EPS = 0.1
# What makes logits depend on chance or on the other images.
DEPENDENT = ("dropout", "batch norm", "minus mean", "minus first", "counter")
# What a gradient or logits may do in a region of the images.
REGIONS = ("none", "nan", "inf", "nan gradient")


@dataclass(frozen=True)
class Traits:
    """What is odd about a network."""

    n_classes: int
    channels: int
    size: int
    dtype: torch.dtype = torch.float32
    pools: bool = True
    in_place: str = "none"
    region: str = "none"
    dependence: str = "none"
    uses_view: bool = False
    is_transposed: bool = False


class OddNetwork(nn.Module):
    """A small classifier with odd traits; it stores what it computes, as many do."""

    def __init__(self, traits: Traits) -> None:
        super().__init__()
        torch.manual_seed(traits.n_classes)
        self.traits = traits
        self.body = nn.Conv2d(traits.channels, 4, 3, padding=1)
        n_features = 4 if traits.pools else 4 * traits.size**2
        self.norm = nn.BatchNorm1d(n_features)
        self.head = nn.Linear(n_features, traits.n_classes)
        self.n_calls = 0

    def forward(self, images: Tensor) -> Tensor:
        traits = self.traits
        if traits.in_place == "no_grad":
            with torch.no_grad():
                images.mul_(0.5)
        elif traits.in_place == "grad":
            images = images.mul_(0.5)
        if traits.uses_view:
            images = images.view(images.size(0), -1).view(images.shape)
        hidden = self.body(images).relu_()
        self.hidden = hidden.mean((2, 3)) if traits.pools else hidden.flatten(1)
        self.hidden = self._depend(self.hidden)
        logits = self.head(self.hidden)
        is_bright = images.mean(dim=(1, 2, 3), keepdim=True)[:, 0, 0] > 0.3
        if traits.region in ("nan", "inf"):
            logits = torch.where(is_bright, float(traits.region), logits)
        elif traits.region == "nan gradient":
            logits = logits + (images - images).abs().sqrt().sum(dim=(1, 2, 3))[:, None]
        if traits.is_transposed:
            logits = logits.t().contiguous().t()
        return logits.to(traits.dtype)

    def _depend(self, hidden: Tensor) -> Tensor:
        self.n_calls += 1
        dependence = self.traits.dependence
        if dependence == "dropout":
            return F.dropout(hidden, training=True)
        if dependence == "batch norm":
            normalised: Tensor = self.norm.train()(hidden)
            return normalised
        if dependence == "minus mean":
            return hidden - hidden.mean(0)
        if dependence == "minus first":
            return hidden - hidden[:1]
        return hidden + self.n_calls if dependence == "counter" else hidden


def load(traits: Traits, monkeypatch: pytest.MonkeyPatch) -> external.ExternalNetwork:
    monkeypatch.setattr(external, "call_function", lambda source: OddNetwork(traits))
    shape = (traits.channels, traits.size, traits.size)
    return external.load_external("a:b", shape, traits.n_classes, CPU)[0]


def make_images(traits: Traits) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    shape = (N_IMAGES, traits.channels, traits.size, traits.size)
    labels = torch.randint(traits.n_classes, (N_IMAGES,), generator=generator)
    return 0.5 * torch.rand(shape, generator=generator), labels


def plain_pgd(module: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    """PGD by torch alone, from the clean images. No step is taken where a gradient is NaN."""
    point = images
    for _ in range(steps):
        variable = point.clone().requires_grad_()
        loss = F.cross_entropy(module(variable.clone()).float(), labels)
        (gradient,) = torch.autograd.grad(loss, variable)
        step = 0.03 * gradient.sign().nan_to_num(0)
        point = torch.clamp(point + step, (images - EPS).clamp(min=0), (images + EPS).clamp(max=1))
    return point


def attack(network: external.ExternalNetwork, traits: Traits, kind: Any, **options: Any) -> Any:
    images, labels = make_images(traits)
    folded = external.UnfoldedNetwork(network, images.shape[1:])
    rng = np.random.RandomState(3)
    batch = AttackBatch(network, folded, images, labels, np.arange(N_IMAGES), rng)
    (output,) = kind.attack(batch, **options)
    return output


traits_strategy = st.builds(
    Traits,
    n_classes=st.sampled_from([2, 3, 4, 10, 1000]),
    channels=st.integers(1, 4),
    size=st.sampled_from([1, 2, 5]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    pools=st.booleans(),
    in_place=st.sampled_from(["none", "grad", "no_grad"]),
    region=st.sampled_from(REGIONS),
    dependence=st.sampled_from(["none"] * 8 + list(DEPENDENT)),
    uses_view=st.booleans(),
    is_transposed=st.booleans(),
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(traits=traits_strategy)
def test_every_network_gives_the_numbers_of_plain_torch_or_one_line(
    traits: Traits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = make_images(traits)
    plain = OddNetwork(traits).eval()
    try:
        network = load(traits, monkeypatch)
    except IrpipeError as error:
        assert len(str(error).splitlines()) == 1
        assert str(error).startswith("a:b: ")
        is_sound = traits.dependence == "none" and traits.region in ("none", "nan gradient")
        assert not is_sound
        return
    assert traits.dependence == "none"
    before = images.clone()
    try:
        output = attack(network, traits, pgd, eps=[EPS], steps=[3], step_size=0.03)
        strong = attack(network, traits, margin_pgd, eps=[EPS, EPS, EPS], steps=[2], restarts=2)
        scores = score_images(network, output.images, labels)
    except (ValueError, IrpipeError) as error:
        assert "logits that are not finite" in str(error)
        assert traits.region in ("nan", "inf")
        return
    assert torch.equal(images, before)
    assert torch.equal(output.images[0], plain_pgd(plain, images, labels, 3))
    with torch.no_grad():
        logits = plain(output.images[0].clone()).float()
        clean_logits = plain(images.clone()).float()
        assert torch.equal(network(images), clean_logits)
        if network.has_maps:
            means = network.maps(images).mean(dim=(2, 3))
            atol = 4 * torch.finfo(traits.dtype).eps + 1e-5
            torch.testing.assert_close(means, clean_logits, atol=atol, rtol=atol)
    assert scores["prediction"].tolist() == [logits.argmax(dim=1).tolist()]
    expected_loss = F.cross_entropy(logits, labels, reduction="none")
    assert torch.equal(scores["loss"][0], expected_loss)
    assert bool(strong.images.isfinite().all())


@pytest.mark.parametrize("dependence", DEPENDENT)
def test_logits_that_depend_on_more_than_the_image_are_refused(
    dependence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traits = Traits(10, 1, 5, dependence=dependence)
    with pytest.raises(IrpipeError, match=r"^a:b: .*(depend on chance|cannot take images)"):
        load(traits, monkeypatch)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_logits_of_every_float_dtype_are_worked_on_in_float32(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    traits = Traits(10, 1, 5, dtype=dtype)
    network = load(traits, monkeypatch)
    images, _ = make_images(traits)
    expected = OddNetwork(traits)(images.clone()).float()
    assert network(images).dtype == torch.float32
    assert torch.equal(network(images), expected)


def test_a_gradient_of_nan_counts_as_vanished(monkeypatch: pytest.MonkeyPatch) -> None:
    traits = Traits(10, 1, 5, region="nan gradient")
    network = load(traits, monkeypatch)
    strong = attack(network, traits, margin_pgd, eps=[EPS], steps=[2])
    assert strong.extras["grad_linf"].tolist() == [[0.0] * N_IMAGES]


def test_logits_of_nan_on_the_way_of_an_attack_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clean images are darker than 0.3 on average, and the attack makes one brighter."""
    traits = Traits(10, 1, 5, region="nan")
    trial = Trial(torch.zeros(3, 1, 5, 5), torch.zeros(3, 10), torch.ones(3, 1, 5, 5))
    monkeypatch.setattr(external, "try_network", lambda *_: trial)
    network = load(traits, monkeypatch)
    with pytest.raises(ValueError, match="gives logits that are not finite"):
        attack(network, traits, margin_pgd, eps=[0.5], steps=[5])


def test_images_are_contiguous_whatever_their_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    traits = Traits(10, 3, 5, uses_view=True)
    network = load(traits, monkeypatch)
    images, _ = make_images(traits)
    channels_last = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not channels_last.is_contiguous()
    assert torch.equal(network(channels_last), network(images))


class ImageDependentHead(nn.Module):
    """The weights of the last layer depend on the image, as in dynamic heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.body(images).mean((2, 3))
        return F.linear(pooled, self.head.weight * images.mean(), self.head.bias)


def test_maps_that_do_not_average_to_the_logits_are_not_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(external, "call_function", lambda source: ImageDependentHead())
    images = probe_images((1, 8, 8), 0, CPU)
    trial = Trial(images, ImageDependentHead()(images).detach(), torch.ones(images.shape))
    monkeypatch.setattr(external, "try_network", lambda *_: trial)
    network, _ = external.load_external("a:b", (1, 8, 8), 10, CPU)
    assert not network.has_maps
    assert network.why_no_maps == "its maps do not average to its logits on other images"
