"""The codec against Pillow's and by hand, and the three balls of the JPEG attack (U.3)."""

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

from irpipe.attacks import _jpeg_codec, jpeg
from irpipe.attacks._jpeg_codec import CHROMA_CORNER, LUMA_TABLE, TO_RGB, TO_YCC, Codec

SIZES = [(32, 32), (28, 28), (224, 224), (20, 41)]
sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))


def smooth_images(n_channels: int, height: int, width: int) -> Tensor:
    """Rounded pixels of a few low waves, `[1, C, H, W]`, float64."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 16
    waves = [
        np.sin(rng.normal() * x + rng.normal() * y + rng.uniform(0, 6)) for _ in range(n_channels)
    ]
    return torch.from_numpy(np.stack(waves) * 70 + 128).round()[None]


def codec64(n_channels: int, height: int, width: int) -> Codec:
    return Codec((n_channels, height, width), dtype=torch.float64)


def pillow_round_trip(pixels: Tensor) -> tuple[np.ndarray, dict[int, list[int]]]:
    """Pixels `[1, C, H, W]` after Pillow's codec, `[C, H, W]`, and its tables."""
    image = Image.fromarray(pixels[0].permute(1, 2, 0).squeeze(2).byte().numpy())
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50, subsampling=2)
    reopened = Image.open(file)
    decoded = np.asarray(reopened).astype(float)
    decoded = decoded.transpose(2, 0, 1) if decoded.ndim == 3 else decoded[None]
    return decoded, reopened.quantization


# --- the codec ------------------------------------------------------------------------------


@pytest.fixture
def upsamples_as_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpolate chroma with a triangle, as Pillow does; the attack's codec repeats pixels."""
    monkeypatch.setattr(_jpeg_codec.F, "interpolate", partial(interpolate, mode="bilinear"))


def rounded_round_trip(codec: Codec, pixels: Tensor) -> np.ndarray:
    """Pixels after our codec with rounding, `[N, C, H, W]`."""
    decoded: np.ndarray = codec.decode(codec.encode(pixels).round()).clamp(0, 255).numpy()
    return decoded


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.usefixtures("upsamples_as_pillow")
def test_with_rounding_the_codec_is_pillows(height: int, width: int, n_channels: int) -> None:
    pixels = smooth_images(n_channels, height, width)
    codec = codec64(n_channels, height, width)
    pillow, tables = pillow_round_trip(pixels)
    difference = np.abs(rounded_round_trip(codec, pixels)[0] - pillow)
    # Pillow rounds to integer levels, at the end and sometimes before.
    assert difference.mean() < (0.3 if n_channels == 1 else 0.8)
    assert (difference <= 2).mean() > 0.93
    unrounded = codec.decode(codec.encode(pixels)).clamp(0, 255)[0].numpy()
    assert np.abs(unrounded - pillow).mean() > 2 * difference.mean()  # rounding matters
    assert tables[0] == [step for row in LUMA_TABLE for step in row]
    if n_channels == 3:
        assert tables[1] == [
            CHROMA_CORNER[v][u] if u < 4 and v < 4 else 99 for v in range(8) for u in range(8)
        ]


@pytest.mark.usefixtures("upsamples_as_pillow")
def test_with_rounding_the_codec_is_pillows_on_real_images(cifar_root: Path) -> None:
    path = cifar_root / "cifar-10-batches-bin" / "test_batch.bin"
    records = np.fromfile(path, np.uint8, 3073 * 50).reshape(50, 3073)
    colour = torch.from_numpy(records[:, 1:].reshape(50, 3, 32, 32)).double()
    grey = colour.mean(dim=1, keepdim=True).round()
    for pixels, share in ((grey, 0.97), (colour, 0.88)):
        codec = codec64(pixels.shape[1], 32, 32)
        pillow = np.stack([pillow_round_trip(image[None])[0] for image in pixels])
        difference = np.abs(rounded_round_trip(codec, pixels) - pillow)
        assert difference.mean() < 1.4
        assert (difference <= 3).mean() > share


@settings(max_examples=25, deadline=None)
@given(size=sizes, n_channels=st.sampled_from([1, 3, 4]), seed=st.integers(0, 99))
def test_without_an_offset_the_codec_averages_chroma_and_nothing_else(
    size: tuple[int, int], n_channels: int, seed: int
) -> None:
    shape = (2, n_channels, 2 * size[0], 2 * size[1])
    generator = torch.Generator().manual_seed(seed)
    pixels = 255 * torch.rand(shape, dtype=torch.float64, generator=generator)
    codec = codec64(*shape[1:])
    expected = pixels.clone()
    if n_channels == 3:
        matrix = torch.tensor(TO_YCC, dtype=torch.float64)
        ycc = torch.einsum("dc,nchw->ndhw", matrix, pixels)
        cells = ycc[:, 1:].unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean(dim=(3, 5))
        ycc[:, 1:] = cells.repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(matrix), ycc)
    torch.testing.assert_close(codec.decode(codec.encode(pixels)), expected, rtol=0, atol=1e-3)


def change_of_grey(coefficient: int, n_channels: int = 3) -> Tensor:
    """What an offset of 1 at one coefficient adds to mid-grey 32x32, `[C, 32, 32]`.

    Luma has 16 blocks of 64 coefficients, Cb and Cr have 4 each.
    """
    codec = codec64(n_channels, 32, 32)
    grey = torch.full((1, n_channels, 32, 32), 128.0, dtype=torch.float64)
    coefficients = codec.encode(grey)
    assert coefficients.shape == (1, 64 * (24 if n_channels == 3 else 16 * n_channels))
    assert coefficients.abs().max() < 1e-9
    coefficients[0, coefficient] = 0.5
    return codec.decode(coefficients)[0] - 128


def test_one_coefficient_by_hand() -> None:
    luma = change_of_grey(0)
    cb = change_of_grey(16 * 64)
    cr = change_of_grey(20 * 64)
    torch.testing.assert_close(luma[:, :8, :8], torch.ones(3, 8, 8, dtype=torch.float64))
    for change, levels in ((cb, (0, -0.366, 1.883)), (cr, (1.490, -0.759, 0))):
        for channel, level in enumerate(levels):
            block = change[channel, :16, :16].flatten().tolist()
            assert block == pytest.approx([level] * 256, abs=5e-4)
    luma[:, :8, :8] = cb[:, :16, :16] = cr[:, :16, :16] = 0
    assert max(change.abs().max().item() for change in (luma, cb, cr)) < 1e-9  # nothing elsewhere
    # The sixth block is in the second row and the second column.
    change = change_of_grey(64 * 5 + 3)
    wave = [16 / 2 * math.cos((2 * x + 1) * 3 * math.pi / 16) / 2 / math.sqrt(8) for x in range(8)]
    assert change[0, 8:16, 8:16].tolist() == [pytest.approx(wave, abs=1e-9)] * 8


@pytest.mark.parametrize("coefficient", [0, 1, 8, 27, 63])
def test_a_luma_coefficient_changes_luma_by_half_its_table_entry(coefficient: int) -> None:
    expected = LUMA_TABLE[coefficient // 8][coefficient % 8] / 2
    for n_channels in (3, 1):
        change = change_of_grey(coefficient, n_channels)
        assert change[0].norm().item() == pytest.approx(expected)


def test_the_gradient_is_the_transform_of_the_pixels_gradient() -> None:
    codec = codec64(3, 16, 16)
    weights = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    offset = torch.zeros(1, 384, dtype=torch.float64, requires_grad=True)
    coefficients = codec.encode(smooth_images(3, 16, 16))
    assert torch.autograd.gradcheck(lambda c: codec.decode(coefficients + c / 2), offset)
    pixels = codec.decode(coefficients + offset / 2)
    (gradient,) = torch.autograd.grad((weights * pixels).sum(), offset)
    to_rgb = torch.tensor(TO_RGB, dtype=torch.float64)
    luma = torch.einsum("dc,nchw->ndhw", to_rgb.T, weights)[:, :1]
    table = torch.tensor(LUMA_TABLE, dtype=torch.float64).flatten().repeat(4)
    transform = codec64(1, 16, 16).encode(luma + 128) * table
    torch.testing.assert_close(gradient[:, :256], 0.5 * table * transform)


# --- the balls ------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2", "l1"]),
    eps=st.floats(0.01, 300),
    n_entries=st.integers(1, 400),
    as_released=st.booleans(),
    seed=st.integers(0, 99),
)
def test_offsets_stay_in_their_ball(
    norm: str, eps: float, n_entries: int, as_released: bool, seed: int
) -> None:
    rng = np.random.RandomState(seed)
    norm_of = {
        "linf": lambda c: np.abs(c).max(axis=1),
        "l2": lambda c: np.sqrt((c**2).sum(axis=1)),
        "l1": lambda c: np.abs(c).sum(axis=1),
    }[norm]
    unit = np.stack([jpeg.DRAW_IN_UNIT_BALL[norm](rng, n_entries) for _ in range(3)])
    # In float64, since in float32 c + (D - c) rounds by more than is asserted below.
    offset = torch.from_numpy(eps * unit)
    assert (norm_of(offset.numpy()) <= eps * (1 + 1e-12)).all()
    if norm == "l1":
        # The released code may leave the ball: a coefficient beyond +-2 has negative room.
        as_released = False
    step = jpeg.MAKE_STEP[norm](eps, eps / math.sqrt(5), as_released)
    for steps_before in range(5):
        direction = torch.from_numpy(rng.normal(size=offset.shape))
        offset = step(steps_before, offset, direction)
        assert (norm_of(offset.numpy()) <= eps * (1 + 1e-12)).all()
        if norm != "linf":
            assert offset.abs().max() <= jpeg.MAX_COEFFICIENT_CHANGE + 1e-12


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_starts_are_uniform_in_the_ball(norm: str) -> None:
    draw = jpeg.DRAW_IN_UNIT_BALL[norm]
    points = np.stack([draw(np.random.RandomState(seed), 3) for seed in range(4000)])
    lengths = np.linalg.norm(points, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)
    # In 3 dimensions, the ball of half the size has 1/8 of the volume, and so has each octant.
    assert (lengths < 0.5).mean() == pytest.approx(1 / 8, abs=0.02)
    assert (points > 0).all(axis=1).mean() == pytest.approx(1 / 8, abs=0.02)


def vertex_by_loop(
    offset: list[float], direction: list[float], eps: float, as_released: bool
) -> list[float]:
    """The vertex of U.3, one coefficient after the other."""
    vertex = [0.0] * len(offset)
    remaining = eps
    for j in sorted(range(len(offset)), key=lambda j: -abs(direction[j])):
        sign = 1 if direction[j] > 0 else -1
        room = 2 - sign * offset[j] if as_released else 2
        magnitude = min(room, remaining)
        vertex[j] = float(np.sign(direction[j])) * magnitude
        if magnitude == remaining:
            break
        remaining -= magnitude
    return vertex


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("as_released", [True, False])
def test_l1_averages_vertices(as_released: bool, dtype: torch.dtype, atol: float) -> None:
    rng = np.random.RandomState(3)
    offset = torch.from_numpy(rng.uniform(-1.5, 1.5, (4, 20))).to(dtype)
    expected = offset.numpy()
    step = jpeg.l1_step(11.0, 0, as_released)
    for steps_before in range(4):
        direction = rng.normal(size=(4, 20)) * (rng.uniform(size=(4, 20)) > 0.3)
        offset = step(steps_before, offset, torch.from_numpy(direction).to(dtype))
        vertices = [
            vertex_by_loop(list(c), list(d), 11.0, as_released)
            for c, d in zip(expected, direction, strict=True)
        ]
        expected = expected + (np.array(vertices) - expected) / (steps_before + 1)
        np.testing.assert_allclose(offset.numpy(), expected, atol=atol)
        if steps_before == 0:  # the start is forgotten
            np.testing.assert_allclose(expected, vertices, atol=atol)


def test_largest_entries_come_first_and_equal_ones_stay_in_their_order() -> None:
    size = torch.tensor([[0.0, 2.0, 1e-40, 2.0, torch.inf, 0.0], [3.0, 3.0, 0.0, 4.0, 3.0, 1.0]])
    expected = [[4, 1, 3, 2, 0, 5], [3, 0, 1, 4, 5, 2]]
    assert jpeg._from_largest(size).tolist() == expected
    assert jpeg._from_largest(size.double()).tolist() == expected


def test_l2_steps_by_hand_and_without_a_direction() -> None:
    offset = torch.tensor([[0.3, 0.0], [3.0, 0.0]])
    direction = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    fixed = jpeg.l2_step(1.0, 0.5, as_released=False)(0, offset, direction)
    # [0.6, 0.4] is in the ball. The second row takes no step and is scaled.
    torch.testing.assert_close(fixed, torch.tensor([[0.6, 0.4], [1.0, 0.0]]))
    released = jpeg.l2_step(1.0, 0.5, as_released=True)(0, offset, direction)
    torch.testing.assert_close(released[0], fixed[0])
    assert released[1].isnan().all()
    clipped = jpeg.l2_step(4.0, 5.0, as_released=True)(0, offset, direction)[0]
    torch.testing.assert_close(clipped, torch.tensor([2.0, 2.0]))
