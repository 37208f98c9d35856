"""Titles are literal text in every format: no mathematics, no wildcards, no templates."""

import json
import subprocess
from pathlib import Path

import pytest
from made_results import make_pgd_pair
from matplotlib import mathtext
from warm_python import programs
from workflow_copy import ROOT

from irpipe.config.kinds import kinds, options_model
from irpipe.reports import accuracy_curve, accuracy_table, job_costs
from irpipe.reports._plotting import plot_style
from irpipe.results.job_costs import read_job_costs

TITLE = r"$\foo$ {x} {{ y }} 100% of <b> & _z_"


def test_a_table_shows_the_title_as_it_is(tmp_path: Path) -> None:
    results = make_pgd_pair("int", range(150), range(140))
    paths = accuracy_table.report(
        results, tmp_path / "table", title=TITLE, attack="pgd", sweep="eps", steps=200
    )
    texts = {path.suffix: path.read_text(encoding="utf-8") for path in paths[2:]}
    assert (
        r"\caption{\$\textbackslash{}foo\$ \{x\} \{\{ y \}\} 100\% of $<$b$>$ \& \_z\_"
        in (texts[".tex"])
    )
    assert r"### \$\\foo\$ {x} {{ y }} 100% of \<b> & \_z\_" in texts[".md"]
    assert r"<h1>$\foo$ {x} {{ y }} 100% of &lt;b&gt; &amp; _z_</h1>" in texts[".html"]


def test_figures_show_the_title_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no figure does matplotlib read mathematics; log axes write plain numbers."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("mathematics in a figure")

    monkeypatch.setattr(mathtext.MathTextParser, "parse", refuse)
    results = make_pgd_pair("int", range(150), range(140))
    curve = accuracy_curve.report(
        results, tmp_path / "curve", title=TITLE, attack="pgd", sweep="eps", steps=200
    )
    costs = job_costs.report([read_job_costs(tmp_path)], tmp_path / "costs", title=TITLE)
    for paths in (curve, costs):
        assert r"<!-- $\foo$ {x} {{ y }} 100% of &lt;b&gt; &amp; _z_ -->" in (
            paths[2].read_text(encoding="utf-8")
        )


def test_every_figure_is_drawn_in_that_style() -> None:
    with plot_style():
        from matplotlib import rcParams

        assert rcParams["text.parse_math"] is False
    for kind in kinds("reports"):
        assert "title" in options_model("reports", kind).model_fields
        source = (ROOT / "src/irpipe/reports" / f"{kind}.py").read_text(encoding="utf-8")
        assert ("save_figure" in source) == ("with plot_style()" in source), kind


def test_the_report_page_takes_no_brace_for_a_wildcard(tmp_path: Path) -> None:
    """A page of a workflow of one rule, whose label is made as ours is."""
    rules = (ROOT / "workflow/rules/common.smk").read_text(encoding="utf-8")
    function = rules[rules.index("def report_label") :].split("\n\n\n")[0]
    config = {"tables": {"t": {"title": TITLE}}}
    lines = [
        f"CONFIG = {config!r}",
        function,
        "rule one:",
        '    output: report("{table}.html", labels=lambda w: report_label("tables", w.table))',
        '    shell: "echo > {output}"',
    ]
    (tmp_path / "Snakefile").write_text("\n".join(lines), encoding="utf-8")
    for options in (["--cores", "1", "t.html"], ["--report", "page.html", "t.html"]):
        command = [programs() / "python", "-m", "snakemake", *options]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8").replace(r"\u2060", "")
    assert json.dumps(TITLE)[1:-1].replace("<b>", "").split(" of ")[0] in page
