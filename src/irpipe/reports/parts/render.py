"""Tables as files: CSV for machines; Markdown, LaTeX and HTML for people. Equal input gives equal bytes."""

import csv
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from irpipe.io import replacing

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 76rem; padding: 0 1rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .3rem .7rem; text-align: center; white-space: nowrap; vertical-align: top }
th:first-child, td:first-child { text-align: left }
.prose th, .prose td { text-align: left; white-space: normal; min-width: 7rem }
thead th { border-top: 2px solid; border-bottom: 1px solid }
tbody { border-bottom: 2px solid }
small, .aside { opacity: .65 }
.near { background: rgba(230, 159, 0, .18) }
.far { background: rgba(213, 94, 0, .35) }
"""
TINT = {"": "", "*": ' class="near"', "**": ' class="far"'}
TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {character: f"${character}$" for character in "<>|"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"ε": r"$\epsilon$", "\N{SCRIPT SMALL L}": r"$\ell$", "∞": r"$\infty$"}
)


@dataclass(frozen=True)
class Entry:
    """One entry of a table: the text, what stands muted beside and below it, and a mark ("", "*" or "**")."""

    text: str
    aside: str = ""
    below: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Block:
    """Rows under one header; every row has one entry per column."""

    heading: str
    header: Sequence[str]
    rows: Sequence[Sequence[Entry]]


@dataclass(frozen=True)
class Page:
    """A table for people: blocks under a title, a legend line below. `prose`: its entries are sentences."""

    title: str
    blocks: Sequence[Block]
    legend: str
    prose: bool = False


def write(output: Path, page: Page, records: Sequence[dict[str, object]]) -> list[Path]:
    """Write `records` as `output`.csv and `page` as .md, .tex and .html, each atomically; return the paths.

    All records have the keys of the first, in its order; there is at least one.
    """
    paths = [output.with_name(f"{output.name}{suffix}") for suffix in (".csv", ".md", ".tex", ".html")]
    with replacing(paths[0]) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(records[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(records)
    writers: list[Callable[[Page], str]] = [markdown, _latex, _html]
    for path, writer in zip(paths[1:], writers, strict=True):
        with replacing(path) as beside:
            beside.write_text(writer(page), encoding="utf-8")
    return paths


def markdown(page: Page) -> str:
    """A page as GitHub's Markdown."""

    def escape(text: str) -> str:
        for character in "\\|*_<":
            text = text.replace(character, f"\\{character}")
        return text

    def show(entry: Entry) -> str:
        return " ".join(filter(None, [escape(entry.text + entry.mark), escape(entry.below), escape(entry.aside)]))

    lines = [f"### {escape(page.title)}", ""]
    for block in page.blocks:
        rule = [":---", *([":---" if page.prose else ":---:"] * (len(block.header) - 1))]
        table = [
            [escape(text) for text in block.header],
            rule,
            *([show(entry) for entry in row] for row in block.rows),
        ]
        lines += [f"**{escape(block.heading)}**", "", *(f"| {' | '.join(row)} |" for row in table), ""]
    return "\n".join([*lines, escape(page.legend), ""])


def _latex(page: Page) -> str:
    def escape(text: str) -> str:
        return text.translate(TEX)

    def show(entry: Entry) -> str:
        mark = f"$^{{{entry.mark}}}$" if entry.mark else ""
        aside = rf" {{\scriptsize\color{{gray}}{escape(entry.aside)}}}" if entry.aside else ""
        line = f"{escape(entry.text)}{mark}{aside}"
        return rf"\shortstack{{{line}\\{{\scriptsize {escape(entry.below)}}}}}" if entry.below else line

    lines = [rf"% needs \usepackage{{booktabs,{'longtable' if page.prose else 'xcolor'}}}"]
    for block in page.blocks:
        share = 0.9 / len(block.header)
        columns = [rf"p{{{share:.3f}\linewidth}}" if page.prose else "c"] * len(block.header)
        columns[0] = columns[0].replace("c", "l")
        layout, style = f"{{@{{}}{''.join(columns)}@{{}}}}", r"\footnotesize\setlength{\tabcolsep}{2pt}"
        caption, legend = rf"\caption{{{escape(page.title)}: {escape(block.heading)}}}", escape(page.legend)
        head = [r"\toprule", " & ".join(escape(text) for text in block.header) + r" \\", r"\midrule"]
        rows = [" & ".join(show(entry) for entry in row) + r" \\" for row in block.rows]
        if page.prose:  # may be longer than a page
            lines += [rf"{{{style}\begin{{longtable}}{layout}", rf"{caption}\\", *head, r"\endhead", *rows]
            lines += [r"\bottomrule", r"\end{longtable}", rf"\noindent {legend}\par}}"]
        else:
            lines += [rf"\begin{{table}}\centering{style}", caption, rf"\begin{{tabular}}{layout}", *head, *rows]
            lines += [r"\bottomrule", r"\end{tabular}", rf"\par\smallskip {legend}", r"\end{table}"]
    return "\n".join([*lines, ""])


def _html(page: Page) -> str:
    def show(entry: Entry) -> str:
        mark = f"<sup>{entry.mark}</sup>" if entry.mark else ""
        aside = f' <span class="aside">{html.escape(entry.aside)}</span>' if entry.aside else ""
        below = f"<br><small>{html.escape(entry.below)}</small>" if entry.below else ""
        return f"<td{TINT[entry.mark]}>{html.escape(entry.text)}{mark}{aside}{below}</td>"

    title, kind = html.escape(page.title), ' class="prose"' if page.prose else ""
    lines = ['<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">']
    lines += ['<meta name="viewport" content="width=device-width, initial-scale=1">']
    lines += [f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>"]
    for block in page.blocks:
        head = "".join(f"<th>{html.escape(text)}</th>" for text in block.header)
        lines += [f'<div class="scroll"><table{kind}><caption>{html.escape(block.heading)}</caption>']
        lines += [f"<thead><tr>{head}</tr></thead>\n<tbody>"]
        lines += [f"<tr>{''.join(show(entry) for entry in row)}</tr>" for row in block.rows]
        lines += ["</tbody></table></div>"]
    return "\n".join([*lines, f"<p><small>{html.escape(page.legend)}</small></p>", "</body>\n</html>", ""])
