"""The shipped documents: their numbers are those of the lists in them, and nothing else."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from made_results import make_pgd_pair, make_proofs, make_result, write_results

from irpipe.documents.measurements import Measurement, write_measurement
from irpipe.documents.numbers import LIST_HEADING, Name, Number, read_list
from irpipe.documents.pages import PAGES, UsedNumbers, render
from irpipe.documents.write import main
from irpipe.results.result import Result, write_result

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_page_has_the_numbers_of_its_list(name: str) -> None:
    path = DOCS / f"{name}.md"
    text = path.read_text(encoding="utf-8")
    assert render(name, read_list(path), DOCS) == text, f"{path}: `make docs` writes another page"


@pytest.mark.parametrize("name", PAGES)
def test_figures_are_those_of_the_list(name: str) -> None:
    numbers = read_list(DOCS / f"{name}.md")
    listed = {key[1]: number.text for key, number in numbers.items() if key[0] == "figure"}
    found = re.findall(r"\(figures/(\w+)\.png\)", (DOCS / f"{name}.md").read_text("utf-8"))
    assert sorted(found) == sorted(listed)
    for figure, sha256 in listed.items():
        content = (DOCS / "figures" / f"{figure}.png").read_bytes()
        assert hashlib.sha256(content).hexdigest().startswith(sha256)


def test_every_figure_is_in_a_list() -> None:
    numbers = [read_list(DOCS / f"{name}.md") for name in PAGES]
    listed = {key[1] for page in numbers for key in page if key[0] == "figure"}
    assert {path.stem for path in (DOCS / "figures").iterdir()} == listed


def test_a_number_changed_by_hand_is_found(tmp_path: Path) -> None:
    """In the text or in the list: the page that the list gives is another one."""
    text = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    row = "| MNIST, Small | 3, 4 | 8 of 8 | 72 | 72 | 0 | 0 |"
    body, _, numbers = text.partition(LIST_HEADING)
    assert row in body
    assert "\npgd; mnist/small; equal,72," in numbers
    for changed in (
        text.replace(row, row.replace("72 | 72", "72 | 71")),
        text.replace("\npgd; mnist/small; equal,72,", "\npgd; mnist/small; equal,71,"),
    ):
        path = tmp_path / "reproduction.md"
        path.write_text(changed, encoding="utf-8")
        assert render("reproduction", read_list(path), DOCS) != changed


def test_pages_are_made_again_from_their_lists(tmp_path: Path) -> None:
    for name in PAGES:
        shutil.copy(DOCS / f"{name}.md", tmp_path)
    shutil.copytree(DOCS / "templates", tmp_path / "templates")
    template = tmp_path / "templates" / "verdict.md.jinja"
    text = template.read_text(encoding="utf-8")
    template.write_text(text.replace("Do the claims hold?", "Well?"), encoding="utf-8")
    main(["--output", str(tmp_path)])
    page = (tmp_path / "verdict.md").read_text(encoding="utf-8")
    assert page == (DOCS / "verdict.md").read_text("utf-8").replace("Do the claims hold?", "Well?")


def test_a_measurement_replaces_its_table_alone(tmp_path: Path) -> None:
    docs = shutil.copytree(DOCS, tmp_path / "docs")
    rows = [{"machine": "an abacus", "cells that differ": 3}]
    measurement = Measurement("portability", "an abacus", "feed", rows)
    write_measurement(tmp_path / "results/measurements", measurement)
    main([str(tmp_path / "results"), "--output", str(docs)])
    assert [name for name in PAGES if _text(docs, name) != _text(DOCS, name)] == ["reproduction"]
    heading = "## Across machines\n"
    before, _, after = _text(docs, "reproduction").partition(heading)
    assert before == _text(DOCS, "reproduction").partition(heading)[0]
    table = after.partition(LIST_HEADING)[0]
    assert "| machine | cells that differ |\n| --- | --- |\n| an abacus | 3 |\n" in table
    assert "AVX512" not in table


def test_a_page_says_what_was_measured_on_which_machine() -> None:
    texts = {"pgd": "an abacus", "maps": "a slide rule", "peak": "an abacus"}
    numbers: dict[Name, Number] = {
        ("machine", name): Number(text, ()) for name, text in texts.items()
    }
    machines = UsedNumbers(numbers).machines
    expected = "- `pgd`, `peak`: an abacus\n- `maps`: a slide rule"
    assert machines(["pgd", "scaling", "maps", "peak"]) == expected
    assert machines(["peak", "scaling"]) == "- an abacus"
    assert machines(["scaling"]) == "- not run"


def test_results_replace_the_numbers_of_their_networks_alone(tmp_path: Path) -> None:
    """Of networks from scratch: 170 and 178 images under PGD, 160 and 150 under both attacks."""
    docs = shutil.copytree(DOCS, tmp_path / "docs")
    results = [
        Result(result.attrs | {"run": "seed0"}, result.arrays)
        for result in (
            *make_pgd_pair("int", range(170), range(160)),
            *make_pgd_pair("adv", range(178), range(150)),
        )
    ]
    write_results(results, tmp_path / "results")
    main([str(tmp_path / "results"), "--output", str(docs)])
    page, before = _text(docs, "verdict"), _text(DOCS, "verdict")
    rows, rows_before = (
        [line for line in text.partition(LIST_HEADING)[0].splitlines() if line.startswith("| MNI")]
        for text in (page, before)
    )
    others, others_before = (
        [row for row in part if "from scratch" not in row] for part in (rows, rows_before)
    )
    assert others == others_before != []
    (verdict,) = (row for row in rows if "0.800 against 0.750, difference +0.050" in row)
    assert "| 0.850 against 0.890 |" in verdict
    listed = read_list(docs / "verdict.md")
    assert "claim; 3; mnist/small/seed0; verdict" in before
    assert ("claim", "3", "mnist/small/seed0", "verdict") not in listed
    figure = listed["figure", "verdict"]
    content = (docs / "figures" / "verdict.png").read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith(figure.text)
    code = {source.path: source.code_hash for source in figure.sources}
    assert code["mnist/small/int/seed0/pgd.h5"] == "c0de"
    assert "mnist/pool/int/released/pgd.h5" in code
    main(["--output", str(docs)])
    assert _text(docs, "verdict") == page


def test_a_result_replaces_the_numbers_of_a_released_network_that_it_gives_alone(
    tmp_path: Path,
) -> None:
    """Proofs of a network in no claim; PGD without the attacks and networks that it goes with."""
    docs = shutil.copytree(DOCS, tmp_path / "docs")
    proofs = make_proofs({0.3: (60, 140)}, leaves=200, model="pool", method="int_adv")
    proofs.attrs["attack"] = "certify_200"
    results = [proofs, *make_pgd_pair("int", range(170), range(160))[:1]]
    write_results(results, tmp_path / "results")
    main([str(tmp_path / "results"), "--output", str(docs)])
    old, new = (read_list(folder / "verdict.md") for folder in (DOCS, docs))
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    network = "mnist/pool/int_adv/released"
    assert changed == {
        (share, "certify_200", network, eps, "200")
        for share in ("certified", "accuracy")
        for eps in ("0.05", "0.1", "0.2", "0.3")
    }
    assert new["accuracy", "certify_200", network, "0.3", "200"].text == "0.700"
    figure = "figures/mnist_small_eps.png"  # of PGD on eight networks
    assert (docs / figure).read_bytes() == (DOCS / figure).read_bytes()
    old, new = (read_list(folder / "reproduction.md") for folder in (DOCS, docs))
    counts = ("pgd", "mnist/small", "equal")
    assert old[counts] == new[counts]
    assert old[counts].text == "72"


def test_flags_of_masking_are_replaced_if_all_files_that_they_came_from_are_there(
    tmp_path: Path,
) -> None:
    """All attacks that the flags came from, the first time without the last of them."""
    name = ("masking", "mnist/pool/int_adv/released", "flags")
    before = read_list(DOCS / "verdict.md")[name]
    n_attacks = len(before.sources)
    assert n_attacks > 1
    codes = {source.code_hash for source in before.sources}
    network = {"model": "pool", "method": "int_adv"}
    attacks = [Path(source.path).stem for source in before.sources]
    results = [
        make_proofs({}, leaves=200, attack=attack, **network)
        if attack == "certify_200"
        else make_result("margin_pgd", {}, [1, 100], attack=attack, **network)
        for attack in attacks
    ]
    for n, expected in ((n_attacks - 1, codes), (n_attacks, {"c0de"})):
        docs = shutil.copytree(DOCS, tmp_path / f"docs_{n}")
        write_results(results[:n], tmp_path / f"results_{n}")
        main([str(tmp_path / f"results_{n}"), "--output", str(docs)])
        flags = read_list(docs / "verdict.md")[name]
        assert {source.code_hash for source in flags.sources} == expected
        assert (flags == before) == (n < n_attacks)


def test_results_without_the_folders_of_their_networks_are_refused(tmp_path: Path) -> None:
    write_result(tmp_path / "a.h5", make_result("square", {}, [200]))
    with pytest.raises(
        SystemExit, match=r"error: a\.h5: is no DATASET/MODEL/METHOD/RUN/FILE below"
    ):
        main([str(tmp_path), "--output", str(DOCS)])


def test_readme_has_the_numbers_of_the_documents() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    numbers = read_list(DOCS / "verdict.md")
    for eps in ("0.2", "0.3"):
        cells = [
            numbers[share, "certify", f"mnist/small/{method}/released", eps, "6000"].text
            for method in ("int", "adv")
            for share in ("certified", "accuracy")
        ]
        assert f"| {eps} | {' | '.join(cells)} |" in readme
    numbers = read_list(DOCS / "reproduction.md")
    trained = numbers["accuracy", "pgd", "mnist/small/int/seed0", "0.3", "200"].text
    assert f"Int reaches {trained} at eps = 0.3" in readme


def _text(folder: Path, name: str) -> str:
    return (folder / f"{name}.md").read_text(encoding="utf-8")


def test_folder_without_results_changes_no_page(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^python -m \S+: error: .*: no result"):
        main([str(tmp_path), "--output", str(DOCS)])


@pytest.mark.parametrize("name", PAGES)
def test_page_without_numbers_is_a_page(name: str) -> None:
    assert "not run" in render(name, {}, DOCS).lower()


def test_answers_of_the_reproduction_follow_its_numbers() -> None:
    """Gabor leaves 0.070 of Adv's 200 MNIST images; CAM's NDS is 3.410 for two classes."""
    numbers = read_list(DOCS / "reproduction.md")
    text = render("reproduction", numbers, DOCS)
    assert "| stronger with theirs | 8 of 8 | 0 of 8 | 8 of 8 | 3 of 8 | 0 of 8 | 8 of 8 |" in text
    assert "| MNIST CAM | yes | yes |" in text
    assert "The published NDS are 1.3 to 1.9 times as large" in text
    cell = ("mnist/small/adv/released", "400", "200")
    isa = ("isa", "mnist/small/normal/released", "cam", "l1 two", "100", "nds")
    imagenet = ("isa", "restricted_imagenet/wresnet/normal/released", "cam", "l1 one", "20", "nds")
    for key, value in {
        ("accuracy", "gabor_advex_uar", *cell): "0.065",
        isa: "3.000",
        imagenet: "98.572",  # of 49.286
    }.items():
        numbers[key] = numbers[key]._replace(text=value)
    text = render("reproduction", numbers, DOCS)
    assert "| stronger with theirs | 8 of 8 | 0 of 8 | 8 of 8 | 4 of 8 | 0 of 8 | 8 of 8 |" in text
    assert "| MNIST CAM | no | yes |" in text
    assert "The published NDS are 0.5 to 1.7 times as large" in text
