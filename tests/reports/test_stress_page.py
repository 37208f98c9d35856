"""The page of `irpipe stress` in a browser, and its verdict, which follows from the numbers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chromium import Chromium, Page
from command_line import run, write_fitted_network
from made_results import EPS, make_map_result, make_proofs, make_result

from irpipe.analysis.gradient_masking import FLAG_NAMES
from irpipe.reports.stress_page import StressRun, write_page
from irpipe.reports.stress_page.figures import published_curves
from irpipe.reports.stress_page.numbers import stress_numbers
from irpipe.reports.stress_page.verdict import Verdict, make_verdict
from irpipe.results import to_frame
from irpipe.results.result import Result, read_result
from irpipe.results.stress_record import Attempt

OPTIONS = "images: 20, eps: [0, 0.02, 0.2]"
ATTACKS = [
    f"pgd={{kind: pgd, steps: [1, 3], {OPTIONS}}}",
    f"margin_pgd={{kind: margin_pgd, steps: [1, 5], {OPTIONS}}}",
    f"aai={{kind: aai, steps: 5, hinge_weight: 1, {OPTIONS}}}",
    f"broken={{kind: transfer, surrogates: [{'results/' * 9}{'x' * 60}], {OPTIONS}}}",
]
TABLES = ["attacks", "accuracies", "signs", "tau", "network", "sources"]
PLOTS = ["accuracy", "accuracy_maps", "tau"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `irpipe stress` writes; the last attack fails, for a reason too long for a phone."""
    folder = tmp_path_factory.mktemp("stress")
    checkpoint = write_fitted_network(folder / "net.safetensors")
    network = ("--checkpoint", checkpoint, "--device", "cpu")
    assert run("stress", *network, "--output", folder / "out", "--attacks", *ATTACKS) == 2
    return folder / "out"


def texts(page: Page, selector: str) -> list[str]:
    """The text of each element, its spaces made plain."""
    script = f"[...document.querySelectorAll('{selector}')].map(e => e.textContent)"
    return [" ".join(text.split()) for text in page.run(script)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_there(scheme: str, folder: Path, chromium: Chromium) -> None:
    with chromium.page(1200, 900) as page:
        page.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        page.open(folder / "report.html")
        for name in TABLES:
            assert len(texts(page, f"#table-{name} tbody tr")) >= 1
        for name in PLOTS:
            size = page.run(f"document.querySelector('#plot-{name} svg').clientHeight")
            assert size > 300
            # The plot's letters and lines have the page's colour.
            labels = f"document.querySelector('#plot-{name} svg text')"
            colour = page.run(f"getComputedStyle({labels}).fill")
            assert colour == page.run("getComputedStyle(document.body).color")
        widths = "[...document.images].map(image => image.naturalWidth)"
        assert page.run(widths) == [112] * 30  # 3 images, clean and attacked, with 4 maps each
        background = page.run("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") is (scheme == "light")
        (row,) = (row for row in texts(page, "#table-attacks tbody tr") if "broken" in row)
        assert "failed: results/results/" in row
        assert "Attacks that failed: broken." in " ".join(texts(page, ".verdict p"))
        assert page.errors == []


def test_the_page_fits_a_phone(folder: Path, chromium: Chromium) -> None:
    with chromium.page(390, 844) as page:
        page.open(folder / "report.html")
        assert page.run("document.documentElement.scrollWidth") == 390
        right_edges = "[...document.body.querySelectorAll('*')].map("
        right_edges += "element => element.getBoundingClientRect().right)"
        assert max(page.run(right_edges)) <= 390
        assert page.errors == []


def test_the_page_shows_the_numbers_of_its_files(folder: Path, chromium: Chromium) -> None:
    names = ["pgd", "margin_pgd", "aai"]
    results = [read_result(folder / f"{name}.h5") for name in names]
    correct = [result.arrays["correct"][:, 2].all(axis=1) for result in results]
    left = np.logical_and.reduce(correct).mean()
    with chromium.page(1200, 900) as page:
        page.open(folder / "report.html")
        assert f"{left:.1%}" in texts(page, ".tile b")
        # Two layers of stride 2 make 7 of 28 pixels.
        assert any("A map has 7 × 7 entries" in text for text in texts(page, "p"))
        for result, row in zip(results, texts(page, "#table-sources tbody tr"), strict=False):
            assert result.sha256[:16] in row
        for name, row in zip(names, texts(page, "#table-accuracies tbody tr"), strict=True):
            accuracies = read_result(folder / f"{name}.h5").arrays["correct"][:, :, -1].mean(axis=0)
            assert [f"{value:.1%} [" in row for value in accuracies] == [True] * 3
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["accuracy_under_all_attacks"]["value"] == left
    assert summary["model_card"]["eps"] == "0.2"
    assert (
        summary["model_card"]["clean_acc"]
        == f"{100 * results[0].arrays['correct'][:, 0].mean():.2f}"
    )
    assert "autoattack_acc" not in summary["model_card"]
    assert summary["attacks"]["broken"]["state"] == "failed"
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "results.parquet"), to_frame(results))


# --- the verdict, from results made by hand


def verdict(*results: Result, attempts: tuple[Attempt, ...] = ()) -> Verdict:
    return make_verdict("mine", stress_numbers(results), attempts)


def with_correct(n_clean: int, n_left: int) -> Result:
    """PGD leaves `n_left` of 200 images correct at eps 0.3, and `n_clean` are without it."""
    correct = {(eps, 200): range(n_clean if eps < 0.3 else n_left) for eps in EPS}
    return make_result("pgd", correct, [200])


@pytest.mark.parametrize(
    ("n_clean", "n_left", "tone", "headline"),
    [
        (200, 190, "good", "mine keeps nearly all of its accuracy at ε = 0.3."),
        (200, 179, "good", "mine keeps most of its accuracy at ε = 0.3."),
        (200, 99, "mixed", "mine loses most of its accuracy at ε = 0.3."),
        # Wilson's interval of 28/200 begins below 0.1, that of 29/200 above.
        (
            200,
            28,
            "bad",
            "mine is not robust at ε = 0.3: what is left may be guessing.",
        ),
        (200, 29, "mixed", "mine loses most of its accuracy at ε = 0.3."),
        (200, 0, "bad", "mine is not robust at ε = 0.3: no image is left."),
        (20, 20, "unknown", "mine has nothing to lose: clean, it may be guessing."),
    ],
)
def test_the_headline_follows_from_the_accuracies(
    n_clean: int, n_left: int, tone: str, headline: str
) -> None:
    assert verdict(with_correct(n_clean, n_left))[:2] == (tone, headline)


def test_a_few_images_decide_nothing() -> None:
    """Wilson's interval of 1/2 is [0.095, 0.905], of 1/4 [0.046, 0.699], of 1/9 [0.020, 0.435]."""
    for n, headline in {
        2: "With 2 images, it is open whether mine is robust at ε = 0.3.",
        4: "With 4 images, it is open whether mine is robust at ε = 0.3.",
        9: "mine is not robust at ε = 0.3: what is left may be guessing.",
    }.items():
        result = make_result("pgd", {(0.3, 200): range(1)}, [200], n=n)
        assert verdict(result).headline == headline


@pytest.mark.parametrize(
    ("n", "headline"),
    [
        (2, "With 2 images, it is open how much mine keeps at ε = 0.3."),
        (29, "With 29 images, it is open how much mine keeps at ε = 0.3."),
        (30, "mine keeps nearly all of its accuracy at ε = 0.3."),
    ],
)
def test_few_images_that_are_all_left_decide_nothing_either(n: int, headline: str) -> None:
    """Wilson's interval of 2/2 begins at 0.34."""
    assert verdict(make_result("pgd", {}, [200], n=n)).headline == headline


def test_the_verdict_is_on_all_attacks_together() -> None:
    """PGD leaves images 0 to 99, the other attack 50 to 199."""
    other = make_result("margin_pgd", {(0.3, 100): range(50, 200)}, [1, 100])
    sentences = " ".join(verdict(with_correct(200, 100), other).sentences)
    assert "100.0% [98.1%, 100.0%] when clean, and 25.0% [19.5%, 31.4%] under all 2" in sentences
    assert "The strongest single attack, pgd, leaves 50.0%." in sentences


def test_attacks_that_leave_the_same_are_all_named() -> None:
    others = [
        make_result("margin_pgd", {(0.3, 100): range(100)}, [1, 100], attack=name)
        for name in ("first", "second")
    ]
    sentences = " ".join(verdict(with_correct(200, 100), *others).sentences)
    assert "The strongest single attacks, pgd, first and second, each leave 50.0%." in sentences
    sentences = " ".join(verdict(with_correct(200, 100), others[0]).sentences)
    assert "The strongest single attacks, pgd and first, each leave 50.0%." in sentences


def test_masking_is_in_the_verdict() -> None:
    masked = make_result("margin_pgd", {(0.3, 1): range(100)}, [1, 100])
    found = verdict(masked)
    assert found.tone == "mixed"
    assert found.headline.startswith("Do not trust the accuracy of mine at ε = 0.3 yet")
    sentence = f"4 of {len(FLAG_NAMES)} signs of masking were looked for: masking is suspected ("
    assert any(text.startswith(sentence) for text in found.sentences)
    clear = verdict(make_result("pgd", {}, [200]))
    sentence = f"1 of {len(FLAG_NAMES)} signs of masking were looked for: none was found."
    assert sentence in clear.sentences


def test_tau_has_its_n_and_counts_lost_images_as_0() -> None:
    """The prediction of 150 of 200 images is kept, each with tau 0.8."""
    result = make_map_result("int", 0.8, range(150), range(200), hinge_weight=1)
    text = "0.800 with the prediction kept, n = 150; 0.600 with lost images counted as 0."
    assert any(sentence.endswith(text) for sentence in verdict(result).sentences)


@pytest.mark.parametrize(
    ("n_certified", "n_left", "last"),
    [
        (39, 40, "An attack shows what can be broken; a stronger one may break more."),
        (40, 40, "No attack can break more: each image that is left has a proof."),
        (0, 0, "Attacks that failed: pgd."),
    ],
)
def test_the_verdict_says_whether_a_stronger_attack_may_break_more(
    n_certified: int, n_left: int, last: str
) -> None:
    attack = make_result("margin_pgd", {(0.3, 100): range(n_left)}, [1, 100])
    proofs = make_proofs({0.3: (n_certified, n_left)})
    failed = Attempt("pgd", "pgd", "failed", reason="no memory")
    sentences = verdict(attack, proofs, attempts=(failed,)).sentences
    assert sentences[-1] == last
    assert (n_certified == n_left) == ("With them, less might be left." not in " ".join(sentences))


def test_what_bounds_certify_has_a_proof() -> None:
    attack = make_result("margin_pgd", {(0.3, 100): range(40)}, [1, 100])
    attack.arrays["is_certified"] = attack.arrays["correct"].copy()
    assert verdict(attack).sentences[-1].startswith("No attack can break more")


def test_without_results_there_is_a_page(tmp_path: Path) -> None:
    attempt = Attempt("pgd", "pgd", "failed", reason="no <memory>")
    paths = write_page(tmp_path, StressRun("mine", "a:b", [], None, [attempt]))
    assert [path.name for path in paths] == ["report.html", "summary.json"]
    text = paths[0].read_text(encoding="utf-8")
    assert "failed: no &lt;memory&gt;" in text
    assert "No attack has measured an accuracy." in text


def test_published_curves_are_of_the_papers_attack_and_data_only() -> None:
    """Table 3 prints 0.790 for Int on MNIST Small at eps 0.3 and 200 steps."""
    data = {"data": {"kind": "mnist"}}
    result = make_result("pgd", {}, [200], checkpoint_metadata=data, model="own")
    curves = {
        curve.label: dict(point[:2] for point in curve.points) for curve in published_curves(result)
    }
    assert len(curves) == 8
    assert curves["Int"][0.3] == 0.79
    assert sorted(curves["Int"]) == EPS
    for kind, attrs in (
        ("margin_pgd", {}),
        ("pgd", {"checkpoint_metadata": {"data": {"kind": "digits"}}}),
        ("pgd", {"options": result.attrs["options"] | {"random_start": True}}),
    ):
        other = make_result(kind, {}, [200], **({"checkpoint_metadata": data} | attrs))
        assert published_curves(other) == []
