"""The page of a workflow says in words what its numbers say, and shows what the config names."""

import re
from pathlib import Path
from typing import Any

import pytest
from made_results import make_map_result, make_proofs, make_result

from irpipe import config as configs
from irpipe.errors import IrpipeError
from irpipe.reports import accuracy_curve, accuracy_table, job_costs
from irpipe.reports.paper_page import write_page
from irpipe.reports.paper_page.summary import claim_lines, sentences
from irpipe.results import to_frame
from irpipe.results.job_costs import read_job_costs
from irpipe.results.result import Result, write_result


def pgd(method: str, n_correct: int) -> Result:
    return make_result("pgd", {(0.3, 200): range(n_correct)}, [100, 200], method=method)


@pytest.mark.parametrize(
    ("int_correct", "adv_correct", "comparison"),
    [
        (158, 182, "is 0.12 less accurate than Adv; their 95% intervals do not overlap."),
        (182, 158, "is 0.12 more accurate than Adv; their 95% intervals do not overlap."),
        # Wilson's interval of 158/200 ends at 0.84, that of 168/200 begins at 0.78.
        (158, 168, "is 0.05 less accurate than Adv; their 95% intervals overlap."),
        (158, 158, "is as accurate as Adv; their 95% intervals overlap."),
        # 0.785 and 0.79 are both printed as 0.79.
        (158, 157, "is as accurate as Adv; their 95% intervals overlap."),
    ],
)
def test_the_sentence_on_robustness_follows_the_numbers(
    int_correct: int, adv_correct: int, comparison: str
) -> None:
    results = [pgd("adv", adv_correct), pgd("int", int_correct), pgd("normal", 0)]
    (text,) = sentences(to_frame(results))["MNIST Small"]
    shares = f"{int_correct / 200:.2f} of Int's predictions, {adv_correct / 200:.2f} of Adv's"
    assert text == (
        "After 200 steps of PGD at ε = 0.3, "
        f"{shares} and 0.00 of Normal's stay correct (n = 200). "
        f"Int, trained on explanations alone, {comparison}"
    )


@pytest.mark.parametrize("n_kept", [120, 80])
def test_the_sentence_on_explanations_follows_the_numbers(n_kept: int) -> None:
    """Int keeps a tau of 0.85 on some of 200 images, Adv one of 0.5 on 40."""
    results = [
        make_map_result("int", 0.85, range(n_kept), range(200)),
        make_map_result("adv", 0.5, range(40), range(200)),
    ]
    (text,) = sentences(to_frame(results))["MNIST Small"]
    assert text == (
        "Under an attack on the explanation at ε = 0.3, Int keeps "
        f"{0.85 * n_kept / 200:.2f} of its explanation and Adv 0.10 (mean of Kendall's tau between "
        "the maps before and after, with lost images counted as 0; n = 200)."
    )


def test_a_tau_that_rounds_to_zero_has_no_sign() -> None:
    results = [make_map_result("int", -0.004, range(200), range(200))]
    (text,) = sentences(to_frame(results))["MNIST Small"]
    assert "Int keeps 0.00 of its explanation" in text


def test_the_sentences_say_where_int_is_less_accurate() -> None:
    def unforeseen(kind: str, method: str, n_correct: int) -> Result:
        return make_result(kind, {(0.3, 50): range(n_correct)}, [50], method=method)

    results = [
        *(unforeseen("gabor", method, n) for method, n in (("int", 100), ("adv", 120))),
        *(unforeseen("snow", method, n) for method, n in (("int", 160), ("adv", 120))),
        *(unforeseen("fog", method, n) for method, n in (("int", 20), ("adv", 60))),
    ]
    begin = "Under attacks that no network was trained for,"
    assert sentences(to_frame(results))["MNIST Small"] == [
        f"{begin} the 95% intervals of Int and Adv overlap: gabor (0.50 against 0.60, n = 200).",
        f"{begin} Int is more accurate than Adv: snow (0.80 against 0.60, n = 200).",
        f"{begin} Int is less accurate than Adv: fog (0.10 against 0.30, n = 200).",
    ]


def test_the_sentence_on_proofs_has_the_largest_eps_with_a_proof_for_int() -> None:
    results = [
        make_proofs({0.1: (150, 180), 0.2: (0, 100), 0.3: (0, 100)}, method="int"),
        make_proofs({0.1: (160, 180), 0.2: (10, 100), 0.3: (10, 100)}, method="adv"),
    ]
    assert sentences(to_frame(results))["MNIST Small"] == [
        "Within ε = 0.1, no attack can break 0.75 of Int's predictions and 0.80 of Adv's: this is "
        "proven (n = 200)."
    ]


def test_seeds_count_by_their_mean_and_networks_without_int_are_left_out() -> None:
    seeds = [pgd("int", 100), pgd("int", 140)]
    for number, result in enumerate(seeds):
        result.attrs["run"] = f"seed{number}"
    assert "0.60 of Int's predictions stay correct" in sentences(to_frame(seeds))["MNIST Small"][0]
    assert sentences(to_frame([pgd("adv", 10)])) == {}


def test_one_step_is_no_steps() -> None:
    result = make_result("pgd", {}, [1], method="int")
    assert sentences(to_frame(result))["MNIST Small"][0].startswith("After 1 step of PGD at")


def test_released_and_trained_networks_are_not_averaged() -> None:
    trained = make_result("pgd", {(0.3, 200): range(60)}, [200], method="int", run="seed0")
    texts = sentences(to_frame([pgd("int", 140), trained]))
    assert {label: text[0].partition(" of Int")[0] for label, text in texts.items()} == {
        "MNIST Small": "After 200 steps of PGD at ε = 0.3, 0.70",
        "MNIST Small, from scratch": "After 200 steps of PGD at ε = 0.3, 0.30",
    }


def test_claims_are_listed_with_their_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "table_claims.csv"
    header = "claim,dataset,model,run,verdict,difference,low,high,n\n"
    rows = (
        "Int is robust,mnist,small,released,holds,-0.05,-0.1,0.02,200\n"
        "Int is robust,mnist,small,seed0,not supported,-0.3,-0.4,-0.2,200\n"
        "No mask,mnist,small,released,holds,,,,200\n"
    )
    path.write_text(header + rows, "utf-8")
    assert claim_lines(path) == [
        "MNIST Small: Int is robust: holds (difference -0.05 [-0.10, 0.02], n = 200)",
        "MNIST Small (seed0): Int is robust: not supported "
        "(difference -0.30 [-0.40, -0.20], n = 200)",
        "MNIST Small: No mask: holds",
    ]
    path.write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(IrpipeError, match="not a claims table"):
        claim_lines(path)


def made_project(folder: Path) -> dict[str, Any]:
    """Results, a table, a figure and costs below `folder`; return their config."""
    result = pgd("int", 158)
    write_result(folder / "mnist/small/int/released/pgd.h5", result)
    for part in ("tables", "figures", "benchmarks"):
        (folder / part).mkdir()
    accuracy_table.report([result], folder / "tables/table_3", title="Three <3>", published="3")
    accuracy_curve.report([result], folder / "figures/figure_eps", title="Eps")
    costs = read_job_costs(folder / "benchmarks")
    job_costs.report([costs], folder / "benchmarks/figure_jobs", title="Costs")
    return configs.validate(
        {
            "datasets": {"mnist": {"kind": "mnist"}},
            "attacks": {"pgd": {"kind": "pgd"}},
            "networks": [
                {
                    "dataset": "mnist",
                    "model": "small",
                    "methods": ["int"],
                    "attacks": ["pgd"],
                    "released_files": {"int": "int.pkl"},
                }
            ],
            "tables": {"3": {"kind": "accuracy_table", "title": "Three <3>", "published": "3"}},
            "figures": {"eps": {"kind": "accuracy_curve", "title": "Eps"}},
        }
    )


def test_results_of_another_config_do_not_count(tmp_path: Path) -> None:
    config = made_project(tmp_path)
    write_result(tmp_path / "mnist/small/adv/released/pgd.h5", pgd("adv", 10))
    page = write_page(config, tmp_path, tmp_path / "report.html").read_text("utf-8")
    assert "0.79 of Int&#39;s predictions stay correct" in page
    assert "mnist/small/adv/released/pgd" not in page


def add_adv(config: dict[str, Any], folder: Path, attack: str = "pgd", **attrs: Any) -> None:
    """A result of Adv, and its network in the config."""
    result = make_result("pgd", {}, [200], method="adv", attack=attack, **attrs)
    write_result(folder / f"mnist/small/adv/released/{attack}.h5", result)
    entry = config["networks"][0]
    entry |= {"methods": ["int", "adv"], "attacks": sorted({"pgd", attack})}
    entry["released_files"]["adv"] = "adv.pkl"


def test_sentences_are_never_about_results_that_no_table_would_show_together(
    tmp_path: Path,
) -> None:
    config = made_project(tmp_path)
    add_adv(config, tmp_path, options={"step_size": 0.02})
    with pytest.raises(IrpipeError, match=r"\Apage: .*step_size: 0\.01.* but .*: 0\.02"):
        write_page(config, tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_old_results_that_nothing_shows_do_not_count(tmp_path: Path) -> None:
    config = made_project(tmp_path)
    add_adv(config, tmp_path, "old")
    page = write_page(config, tmp_path, tmp_path / "report.html").read_text("utf-8")
    assert "mnist/small/int/released/pgd" in page
    assert "mnist/small/adv/released/old" not in page


@pytest.mark.parametrize(("adv_correct", "is_there"), [(158, True), (200, False)])
def test_the_note_on_overlapping_intervals_is_where_intervals_overlap(
    adv_correct: int, is_there: bool, tmp_path: Path
) -> None:
    config = made_project(tmp_path)
    add_adv(config, tmp_path)
    write_result(tmp_path / "mnist/small/adv/released/pgd.h5", pgd("adv", adv_correct))
    page = write_page(config, tmp_path, tmp_path / "report.html").read_text("utf-8")
    assert ("Intervals that overlap" in page) == is_there
    assert "95% intervals" in page


def test_the_page_shows_tables_figures_and_sources(tmp_path: Path) -> None:
    config = made_project(tmp_path)
    page = write_page(config, tmp_path, tmp_path / "report.html").read_text("utf-8")
    assert "Three &lt;3&gt;" in page
    assert "<3>" not in page
    assert page.index('id="table-3"') < page.index('id="figure-eps"') < page.index('id="costs"')
    assert "0.790" in page  # the cell of the table
    assert "mnist/small/int/released/pgd" in page
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("file", ["tables/table_3.html", "figures/figure_eps.svg"])
def test_a_missing_file_is_one_line_and_the_old_page_stays(tmp_path: Path, file: str) -> None:
    config = made_project(tmp_path)
    output = tmp_path / "report.html"
    output.write_text("old", "utf-8")
    (tmp_path / file).unlink()
    path = re.escape(str(tmp_path / file))
    with pytest.raises(IrpipeError, match=rf"\A{path}: cannot be read; make it again"):
        write_page(config, tmp_path, output)
    assert output.read_text("utf-8") == "old"
