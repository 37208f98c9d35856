"""The verdict page: released beside trained networks, what was not run, and files that numbers can be traced to."""

import hashlib
from pathlib import Path

import pytest
from test_compare import SIMILAR, made, maps, rows, sides

from irpipe.errors import IrpipeError
from irpipe.io import BLOCK, Result, read_result, write_result
from irpipe.reports import page, verdict

ATTACKS = ["pgd", "strong", "aai0"]


def line(text: str, start: str) -> list[str]:
    """The cells of the first line of a Markdown table that starts like this, behind its heading if that is given."""
    found = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in found.strip("|").split(" | ")]


def stored(results: list[Result], folder: Path) -> list[Result]:
    for number, result in enumerate(results):
        write_result(folder / f"{number}.h5", result)
    return [read_result(folder / f"{number}.h5") for number in range(len(results))]


def trained(run: str, right: int) -> list[Result]:
    both = [*sides("int", range(right), range(right)), *sides("adv", range(178), range(176))]
    for result in both:
        result.attrs["run"] = run
    return both


def test_released_and_trained_networks_stand_in_one_row(tmp_path: Path) -> None:
    results = [*sides("int", range(158), range(10, 200)), *sides("adv", range(178), range(176))]
    results += [*trained("seed0", 170), *trained("seed1", 100)]
    paths = page.report(results, tmp_path / "table_verdict", title="V", attacks=ATTACKS)
    assert [path.name for path in paths] == ["verdict.md", "verdict.png", "verdict.pdf", "verdict.svg"]
    assert all(path.stat().st_size for path in paths)
    text = paths[0].read_text()
    assert line(text, SIMILAR.text) == [SIMILAR.text, "holds weaker", "holds (1), not supported (1)"]
    text = text[text.index(f"**{SIMILAR.text}") :]
    cells = line(text, "MNIST, Small, ε = 0.3")
    assert cells[1:3] == ["0.790 against 0.890 (Table 3)", "0.790 against 0.890"]
    assert cells[3].startswith("0.740 against 0.880, difference -0.140")
    assert cells[4] == "0.850 against 0.890; 0.500 against 0.890"
    assert cells[6:] == ["holds weaker; from scratch: holds (1), not supported (1)", "1-12"]
    assert "Not run on any network: aai0." in text
    text = paths[0].read_text()
    assert "irpipe report --table 'verdict={kind: page, title: \"V\"}'" in text
    assert "(verdict.svg)" in text


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    results = [*sides("int", range(158), range(150)), made("pgd", {}, [200], method="adv")]
    text = page.report(results, tmp_path / "v", title="V", attacks=ATTACKS)[0].read_text()
    assert line(text[text.index("**Int is more robust than IG-Norm") :], "MNIST")[1:] == ["–", *["not run"] * 5, "–"]
    assert line(text[text.index("Signs of masked") :], "MNIST, Small, Adv")[2] == "strong"


def test_numbers_are_traced_to_files(tmp_path: Path) -> None:
    """The numbers of a row are those of the files, whose hash anyone can work out."""
    made_up = [*sides("int", range(158), range(150)), *sides("adv", range(158), range(150))]
    results = stored([*made_up, maps("int", 0.9, range(9), range(9))], tmp_path)
    text = page.report(results, tmp_path / "v", title="V", attacks=ATTACKS)[0].read_text()
    assert line(text[text.index("**Int's robustness") :], "MNIST, Small")[-1] == "1, 2"
    assert line(text[text.index("Signs of masked") :], "MNIST, Small, Int")[-1] == "1, 2, 5"
    files = text[text.index("Files that the numbers") :]
    for number, place in enumerate(("int/released/pgd", "int/released/strong", "adv/released/pgd"), 1):
        cells = line(files, f"{number} | ")
        content = (tmp_path / f"{number - 1}.h5").read_bytes()[BLOCK:]
        assert cells[1:] == [
            f"results/mnist/small/{place}.h5",
            hashlib.sha256(content).hexdigest()[:16],
            "feed",
            "c0de",
        ]
    verdict.report(results, tmp_path / "t", title="V", attacks=ATTACKS)
    assert rows(tmp_path / "t.csv")[0]["sha256"].split() == [result.sha256 for result in results[:4]]


def test_ranges_of_numbers() -> None:
    assert verdict._listed([3, 1, 2, 7, 6, 9]) == "1-3, 6, 7, 9"
    assert verdict._listed([]) == "–"


@pytest.mark.parametrize("results", [[], [made("pgd", {}, [30, 200], method="adv")]])
def test_a_page_without_results(results: list[Result], tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match=r"\Av: no claim can be judged"):
        page.report(results, tmp_path / "table_v", title="V", attacks=ATTACKS)
    assert not list(tmp_path.iterdir())
