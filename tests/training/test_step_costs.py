"""A training step on a GPU costs what docs/benchmarks.md says, which no change may raise."""

from pathlib import Path

import step_costs

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def test_the_operations_of_a_step_are_those_of_the_page() -> None:
    assert "\n".join(step_costs.table()) in PAGE.read_text(encoding="utf-8")
