"""Both report pages as a person meets them: in a browser, on a screen and on a phone."""

import base64
from pathlib import Path

import pytest
from chromium import Chromium, Page
from made_once import made_once
from workflow_copy import ROOT, Project

# Category, subcategory and label in the list: the file.
ENTRIES = {
    ("Beyond the paper", "Tables", "Steps"): "results/tables/table_steps.html",
    ("Beyond the paper", "Figures", "Eps"): "results/figures/figure_eps.png",
    ("What it cost", "", "Seconds and memory of every job"): "results/benchmarks/figure_jobs.png",
}
# `make snakemake-report` makes the page with these options.
PAGE_OPTIONS = [
    "--report",
    "results/snakemake.html",
    "--report-stylesheet",
    "workflow/report/page.css",
]
# Waits until React has drawn, all transitions have ended and all images are decoded.
DRAWN = """
  for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
  await Promise.allSettled(document.getAnimations().map(animation => animation.finished));
  await Promise.allSettled([...document.images].map(image => image.decode()));
"""
CLICK = """
  const all = [...document.querySelectorAll("{selector}")];
  all.filter(element => element.innerText.includes("{text}")).at(-1).{action};
"""
IMAGE = "document.querySelector('#app img:not(nav img)')"
CONTENT = "document.querySelector('#app img:not(nav img), #app iframe')"
PANEL = "document.querySelector('#app > div > div:last-child')"
LIST_RIGHT_EDGE = """
Math.max(...[...document.querySelectorAll('nav *')].map(
  element => element.getBoundingClientRect().right))
"""


def box(element: str) -> str:
    """JavaScript for the left, top, width and height of an element, in pixels."""
    return (
        f"(({{x, y, width, height}}) => [x, y, width, height])({element}.getBoundingClientRect())"
    )


def act(page: Page, script: str) -> None:
    """Run JavaScript that changes the page, and wait until the page shows it."""
    page.run(f"(async () => {{{script}{DRAWN}}})()")


def click(page: Page, selector: str, text: str, action: str = "click()") -> None:
    """Click the last element that matches the selector and has the text."""
    act(page, CLICK.format(selector=selector, text=text, action=action))


def click_entry(page: Page, label: str, index: int) -> None:
    """Click a link of an entry of the list: 0 shows the file, 1 its caption."""
    click(page, "nav tr", label, f"querySelectorAll('a')[{index}].click()")


def open_list(page: Page, category: str, subcategory: str) -> None:
    act(page, "app.setView({navbarMode: 'menu'});")
    for text in filter(None, (category, subcategory)):
        click(page, "nav a", text)


# Of the page that irpipe makes: pixels of each picture, rows of each table, by the section's name.
PICTURES = """
Object.fromEntries([...document.querySelectorAll('section img')].map(
  image => [image.closest('section').id, image.naturalWidth]))
"""
TABLE_ROWS = """
Object.fromEntries([...document.querySelectorAll('section table')].map(
  table => [table.closest('section').id, table.tBodies[0].rows.length]))
"""


@pytest.fixture(scope="module")
def our_page(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        project = Project(built).copy(folder / "irpipe")
        done = project.make("page", "--logger", "irpipe")
        assert done.stderr.splitlines()[-1] == "[2/2] page"
        assert done.stdout.endswith("All of them on one page: results/report.html\n")

    return made_once(tmp_path_factory, "page", make) / "irpipe/results/report.html"


@pytest.mark.parametrize("width", [1200, 390])
def test_our_page_shows_all_at_any_width(our_page: Path, chromium: Chromium, width: int) -> None:
    with chromium.page(width, 900) as page:
        page.open(our_page)
        pictures = page.run(PICTURES)
        assert pictures.keys() == {"figure-eps"}
        assert pictures["figure-eps"] > 300
        assert page.run(TABLE_ROWS) == {"table-steps": 3}
        assert "2 steps of PGD at ε = 0.2" in page.run("document.body.innerText")
        assert page.run("document.documentElement.scrollWidth") <= width
        anchors = page.run("[...document.querySelectorAll('nav a')].map(a => a.hash.slice(1))")
        assert all(page.run(f"!!document.getElementById('{anchor}')") for anchor in anchors)
        assert page.errors == []


@pytest.fixture(scope="module")
def report(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert " ".join(PAGE_OPTIONS) in (ROOT / "Makefile").read_text(encoding="utf-8")

    def make(folder: Path) -> None:
        project = Project(built).copy(folder / "irpipe")
        project.make("job_costs")
        project.make("job_costs", *PAGE_OPTIONS)

    return made_once(tmp_path_factory, "report", make) / "irpipe/results/snakemake.html"


def test_every_table_and_figure_is_there(report: Path, chromium: Chromium) -> None:
    with chromium.page(1280, 900) as page:
        page.open(report)
        for (category, subcategory, label), file in ENTRIES.items():
            open_list(page, category, subcategory)
            click_entry(page, label, 0)
            content = base64.b64decode(page.run(f"{CONTENT}.src").split(",")[1])
            assert content == (report.parents[1] / file).read_bytes()
            if file.endswith("png"):
                assert page.run(f"{IMAGE}.naturalWidth") > 300
            click_entry(page, label, 1)
            caption = page.run("document.querySelector('nav').innerText")
            if category == "What it cost":
                assert "Each point is a job" in caption
            else:
                assert "Attacked by: pgd" in caption
                assert "digits small" in caption
        assert len(page.run("Object.keys(results)")) == len(ENTRIES)
        assert page.errors == []


def test_the_page_fits_a_phone(report: Path, chromium: Chromium) -> None:
    """The list stays within the screen, and the content below it gets most of the screen."""
    with chromium.page(390, 844) as page:
        page.open(report)
        for category, subcategory, label in ENTRIES:
            open_list(page, category, subcategory)
            click_entry(page, label, 0)
            assert page.run(LIST_RIGHT_EDGE) <= 390
            left, top, width, height = page.run(box(PANEL))
            assert (left, width, top + height) == (0, 390, 844)
            assert height > 844 / 2
            left, _, width, _ = page.run(box(CONTENT))
            assert left >= 0
            assert 300 < width <= 390 - left
        assert page.errors == []
