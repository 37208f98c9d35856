"""The tables and tiles of the page of `irpipe stress`, from results made by hand."""

import pytest
from made_results import make_map_result, make_result

from irpipe.reports.stress_page.numbers import stress_numbers
from irpipe.reports.stress_page.tables import attacks_table, tau_table
from irpipe.reports.stress_page.tiles import make_tiles
from irpipe.results.result import Result
from irpipe.results.stress_record import Attempt


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (["apgd-ce"], "100"),
        (["square"], "5000 queries"),
        (["fab-t", "square"], "100, 5000 queries"),
    ],
)
def test_the_table_of_attacks_tells_steps_from_queries(members: list[str], text: str) -> None:
    options = {"attacks_to_run": members, "steps": 100, "n_queries": 5000}
    result = make_result("autoattack", {}, [100], options=options)
    (row,) = attacks_table([result], [Attempt("autoattack", "autoattack", "finished")], None).rows
    assert row[4] == text


def test_a_tau_of_no_image_is_a_dash() -> None:
    result = make_map_result("int", 0.8, range(0), range(200), hinge_weight=1)
    numbers = stress_numbers([result])
    assert numbers
    table = tau_table([result], numbers)
    assert table
    assert table.rows[0][2:] == ["–, n = 0", "0.000 [0.000, 0.000]"]


@pytest.mark.parametrize(("n_kept", "dagger"), [(29, "†"), (30, "")])
def test_an_interval_of_few_images_is_marked(n_kept: int, dagger: str) -> None:
    result = make_map_result("int", 0.8, range(n_kept), range(200), hinge_weight=1)
    numbers = stress_numbers([result])
    assert numbers
    table = tau_table([result], numbers)
    assert table
    assert table.rows[0][2] == f"0.800 [0.800, 0.800]{dagger}, n = {n_kept}"
    assert "†" not in table.rows[0][3]  # of all 200


def test_the_clean_accuracy_names_the_attack_that_has_it() -> None:
    """The first attack was not evaluated at eps 0."""
    first = make_result("pgd", {}, [200])
    axes = {name: array[1:] for name, array in first.arrays.items() if name == "eps"}
    per_eps = {name: array[:, 1:] for name, array in first.arrays.items() if array.ndim == 3}
    first = Result(first.attrs, first.arrays | axes | per_eps)
    numbers = stress_numbers([first, make_result("margin_pgd", {}, [1, 100])])
    assert numbers
    (tile,) = (tile for tile in make_tiles(numbers) if tile.label == "clean accuracy")
    assert tile.sources == "margin_pgd.h5"
