"""The page of a workflow: its tables and figures in the paper's order, read from top to bottom.

The page is one HTML file that needs no network and no script.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from irpipe import config as configs
from irpipe.config import captions
from irpipe.config.kinds import attacks_of
from irpipe.errors import IrpipeError
from irpipe.files import atomic_write
from irpipe.reports._render import html_template
from irpipe.reports.paper_page.summary import claim_lines, sentences
from irpipe.results import to_frame
from irpipe.results.result import read_result
from irpipe.results.select import refuse_mixed

if TYPE_CHECKING:
    import pandas as pd

TABLE_BODY = re.compile(r"<body>\n<h1>.*?</h1>\n(.*)</body>", re.DOTALL)
# The paper's tables and figures, as they follow each other there.
PAPER_ORDER = (
    *("figure 1", "figure 2", "table 1", "table 2", "figure 3", "table 3", "table 4", "table 5"),
    *("table A1", "table A2", "table A3", "table A4", "table A5"),
)
# What of a result says where its numbers come from.
SOURCE_COLUMNS = ["dataset", "model", "method", "run", "attack"]
HASH_COLUMNS = ["network_sha256", "data_sha256", "code_hash"]


@dataclass(frozen=True)
class Entry:
    """A table or figure of the page: `anchor` names it in links, `content` is its HTML."""

    anchor: str
    title: str
    caption: captions.Caption
    content: Markup


def write_page(config: dict[str, Any], folder: Path, output: Path) -> Path:
    """Write the page of a checked config to `output`, from the results below `folder`.

    Raises IrpipeError if a table or figure of the config is missing, or if results do not belong
    together (`refuse_mixed`).
    """
    parts: dict[str, list[Entry]] = {part: [] for part in captions.PARTS}
    for section, name in sorted(_names(config), key=_order):
        parts[captions.part(name)].append(_entry(config, section, name, folder))
    texts: dict[str, list[str]] = {}
    sources: list[Any] = []
    if results := _results(config, folder):
        frame = _frame(results)
        texts = sentences(frame)
        sources = frame[SOURCE_COLUMNS + HASH_COLUMNS].drop_duplicates().to_dict("records")
    template = html_template(Path(__file__).with_name("templates"), "page.html.jinja")
    html = template.render(
        parts={part: entries for part, entries in parts.items() if entries},
        sentences=texts,
        claims=[
            line
            for name, entry in config["tables"].items()
            if entry["kind"] == "claims_table"
            for line in claim_lines(folder / "tables" / f"table_{name}.csv")
        ],
        costs=_picture(folder / "benchmarks" / "figure_jobs.svg", "What the jobs cost"),
        sources=sources,
    )
    with atomic_write(output) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return output


def _results(config: dict[str, Any], folder: Path) -> list[Path]:
    """The result files that are there of what tables and figures show.

    `folder` may have those of other configs, too, and old ones that nothing shows any more.
    """
    shown = {
        attack for section, name in _names(config) for attack in attacks_of(config[section][name])
    }
    paths = [
        folder.joinpath(*run, f"{attack}.h5")
        for entry in config["networks"]
        for run in configs.runs(entry)
        for attack in entry["attacks"]
        if attack in shown
    ]
    return [path for path in paths if path.is_file()]


def _frame(paths: Iterable[Path]) -> "pd.DataFrame":
    """The frame of all results. Raises IrpipeError if they may not share a table."""
    import pandas as pd

    frames, without_arrays = [], []
    for path in paths:
        result = read_result(path)
        frames.append(to_frame(result))
        without_arrays.append(replace(result, arrays={}))  # all arrays may not fit into memory
    refuse_mixed(without_arrays, "page")
    return pd.concat(frames, ignore_index=True)


def _names(config: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Section and name of all figures and tables, in the config's order."""
    return ((section, name) for section in ("figures", "tables") for name in config[section])


def _order(entry: tuple[str, str]) -> int:
    """Sort key: the paper's order. What the paper does not have follows, as the config has it."""
    section, name = entry
    number, *_ = name.split("_")
    label = f"{section.removesuffix('s')} {number}"
    return PAPER_ORDER.index(label) if label in PAPER_ORDER else len(PAPER_ORDER)


def _entry(config: dict[str, Any], section: str, name: str, folder: Path) -> Entry:
    noun = section.removesuffix("s")
    stem = folder / section / f"{noun}_{name}"
    title = str(config[section][name]["title"])
    if section == "figures":
        content = _picture(stem.with_name(f"{stem.name}.svg"), title)
    else:
        content = _table(stem.with_name(f"{stem.name}.html"))
    return Entry(f"{noun}-{name}", title, captions.caption(config, section, name), content)


def _table(path: Path) -> Markup:
    """What a table's own page shows below its title."""
    found = TABLE_BODY.search(_read(path))
    if not found:
        raise IrpipeError(f"{path}: not a table of this version of irpipe; make it again")
    return Markup(found.group(1))


def _picture(path: Path, title: str) -> Markup:
    """An SVG file as an image that lies in the page, called `title` where it cannot be seen."""
    data = base64.b64encode(_read(path).encode()).decode()
    return Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(title, data)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IrpipeError(f"{path}: cannot be read; make it again with snakemake") from error
