"""The codec against Pillow's and by hand, and the three balls of the JPEG attack (specification 3)."""

import io
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

import irpipe.attacks.parts.codec
from irpipe.attacks import jpeg
from irpipe.attacks.parts.codec import CHROMA, LUMA, TO_RGB, TO_YCC, Codec

SIZES = [(32, 32), (28, 28), (224, 224), (20, 41)]
sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))


def smooth(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Whole pixels of a few low waves, `[1, C, H, W]`, float64."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 16
    waves = [np.sin(rng.normal() * x + rng.normal() * y + rng.uniform(0, 6)) for _ in range(channels)]
    return torch.from_numpy(np.stack(waves) * 70 + 128).round()[None]


def codec(channels: int, height: int, width: int) -> Codec:
    return Codec((channels, height, width), dtype=torch.float64)


def by_pillow(pixels: Tensor) -> tuple[np.ndarray, dict[int, list[int]]]:
    """Pixels `[C, H, W]` behind Pillow's codec, and its tables."""
    image = Image.fromarray(pixels[0].permute(1, 2, 0).squeeze(2).byte().numpy())
    image.save(file := io.BytesIO(), "JPEG", quality=50, subsampling=2)
    back = Image.open(file)
    decoded = np.asarray(back).astype(float)
    return (decoded.transpose(2, 0, 1) if decoded.ndim == 3 else decoded[None]), back.quantization


# --- the codec -----------------------------------------------------------------------------------------


@pytest.fixture
def smoothly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat chroma as Pillow does, by a triangle; the attack's codec repeats pixels."""
    monkeypatch.setattr(irpipe.attacks.parts.codec.F, "interpolate", partial(interpolate, mode="bilinear"))


def rounded(made: Codec, pixels: Tensor) -> np.ndarray:
    """Pixels behind our codec with rounding, `[N, C, H, W]`."""
    back: np.ndarray = made.decode(made.encode(pixels).round()).clamp(0, 255).numpy()
    return back


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.usefixtures("smoothly")
def test_rounded_it_is_pillows(height: int, width: int, channels: int) -> None:
    pixels, made = smooth(channels, height, width), codec(channels, height, width)
    theirs, tables = by_pillow(pixels)
    apart = np.abs(rounded(made, pixels)[0] - theirs)
    assert apart.mean() < (0.3 if channels == 1 else 0.8)  # Pillow rounds to whole levels, here and there before
    assert (apart <= 2).mean() > 0.93
    plain = made.decode(made.encode(pixels)).clamp(0, 255)[0].numpy()
    assert np.abs(plain - theirs).mean() > 2 * apart.mean()  # rounding matters
    assert tables[0] == [step for row in LUMA for step in row]
    if channels == 3:
        assert tables[1] == [CHROMA[v][u] if u < 4 and v < 4 else 99 for v in range(8) for u in range(8)]


@pytest.mark.usefixtures("smoothly")
def test_rounded_it_is_pillows_on_real_images(cifar_root: Path) -> None:
    raw = np.fromfile(cifar_root / "cifar-10-batches-bin" / "test_batch.bin", np.uint8, 3073 * 50).reshape(50, 3073)
    colour = torch.from_numpy(raw[:, 1:].reshape(50, 3, 32, 32)).double()
    for pixels, share in ((colour.mean(dim=1, keepdim=True).round(), 0.97), (colour, 0.88)):
        theirs = np.stack([by_pillow(pixels[k : k + 1])[0] for k in range(50)])
        apart = np.abs(rounded(codec(pixels.shape[1], 32, 32), pixels) - theirs)
        assert apart.mean() < 1.4
        assert (apart <= 3).mean() > share


@settings(max_examples=25, deadline=None)
@given(size=sizes, channels=st.sampled_from([1, 3, 4]), seed=st.integers(0, 99))
def test_without_a_change_it_averages_chroma_and_nothing_else(size: tuple[int, int], channels: int, seed: int) -> None:
    height, width = 2 * size[0], 2 * size[1]
    pixels = torch.rand(2, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    pixels, made = 255 * pixels, codec(channels, height, width)
    expected = pixels.clone()
    if channels == 3:
        matrix = torch.tensor(TO_YCC, dtype=torch.float64)
        ycc = torch.einsum("dc,nchw->ndhw", matrix, pixels)
        cells = ycc[:, 1:].unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean(dim=(3, 5))
        ycc[:, 1:] = cells.repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(matrix), ycc)
    torch.testing.assert_close(made.decode(made.encode(pixels)), expected, rtol=0, atol=1e-3)


def changed(place: int, channels: int = 3) -> Tensor:
    """What c = 1 at one coefficient adds to mid-grey 32x32, `[C, 32, 32]`; luma has 16 blocks, chroma 4 each."""
    made = codec(channels, 32, 32)
    start = made.encode(torch.full((1, channels, 32, 32), 128.0, dtype=torch.float64))
    assert start.shape == (1, 64 * (24 if channels == 3 else 16 * channels))
    assert start.abs().max() < 1e-9
    start[0, place] = 0.5
    return made.decode(start)[0] - 128


def test_one_coefficient_by_hand() -> None:
    luma, cb, cr = changed(0), changed(16 * 64), changed(20 * 64)
    torch.testing.assert_close(luma[:, :8, :8], torch.ones(3, 8, 8, dtype=torch.float64))
    for change, levels in ((cb, (0, -0.366, 1.883)), (cr, (1.490, -0.759, 0))):
        for channel, level in enumerate(levels):
            assert change[channel, :16, :16].flatten().tolist() == pytest.approx([level] * 256, abs=5e-4)
    luma[:, :8, :8] = cb[:, :16, :16] = cr[:, :16, :16] = 0
    assert max(change.abs().max().item() for change in (luma, cb, cr)) < 1e-9  # nothing elsewhere
    third = changed(64 * 5 + 3)  # the sixth block: second row, second column
    wave = [16 / 2 * math.cos((2 * x + 1) * 3 * math.pi / 16) / 2 / math.sqrt(8) for x in range(8)]
    assert third[0, 8:16, 8:16].tolist() == [pytest.approx(wave, abs=1e-9)] * 8


@pytest.mark.parametrize("place", [0, 1, 8, 27, 63])
def test_luma_coefficients_keep_their_size(place: int) -> None:
    assert changed(place)[0].norm().item() == pytest.approx(LUMA[place // 8][place % 8] / 2)
    assert changed(place, 1)[0].norm().item() == pytest.approx(LUMA[place // 8][place % 8] / 2)


def test_the_gradient_is_the_transform_of_the_pixels_gradient() -> None:
    made, seen = codec(3, 16, 16), torch.randn(1, 3, 16, 16, dtype=torch.float64)
    change = torch.zeros(1, 384, dtype=torch.float64, requires_grad=True)
    start = made.encode(smooth(3, 16, 16))
    assert torch.autograd.gradcheck(lambda c: made.decode(start + c / 2), change)
    (gradient,) = torch.autograd.grad((seen * made.decode(start + change / 2)).sum(), change)
    luma = torch.einsum("dc,nchw->ndhw", torch.tensor(TO_RGB, dtype=torch.float64).T, seen)[:, :1]
    steps = torch.tensor(LUMA, dtype=torch.float64).flatten().repeat(4)
    transform = codec(1, 16, 16).encode(luma + 128) * steps
    torch.testing.assert_close(gradient[:, :256], 0.5 * steps * transform)


# --- the balls -----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2", "l1"]),
    eps=st.floats(0.01, 300),
    count=st.integers(1, 400),
    code=st.booleans(),
    seed=st.integers(0, 99),
)
def test_changes_stay_in_their_ball(norm: str, eps: float, count: int, code: bool, seed: int) -> None:
    rng = np.random.RandomState(seed)
    size = {
        "linf": lambda c: np.abs(c).max(axis=1),
        "l2": lambda c: np.sqrt((c**2).sum(axis=1)),
        "l1": lambda c: np.abs(c).sum(axis=1),
    }[norm]
    change = torch.from_numpy(eps * np.stack([jpeg.START[norm](rng, count) for _ in range(3)])).float()
    assert (size(change.numpy()) <= eps * (1 + 1e-5)).all()
    if norm == "l1":
        code = False  # the code's may leave it: a coefficient beyond the box has negative room
    move = jpeg.MOVE[norm](eps, eps / math.sqrt(5), code)
    for before in range(5):
        change = move(before, change, torch.from_numpy(rng.normal(size=change.shape)).float())
        assert (size(change.numpy().astype(float)) <= eps * (1 + 1e-5)).all()
        if norm != "linf":
            assert change.abs().max() <= jpeg.BOX + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_starts_are_uniform_in_the_ball(norm: str) -> None:
    drawn = np.stack([jpeg.START[norm](np.random.RandomState(seed), 3) for seed in range(4000)])
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    # of a ball in 3 dimensions, 1/8 of the volume lies within half its radius; each octant has as much
    assert (np.linalg.norm(drawn, order, axis=1) < 0.5).mean() == pytest.approx(1 / 8, abs=0.02)
    assert (drawn > 0).all(axis=1).mean() == pytest.approx(1 / 8, abs=0.02)


def vertex(change: list[float], direction: list[float], eps: float, code: bool) -> list[float]:
    """Frank and Wolfe's vertex, one coefficient after the other."""
    found, left = [0.0] * len(change), eps
    for j in sorted(range(len(change)), key=lambda j: -abs(direction[j])):
        sign = 1 if direction[j] > 0 else -1
        weight = min(2 - sign * change[j] if code else 2, left)
        found[j] = float(np.sign(direction[j])) * weight
        if weight == left:
            break
        left -= weight
    return found


@pytest.mark.parametrize("code", [True, False])
def test_l1_averages_vertices(code: bool) -> None:
    rng = np.random.RandomState(3)
    change = torch.from_numpy(rng.uniform(-1.5, 1.5, (4, 20)))
    move, expected = jpeg.l1(11.0, 0, code), change.numpy()
    for before in range(4):
        direction = rng.normal(size=(4, 20)) * (rng.uniform(size=(4, 20)) > 0.3)
        change = move(before, change, torch.from_numpy(direction))
        corners = [vertex(list(c), list(d), 11.0, code) for c, d in zip(expected, direction, strict=True)]
        expected = expected + (np.array(corners) - expected) / (before + 1)
        np.testing.assert_allclose(change.numpy(), expected, atol=1e-12)
        if before == 0:
            np.testing.assert_allclose(expected, corners)  # the start is forgotten


def test_l2_steps_by_hand_and_without_a_direction() -> None:
    change, direction = torch.tensor([[0.3, 0.0], [3.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    kept = jpeg.l2(1.0, 0.5, False)(0, change, direction)
    torch.testing.assert_close(kept, torch.tensor([[0.6, 0.4], [1.0, 0.0]]))  # [.6, .4] is inside; no step, then scaled
    lost = jpeg.l2(1.0, 0.5, True)(0, change, direction)
    torch.testing.assert_close(lost[0], kept[0])
    assert lost[1].isnan().all()
    torch.testing.assert_close(jpeg.l2(4.0, 5.0, True)(0, change, direction)[0], torch.tensor([2.0, 2.0]))  # the box
