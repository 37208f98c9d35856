"""`make portability`: what it writes of runs whose results are known."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks import portability
from made_results import make_result

from irpipe.results.result import Result


def pgd(flipped: list[int]) -> dict[tuple[str, str], Result]:
    """Int of MNIST Small, of which 158 of 200 images stay correct at 0.3, but for the flipped."""
    made = make_result("pgd", {(0.3, 200): range(158)}, [200])
    made.arrays["correct"][flipped, 4, 0] ^= True
    return {("mnist", "int"): made}


def test_the_cells_and_images_that_differ_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs(*arguments: Any) -> Iterator[portability.Run]:
        yield portability.Run("AVX512", pgd([]))
        yield portability.Run("AVX2", pgd([3, 170, 171]))

    monkeypatch.setattr(portability, "run_all", runs)
    folders = ["--data", ".", "--released", ".", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["portability", *folders])
    portability.main()
    written = [
        json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["rows"]
        for name in ("portability", "portability_flips")
    ]
    # Table 3 has five cells of 200 steps, Table 4 has one. Both print 0.790 at 0.3.
    cells = {"published cells": 6, "equal to the published value": 2}
    unequal = cells | {"equal to the published value": 0}
    network = "MNIST Small Int"
    assert written == [
        [
            {"run": "AVX512", **cells, "cells unlike the first row": "0 of 5"},
            {"run": "AVX2", **unequal, "cells unlike the first row": "1 of 5"},
        ],
        [{"run": "AVX2", "network": network, "eps": "0.3", "steps": 200, "images": "3, 170, 171"}],
    ]
