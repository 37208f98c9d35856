"""The report page as a person meets it: opened in a browser, by clicks, on a screen and on a phone."""

import base64
from pathlib import Path

import pytest
from chromium import Page
from project import ROOT, Project

SHOWN = {  # category, subcategory, what the list says: file
    ("Beyond the paper", "Tables", "Steps"): "results/tables/table_steps.html",
    ("Beyond the paper", "Figures", "Radius"): "results/figures/figure_radius.png",
    ("What it cost", "", "Seconds and memory of every job"): "results/benchmarks/figure_jobs.png",
}
CLICK = """
(async () => {{
  const found = [...document.querySelectorAll("{selector}")].filter(one => one.innerText.includes("{text}"));
  found.at(-1).{action};
  await new Promise(done => setTimeout(done, 300));
}})()
"""
BOX = "one => (({x, y, width, height}) => [x, y, width, height])(one.getBoundingClientRect())"
RIGHT = "one => one.getBoundingClientRect().right"


@pytest.fixture(scope="module")
def report(built: Path) -> Path:
    project = Project(built)
    page = ["--report", "results/report.html", "--report-stylesheet", "workflow/report/page.css"]  # as `make report`
    assert " ".join(page) in (ROOT / "Makefile").read_text()
    for options in ([], page):
        run = project.snakemake("benchmarks", *options)
        assert run.returncode == 0, run.stderr
    return built / "results/report.html"


def test_every_table_and_figure_is_there(report: Path, tmp_path: Path) -> None:
    with Page(tmp_path, 1280, 900) as page:
        page.open(report)
        for (category, subcategory, shown), file in SHOWN.items():
            page.run("app.setView({navbarMode: 'menu'})")
            for text in filter(None, (category, subcategory)):
                page.run(CLICK.format(selector="nav a", text=text, action="click()"))
            page.run(CLICK.format(selector="nav tr", text=shown, action="querySelectorAll('a')[0].click()"))
            source = page.run("document.querySelector('#app img:not(nav img), #app iframe').src")
            assert base64.b64decode(source.split(",")[1]) == (report.parents[1] / file).read_bytes()
            if file.endswith("png"):
                assert page.run("document.querySelector('#app img:not(nav img)').naturalWidth") > 300
            page.run(CLICK.format(selector="nav tr", text=shown, action="querySelectorAll('a')[1].click()"))
            caption = page.run("document.querySelector('nav').innerText")
            assert ("Attacked by: pgd" in caption and "digits small" in caption) or "Each point is a job" in caption
        assert len(page.run("Object.keys(results)")) == len(SHOWN)
        assert page.errors == []


def test_fits_a_phone(report: Path, tmp_path: Path) -> None:
    """Whatever is shown: nothing of the list beyond the edge, and below it most of the screen for the content."""
    with Page(tmp_path, 390, 844) as page:
        page.open(report)
        for category, subcategory, shown in SHOWN:
            page.run("app.setView({navbarMode: 'menu'})")
            for text in filter(None, (category, subcategory)):
                page.run(CLICK.format(selector="nav a", text=text, action="click()"))
            page.run(CLICK.format(selector="nav tr", text=shown, action="querySelectorAll('a')[0].click()"))
            assert page.run(f"Math.max(...[...document.querySelectorAll('nav *')].map({RIGHT}))") <= 390
            left, top, width, height = page.run(f"({BOX})(document.querySelector('#app > div > div:last-child'))")
            assert (left, width, top + height) == (0, 390, 844)
            assert height > 844 / 2
            left, _, width, _ = page.run(f"({BOX})(document.querySelector('#app img:not(nav img), #app iframe'))")
            assert left >= 0
            assert 300 < width <= 390 - left
        assert page.errors == []
