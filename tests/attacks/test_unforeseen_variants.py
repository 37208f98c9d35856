"""The unforeseen attacks stay in their sets; only the released variant has its faults."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from unforeseen_batches import NAMES, random_batches, run_attack

from irpipe.attacks import gabor
from irpipe.attacks._jpeg_codec import Codec
from irpipe.attacks._unforeseen import Parametrisation, UnforeseenAttack
from irpipe.attacks.jpeg import DRAW_IN_UNIT_BALL
from irpipe.published import table5


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    shape=st.tuples(st.sampled_from([1, 3]), st.integers(9, 40), st.integers(9, 40)),
    scale=st.floats(0.01, 3),
    variant=st.sampled_from(["released", "fixed"]),
)
def test_variables_and_images_stay_in_their_sets(
    name: str, shape: tuple[int, int, int], scale: float, variant: str
) -> None:
    (batch,) = random_batches(shape, batch_size=2, n_images=2)
    eps = scale * table5.EPS[name]
    images, extras = run_attack(batch, name, eps=eps, variant=variant)
    assert images.shape == batch.images.shape
    assert images.dtype == batch.images.dtype
    assert images.isfinite().all()
    assert images.min() >= 0
    assert images.max() <= 1
    if name.startswith("jpeg"):
        may_leave = (variant, name) == ("released", "jpeg_l1")
        assert may_leave or (extras["norm"] <= eps * (1 + 1e-5)).all()
    elif name == "snow":
        assert (images >= batch.images - 1e-6).all()  # snow and whitening only brighten
        # The released code does not project after the last step, of eps / sqrt(4 steps).
        beyond = 0 if variant == "fixed" else eps / 2
        assert (extras["norm"] <= 0.2 + beyond + 1e-6).all()  # float32 rounds the sum
    else:
        assert (extras["norm"] <= 1).all()
    if name == "gabor":
        assert (images >= batch.images - 1e-6).all()
        added = (images - batch.images).flatten(2)
        is_unclipped = (images.flatten(2) < 1).all(dim=1, keepdim=True).expand_as(added)
        differences = (added - added[:, :1]).abs()
        assert (differences[is_unclipped] < 1e-5).all()  # the noise is equal in all channels


def test_the_released_gabor_frees_the_entries_that_start_at_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caught: list[Parametrisation] = []
    monkeypatch.setattr(UnforeseenAttack, "run", lambda self, passed: caught.extend(passed))
    for variant in ("released", "fixed"):
        list(gabor.attack(random_batches()[0], eps=[400], variant=variant, images=40))
    for parametrisation, is_fixed in zip(caught, (False, True), strict=True):
        init = parametrisation.init
        new = parametrisation.step(torch.tensor(0.0), init, torch.randn(init.shape))
        assert ((new != 0) == ((init != 0) == is_fixed)).all()
        assert set(new.abs().unique().tolist()) == {0, 1}  # a step of 28 leads to a boundary
        unmoved = parametrisation.step(torch.tensor(0.0), init, torch.zeros(init.shape))
        assert unmoved.isnan().all() == (not is_fixed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variant", ["released", "fixed"])
def test_tensors_are_created_on_the_device_of_the_images(name: str, variant: str) -> None:
    (batch,) = random_batches()
    expected, _ = run_attack(batch, name, variant=variant, steps=1)
    with torch.device("meta"):  # the default for tensors created without a device
        images, _ = run_attack(batch, name, variant=variant, steps=1)
    assert torch.equal(images, expected)


@pytest.mark.parametrize("name", NAMES)
def test_fixed_attacks_do_not_depend_on_the_batch(name: str) -> None:
    (batch,) = random_batches()
    singles = random_batches(batch_size=1)
    together, _ = run_attack(batch, name, variant="fixed", steps=3)
    separately = torch.cat(
        [run_attack(single, name, variant="fixed", steps=3, batch_size=1)[0] for single in singles]
    )
    # Where a gradient is nearly zero, rounding may change its sign.
    assert ((together - separately).abs() < 1e-4).double().mean() > 0.99
    if name in ("snow", "fog", "gabor"):
        second = run_attack(batch, name, steps=3)[0][1:2]
        second_alone, _ = run_attack(singles[1], name, steps=3, batch_size=1)
        assert not torch.allclose(second, second_alone)


@pytest.mark.parametrize("variant", ["released", "fixed"])
def test_an_offset_of_1_is_half_a_quantisation_step(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (batch,) = random_batches()
    codec = Codec((3, 16, 16))
    decoded: list[Tensor] = []
    decode = Codec.decode

    def spy(self: Codec, coefficients: Tensor) -> Tensor:
        decoded.append(coefficients.detach())
        return decode(self, coefficients)

    monkeypatch.setattr(Codec, "decode", spy)
    _, extras = run_attack(batch, "jpeg_l2", steps=1, variant=variant)
    clean = codec.encode((batch.images * 255).float())
    first, last = (2 * (coefficients - clean) for coefficients in decoded)
    torch.testing.assert_close(last.norm(dim=1), extras["norm"], rtol=1e-3, atol=0)
    generators = [np.random.RandomState([0, index]) for index in batch.indices]
    start = 8 * np.array([DRAW_IN_UNIT_BALL["l2"](rng, 384) for rng in generators])
    # The released code does not divide by eps before the first gradient.
    factor = 8 if variant == "released" else 1
    np.testing.assert_allclose(first, factor * start, atol=1e-3)


def test_vanishing_gradients_become_nan_in_the_released_variant_only() -> None:
    (batch,) = random_batches(logit_factor=1e4)
    images, extras = run_attack(batch, "jpeg_l2", steps=20)
    assert extras["nan"].any()
    assert images.isfinite().all()
    fixed, extras = run_attack(batch, "jpeg_l2", steps=20, variant="fixed")
    assert not extras["nan"].any()
    assert fixed.isfinite().all()
