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


def compared(name: str, values: np.ndarray) -> np.ndarray:
    """Of `maps` on a GPU the clean image alone, since rounding decides the pixels of the other."""
    return values[:, :1] if IS_GPU and name == "maps" and values.ndim > 1 else values


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
        for key, values in expected.items():
            np.testing.assert_allclose(
                compared(name, result.arrays[key]),
                compared(name, values),
                rtol=1e-3,
                atol=1e-4,
                err_msg=f"{name}: {key}",
            )
