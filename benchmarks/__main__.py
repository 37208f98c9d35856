"""Run the benchmarks, print each row as it comes, and write all of them to docs/.

python -m benchmarks --data FOLDER --released FOLDER [--rounds 3] [--output docs]
"""

import argparse
import platform
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import step_costs
import torch

from benchmarks import certified, kendall, maps, peak, pgd, scaling, training, unforeseen
from benchmarks.common import Comparison, Setup

TABLE_HEAD = [
    "| work | against | irpipe, s | other, s | ratio | equal |",
    "| :--- | :--- | ---: | ---: | ---: | :--- |",
]
PEAK_HEAD = [
    "| network | us per step and image | share |",
    "| :--- | ---: | ---: |",
]
LIBRARIES = ("torch", "torchattacks", "foolbox", "captum", "grad-cam", "scipy")
COMPARING_MODULES = {
    "PGD": pgd,
    "A training step": training,
    "Rank correlation": kendall,
    "Maps": maps,
    "Unforeseen attacks": unforeseen,
    "Attacks that skip certified images": certified,
}


def machine() -> str:
    """Return processor, cores, threads and versions in one line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cores = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    threads = torch.get_num_threads()
    python = f"Python {platform.python_version()}"
    return f"{cores[0]}, {len(cores)} cores, {threads} threads; {python}, {versions}."


def table_row(comparison: Comparison) -> str:
    """Return a comparison as a row of a Markdown table."""
    cells = [
        comparison.work,
        comparison.other,
        f"{comparison.irpipe_seconds:.3g}",
        f"{comparison.other_seconds:.3g}",
        f"{comparison.ratio:.1f}x",
        comparison.equal,
    ]
    return f"| {' | '.join(cells)} |"


def section(title: str, docstring: str | None, body: list[str]) -> list[str]:
    """Return the lines of one section of the page."""
    return [f"## {title}", "", (docstring or "").strip(), "", *body, ""]


def comparison_table(comparisons: Iterable[Comparison]) -> list[str]:
    """Return the lines of a table of comparisons, and print each row as it comes."""
    rows = []
    for comparison in comparisons:
        row = table_row(comparison)
        print(row, flush=True)
        rows.append(row)
    return [*TABLE_HEAD, *rows]


def page(setup: Setup) -> list[str]:
    """Run all benchmarks but the scaling, and return the lines of the page."""
    rounds = f"Timed in turns, rounds: {setup.rounds}; the median of each side and of the ratio."
    lines = ["# How fast", "", machine(), "", rounds, ""]
    for title, module in COMPARING_MODULES.items():
        table = comparison_table(module.comparisons(setup))
        lines += section(title, module.__doc__, table)
    rows = [
        f"| {row.network} | {row.microseconds:.0f} | {row.share:.0%} |"
        for row in peak.peak_shares(setup)
    ]
    lines += section("Share of the machine's peak", peak.__doc__, [*PEAK_HEAD, *rows])
    title = "Operations of a training step on a GPU"
    lines += section(title, step_costs.__doc__, list(step_costs.table()))
    lines += section("Scaling", scaling.__doc__, ["![](figures/scaling.png)"])
    return lines


def main() -> None:
    """Write `benchmarks.md` and its figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--released", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        setup = Setup(args.data, args.released, Path(scratch), args.rounds)
        lines = page(setup)
        scaling.draw(scaling.measure_curves(setup), args.output / "figures" / "scaling.png")
    (args.output / "benchmarks.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
