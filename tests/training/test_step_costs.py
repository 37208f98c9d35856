"""A training step on a GPU costs what docs/benchmarks.md says, which no change may raise."""

from pathlib import Path

import step_costs

from irpipe.documents.numbers import read_list

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def test_the_operations_of_a_step_are_those_of_the_page() -> None:
    listed = {
        name[2:]: number.text
        for name, number in read_list(PAGE).items()
        if name[:2] == ("measured", "step_costs")
    }
    assert listed == {
        (str(index), column): str(value)
        for index, row in enumerate(step_costs.rows())
        for column, value in row.items()
    }
