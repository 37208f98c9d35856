"""The page that `irpipe stress` ends in: one HTML file, its numbers as JSON and as tables.

The page needs no network and no script. Its plots are inline SVG and its pictures data URIs.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from irpipe.files import atomic_write
from irpipe.reports._render import html_template
from irpipe.reports.stress_page import tables
from irpipe.reports.stress_page.against import (
    OtherNetwork,
    PairedTest,
    difference_sentence,
    paired_tests,
)
from irpipe.reports.stress_page.figures import make_plots
from irpipe.reports.stress_page.maps import map_examples
from irpipe.reports.stress_page.numbers import StressNumbers, is_bounded, stress_numbers
from irpipe.reports.stress_page.summary import summary_json
from irpipe.reports.stress_page.tiles import make_tiles
from irpipe.reports.stress_page.verdict import make_verdict, masking_sentence
from irpipe.results import to_frame
from irpipe.results.labels import NORM_SYMBOLS, eps_label, eps_norm
from irpipe.results.result import Result
from irpipe.results.stress_record import Attempt

PAGE_NAME = "report.html"


@dataclass(frozen=True)
class StressRun:
    """What a page is made of: the results of attacks on one network, and how each attack ended.

    `results` are in the order of the attacks, as read from their files. `maps` is the result of
    `pgd_maps`; None means that the network has no maps. `source` is the argument that named the
    network. `has_images` says that the adversarial images are saved next to the page.
    `others` are networks to compare it with.
    """

    name: str
    source: str
    results: Sequence[Result]
    maps: Result | None
    attempts: Sequence[Attempt]
    has_images: bool = False
    others: Sequence[OtherNetwork] = ()


def write_page(folder: Path, run: StressRun) -> list[Path]:
    """Write report.html, summary.json, results.csv and results.parquet; return their paths."""
    numbers = stress_numbers(run.results)
    tests = paired_tests(numbers, run.others) if numbers else []
    contents = {
        PAGE_NAME: _render(folder, run, numbers, tests).encode(),
        "summary.json": summary_json(run.name, run.results, numbers, run.attempts, tests).encode(),
    }
    if run.results:
        others = [result for other in run.others for result in other.results]
        frame = to_frame([*run.results, *others])
        contents["results.csv"] = frame.to_csv(index=False, lineterminator="\n").encode()
        contents["results.parquet"] = frame.to_parquet(index=False)
    for name, content in contents.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
    return [folder / name for name in contents]


def _unbroken(value: object) -> object:
    """A text whose equations are not broken across lines; anything else as it is."""
    return (
        value.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
        if type(value) is str
        else value
    )


def _further_sentences(run: StressRun, tests: Sequence[PairedTest]) -> list[str]:
    """What the verdict says of other networks, and of what is odd about this one."""
    sentences = [difference_sentence(run.name, tests, other.name) for other in run.others]
    if run.results:
        notes = run.results[0].attrs["checkpoint_metadata"].get("notes", ())
        sentences += [f"Of the network: {note}." for note in notes]
    return sentences


def _rescore_command(folder: Path, source: str, result: Result) -> str:
    """The command that scores saved images again, from where the stress test was started."""
    images = str(folder / "images" / "ATTACK.npz")
    command = ["irpipe", "rescore", images, "--checkpoint", source]
    if not source.endswith(".safetensors"):
        attrs = result.attrs
        data = json.dumps(attrs["checkpoint_metadata"]["data"])
        command += ["--dataset", f"{attrs['dataset']}={data}"]
    return shlex.join(command)


def _render(
    folder: Path, run: StressRun, numbers: StressNumbers | None, tests: Sequence[PairedTest]
) -> str:
    page_tables = {"attacks": tables.attacks_table(run.results, run.attempts, numbers)}
    plots = []
    if numbers:
        bounded = [
            result
            for result in run.results
            if is_bounded(result) and eps_norm(result) == numbers.norm
        ]
        plots = make_plots(bounded, numbers, run.others)
        page_tables["accuracies"] = tables.eps_table(bounded)
        page_tables["signs"] = tables.signs_table(numbers)
        tau = tables.tau_table(bounded, numbers)
        if tau:
            page_tables["tau"] = tau
    if numbers and tests:
        page_tables["paired"] = tables.paired_table(tests, numbers)
    sources = [*run.results, *([run.maps] if run.maps else [])]
    if sources:
        page_tables["network"] = tables.network_table(sources[0], run.source)
        page_tables["sources"] = tables.sources_table(sources)
    templates = Path(__file__).with_name("templates")
    return html_template(templates, "report.html.jinja", finalize=_unbroken).render(
        run=run,
        dataset=sources[0].attrs["dataset"] if sources else "",
        verdict=make_verdict(run.name, numbers, run.attempts, _further_sentences(run, tests)),
        tiles=make_tiles(numbers) if numbers else [],
        masking=masking_sentence(numbers) if numbers else "",
        plots=plots,
        tables=page_tables,
        examples=map_examples(run.maps) if run.maps else [],
        norm=NORM_SYMBOLS[numbers.norm] if numbers else "",
        rescore=_rescore_command(folder, run.source, sources[0]) if sources else "",
        map_size=" × ".join(map(str, run.maps.arrays["cam"].shape[-2:])) if run.maps else "",
        maps_eps=eps_label(run.maps.attrs["options"]["pgd_eps"]) if run.maps else "",
    )
