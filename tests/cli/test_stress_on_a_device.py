"""`irpipe stress`, with all that it runs by default, gives the CPU's numbers on a device."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerator import IS_GPU, accelerator
from command_line import run, write_fitted_network

from irpipe import config
from irpipe.cli.stress import DEFAULT_ATTACKS
from irpipe.config import yaml_reader
from irpipe.config.kinds import options_model
from irpipe.results.result import read_result
from irpipe.runtime import device as runtime_device

SHORT = {"steps": 1, "restarts": 1, "n_queries": 2, "images": 2, "batch_size": 2}
MIN_SAME_IMAGES = 18  # of the 20 of `maps`


def short_attacks() -> list[str]:
    """The default attacks as arguments, with few steps on few images."""
    entries = yaml_reader.read_yaml(config.CONFIG_FOLDER / "stress.yaml")["attacks"]
    arguments = []
    for name in DEFAULT_ATTACKS:
        fields = options_model("attacks", entries[name]["kind"]).model_fields
        short = {key: value for key, value in SHORT.items() if key in fields}
        arguments.append(f"{name}={json.dumps(entries[name] | short)}")
    return arguments


def stress(checkpoint: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stress the network on the device; return the folder of the results."""
    output = checkpoint.with_name(device.type)
    monkeypatch.setattr(runtime_device, "select_device", lambda name: device)
    arguments = ["--checkpoint", checkpoint, "--eps", "0.02", "--output", output]
    assert run("stress", *arguments, "--attacks", *short_attacks()) == 0
    return output


def is_compared(on_device: np.ndarray, on_cpu: np.ndarray) -> np.ndarray:
    """Of which points `[N, E]` of `maps`, from their pixels, the numbers are compared.

    All clean images are, and those after PGD with the same pixels. Rounding decides the sign of
    a gradient near 0, and so a pixel: on the pretended device of few images, on a GPU of many.
    """
    is_same = np.isclose(on_device, on_cpu, rtol=0, atol=1e-6).all(axis=(2, 3, 4, 5))
    assert is_same[:, 0].all()
    if IS_GPU:
        is_same[:, 1] = False
    else:
        assert is_same[:, 1].sum() >= MIN_SAME_IMAGES
    return is_same


@pytest.mark.gpu
def test_stress_gives_the_numbers_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_fitted_network(tmp_path / "net.safetensors")
    on_cpu = stress(checkpoint, torch.device("cpu"), monkeypatch)
    with accelerator() as device:
        on_device = stress(checkpoint, device, monkeypatch)
    assert (on_device / "report.html").exists()
    for name in [*DEFAULT_ATTACKS, "maps"]:
        expected: dict[str, Any] = read_result(on_cpu / f"{name}.h5").arrays
        result = read_result(on_device / f"{name}.h5")
        assert result.attrs["device"] == device.type
        assert result.arrays.keys() == expected.keys()
        points = is_compared(result.arrays["image"], expected["image"]) if name == "maps" else ...
        for key, values in expected.items():
            compared = points if values.ndim > 1 else ...
            np.testing.assert_allclose(
                result.arrays[key][compared],
                values[compared],
                rtol=1e-3,
                atol=1e-4,
                err_msg=f"{name}: {key}",
            )
