"""The claims table: released next to trained networks, what was not run, files behind numbers."""

import hashlib
from pathlib import Path

import pytest
from made_results import ABOUT_AS_ROBUST, make_map_result, make_pgd_pair, make_result, read_rows

from irpipe.errors import IrpipeError
from irpipe.reports import claims_table
from irpipe.results.labels import number_ranges
from irpipe.results.result import USER_BLOCK_BYTES, Result, read_result, write_result

ATTACKS = ["pgd", "margin_pgd", "aai0"]


def cells_of(text: str, start: str, heading: str = "") -> list[str]:
    """The cells of the first row of a Markdown table, after `heading`, that starts with `start`."""
    lines = text[text.index(heading) :].splitlines()
    row = next(line for line in lines if line.startswith(f"| {start}"))
    return [cell.strip() for cell in row.replace("\\_", "_").strip("|").split(" | ")]


def page_of(results: list[Result], folder: Path) -> str:
    """The claims table as Markdown."""
    claims_table.report(results, folder / "t", title="V", attacks=ATTACKS)
    return (folder / "t.md").read_text(encoding="utf-8")


def store(results: list[Result], folder: Path) -> list[Result]:
    """The results as read from files 0.h5, 1.h5, ..."""
    for number, result in enumerate(results):
        write_result(folder / f"{number}.h5", result)
    return [read_result(folder / f"{number}.h5") for number in range(len(results))]


def make_trained_results(run: str, n_correct: int) -> list[Result]:
    results = [
        *make_pgd_pair("int", range(n_correct), range(n_correct)),
        *make_pgd_pair("adv", range(178), range(176)),
    ]
    for result in results:
        result.attrs["run"] = run
    return results


def test_released_and_trained_networks_stand_in_one_row(tmp_path: Path) -> None:
    results = [
        *make_pgd_pair("int", range(158), range(10, 200)),
        *make_pgd_pair("adv", range(178), range(176)),
        *make_trained_results("seed0", 170),
        *make_trained_results("seed1", 100),
    ]
    text = page_of(results, tmp_path)
    assert cells_of(text, ABOUT_AS_ROBUST.text) == [
        ABOUT_AS_ROBUST.text,
        "holds weaker",
        "holds (1), not supported (1)",
    ]
    cells = cells_of(text, "MNIST, Small, ε = 0.3", heading=f"**{ABOUT_AS_ROBUST.text}")
    assert cells[1:3] == ["0.790 against 0.890 (Table 3)", "0.790 against 0.890"]
    assert cells[3].startswith("0.740 against 0.880, difference -0.140")
    assert cells[4] == "0.850 against 0.890; 0.500 against 0.890"
    assert cells[6:] == ["holds weaker; from scratch: holds (1), not supported (1)", "1-12"]
    assert "Not run on any network: aai0." in text


def test_page_says_what_was_not_run(tmp_path: Path) -> None:
    results = [
        *make_pgd_pair("int", range(158), range(150)),
        make_result("pgd", {}, [200], method="adv"),
    ]
    text = page_of(results, tmp_path)
    cells = cells_of(text, "MNIST", heading="**Int is more robust than IG-Norm")
    assert cells[1:] == ["–", *["not run"] * 5, "–"]
    flags = cells_of(text, "MNIST, Small, Adv", heading="**Flags of gradient masking")
    assert flags[2] == "margin_pgd"


def test_numbers_are_traced_to_files(tmp_path: Path) -> None:
    """The numbers of a row are those of files whose hash anyone can compute."""
    pgd_results = [
        *make_pgd_pair("int", range(158), range(150)),
        *make_pgd_pair("adv", range(158), range(150)),
    ]
    results = store([*pgd_results, make_map_result("int", 0.9, range(9), range(9))], tmp_path)
    text = page_of(results, tmp_path)
    assert cells_of(text, "MNIST, Small", heading="**Int's robustness")[-1] == "1, 2"
    flags = cells_of(text, "MNIST, Small, Int", heading="**Flags of gradient masking")
    assert flags[-1] == "1, 2, 5"
    names = ("int/released/pgd", "int/released/margin_pgd", "adv/released/pgd")
    for number, name in enumerate(names, 1):
        cells = cells_of(text, f"{number} | ", heading="**Files that the numbers come from")
        content = (tmp_path / f"{number - 1}.h5").read_bytes()[USER_BLOCK_BYTES:]
        assert cells[1:] == [
            f"results/mnist/small/{name}.h5",
            hashlib.sha256(content).hexdigest()[:16],
            "feed",
            "c0de",
        ]
    assert read_rows(tmp_path / "t.csv")[0]["sha256"].split() == [
        result.sha256 for result in results[:4]
    ]


def test_ranges_of_numbers() -> None:
    assert number_ranges([3, 1, 2, 7, 6, 9]) == "1-3, 6, 7, 9"
    assert number_ranges([]) == "–"


@pytest.mark.parametrize("results", [[], [make_result("pgd", {}, [30, 200], method="adv")]])
def test_a_page_without_claims_is_refused(results: list[Result], tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match=r"\Av: no claim can be assessed"):
        claims_table.report(results, tmp_path / "v", title="V", attacks=ATTACKS)
    assert not list(tmp_path.iterdir())
