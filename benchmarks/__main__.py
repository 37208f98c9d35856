"""Run the benchmarks; print each line as it comes, and write them with the machine and the versions to docs/.

python -m benchmarks --data FOLDER --released FOLDER [--rounds 3] [--output docs]
"""

import argparse
import platform
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks import kendall, maps, peak, pgd, scaling, training, unforeseen
from benchmarks.common import Line, Setup

HEAD = "| work | against | irpipe, s | other, s | ratio | equal |\n| :--- | :--- | ---: | ---: | ---: | :--- |"
LIBRARIES = ("torch", "torchattacks", "foolbox", "captum", "grad-cam", "scipy")


def machine() -> str:
    """Processor, cores, threads and versions in one line."""
    rows = Path("/proc/cpuinfo").read_text().splitlines()
    models = [row.split(":")[1].strip() for row in rows if row.startswith("model name")]
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    threads, python = torch.get_num_threads(), platform.python_version()
    return f"{models[0]}, {len(models)} cores, {threads} threads; Python {python}, {versions}."


def shown(found: Line) -> str:
    """A line as a row of a Markdown table."""
    seconds = f"{found.ours:.3g} | {found.theirs:.3g}"
    return f"| {found.work} | {found.other} | {seconds} | {found.ratio:.1f}x | {found.equal} |"


def table(title: str, text: str, found: Iterable[Line]) -> list[str]:
    """A section of the page; its lines are printed as they come."""
    rows = []
    for one in found:
        rows.append(shown(one))
        print(rows[-1], flush=True)
    return [f"## {title}", "", text, "", HEAD, *rows, ""]


def main() -> None:
    """Run all and write `benchmarks.md` and its figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--released", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        setup = Setup(options.data, options.released, Path(scratch), options.rounds)
        page = [
            "# How fast",
            "",
            machine(),
            "",
            f"Timed in turns, rounds: {options.rounds}; the median of each side and of the ratio.",
            "",
        ]
        for title, module in {
            "PGD": pgd, "A training step": training, "Rank correlation": kendall, "Maps": maps,
            "Unforeseen attacks": unforeseen,
        }.items():  # fmt: skip
            page += table(title, (module.__doc__ or "").strip(), module.lines(setup))
        page += ["## Share of the machine's peak", "", (peak.__doc__ or "").strip(), ""]
        page += ["| network | us a step and image | share |", "| :--- | ---: | ---: |"]
        page += [f"| {name} | {spent:.0f} | {share:.0%} |" for name, spent, share in peak.shares(setup)]
        page += ["", "## Scaling", "", (scaling.__doc__ or "").strip(), "", "![](figures/scaling.png)", ""]
        scaling.draw(scaling.curves(setup), options.output / "figures" / "scaling.png")
    (options.output / "benchmarks.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
