"""Tables as files: CSV and Parquet for machines; Markdown, LaTeX and HTML for people.

Equal input gives equal bytes. The files in `templates/` say how a page looks.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from irpipe.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\|*_<$"})
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {character: f"${character}$" for character in "<>|"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"ε": r"$\epsilon$", "\N{SCRIPT SMALL L}": r"$\ell$", "∞": r"$\infty$"}
)
# By suffix: the template, and the function that escapes a value for it.
FORMATS: dict[str, tuple[str, Callable[[str], str]]] = {
    ".md": ("table.md.jinja", lambda text: text.translate(MARKDOWN)),
    ".tex": ("table.tex.jinja", lambda text: text.translate(LATEX)),
    ".html": ("table.html.jinja", html.escape),
}


@dataclass(frozen=True)
class CellText:
    """A cell: text with a mark ("", "*" or "**"), a muted text next to it, a second line below."""

    text: str
    muted: str = ""
    second_line: str = ""
    mark: str = ""


@dataclass(frozen=True)
class SubTable:
    """Rows under one header. Every row has one cell per column."""

    heading: str
    header: Sequence[str]
    rows: Sequence[Sequence[CellText]]


@dataclass(frozen=True)
class TablePage:
    """Subtables between a title and a legend. `is_prose` means that cells hold sentences."""

    title: str
    subtables: Sequence[SubTable]
    legend: str
    is_prose: bool = False


def legend(sentences: Sequence[tuple[str, str]], subtables: Sequence[SubTable]) -> str:
    """The legend of tables, from pairs of a mark and a sentence: those whose mark occurs.

    It has to occur in a cell right of the row's label. The mark "" always occurs.
    """
    cells = [cell for table in subtables for row in table.rows for cell in row[1:]]
    marks = {"", *(cell.mark for cell in cells)}
    text = "\n".join(f"{cell.text} {cell.muted} {cell.second_line}" for cell in cells)
    return " ".join(sentence for mark, sentence in sentences if mark in marks or mark in text)


def write(output: Path, page: TablePage, frame: "pd.DataFrame") -> list[Path]:
    """Write `frame` as .csv and .parquet, `page` as .md, .tex and .html; return the five paths.

    `output` is a path without suffix. Each file is written atomically, and none before all
    contents are complete. The index of `frame` is not written.

    None means that a row has no such number: an empty field in CSV, null in Parquet. NaN in a
    column of dtype object is the mean over no images: "nan" in CSV, null in Parquet. A column
    without any value counts as numbers, so text is "" where there is none.
    `pd.DataFrame(records, dtype=object)` keeps None, NaN, 1 and 1.0 as they are.

    Raises TypeError or ValueError, from pyarrow, if a column holds both text and numbers.
    """
    without_values = [name for name, column in frame.items() if column.isna().all()]
    contents = {
        ".csv": frame.apply(_spell_out_nan).to_csv(index=False, lineterminator="\n").encode(),
        ".parquet": frame.astype(dict.fromkeys(without_values, float)).to_parquet(index=False),
        **{suffix: render(page, suffix).encode() for suffix in FORMATS},
    }
    paths = {suffix: output.with_name(f"{output.name}{suffix}") for suffix in contents}
    for suffix, path in paths.items():
        with atomic_write(path) as temporary:
            temporary.write_bytes(contents[suffix])
    return list(paths.values())


def _spell_out_nan(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Replace NaN by "nan" in a column of objects, because pandas takes it for absent."""
    if column.dtype != object:
        return column
    is_nan = column.map(lambda value: isinstance(value, float) and math.isnan(value)).astype(bool)
    return column.mask(is_nan, "nan")


def html_template(folder: Path, name: str, **options: Any) -> Template:
    """A template of a page below `folder`, with every value escaped for HTML.

    `options` are further ones of Jinja's `Environment`.
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    return environment.get_template(name)


def render(page: TablePage, suffix: str) -> str:
    """Return a page as text in the format of `suffix`: ".md" (GitHub's), ".tex" or ".html"."""
    template, escape = FORMATS[suffix]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        # Every {{ value }} is escaped for its format; autoescape trusts what comes as Markup.
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(escape(str(value))),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(page=page)
