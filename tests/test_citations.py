"""Every citation of the protocol, the specification or the design has its anchor in docs/."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ("README.md", "CONTRIBUTING.md")
ALL = ("src", "config", "workflow", "docs", "tests", "benchmarks", *PAGES)
NO_TEXT = {".svg", ".png", ".pyc"}  # an SVG path may hold what looks like a label

LABEL = re.compile(r"\b(?:C\.\d(?: [TPI]\d+|-\d+)?|[UDS]\.\d)\b")
# A row without its section, such as T7 in "C.3 T1, T7". Each letter belongs to one section.
BARE_ROW = re.compile(r"(?<![\w.-])(?<!C\.\d )[TPI]\d{1,2}\b(?![\w./])")
ROW_SECTION = {"T": "C.3", "P": "C.4", "I": "C.5"}
ANCHOR = re.compile(r'<a id="([^"]+)"></a>\**(C\.\d(?: [TPI]\d+|-\d+)?|[UDS]\.\d)\b')
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SERIES = {"C.3 T": 18, "C.4 P": 9, "C.5 I": 15, "C.5-": 7, "C.6-": 6, "D.": 9, "S.": 9}
FORBIDDEN = {  # pattern, where it is forbidden
    "cluster notes": (r"\bcluster\.md", ALL),
    "design or glossary outside docs": (
        r"(?<!docs/)\b(?:design|glossary)\.md",
        tuple(name for name in ALL if name != "docs"),
    ),
    "specification by number": (r"\b[Ss]pecification \d", ALL),
    "shared folder": (r"\.\./shared", ("src", "config", "workflow", "docs")),
}


def files(*names: str) -> Iterator[Path]:
    """Text files at or below these paths of the repository; skips hidden and generated folders."""
    for name in names:
        if (ROOT / name).is_file():
            yield ROOT / name
        for folder, subfolders, found in os.walk(ROOT / name):
            subfolders[:] = [sub for sub in subfolders if not sub.startswith((".", "__"))]
            yield from (Path(folder, file) for file in found if Path(file).suffix not in NO_TEXT)


def anchor_of(label: str) -> str:
    """The anchor of a label: "C.4 P7" has c4-p7, "C.5-3" has c5-3, "U.2" has u2."""
    return label.lower().replace(".", "").replace(" ", "-")


def labels_in(text: str) -> set[str]:
    """All labels that a text cites, bare rows with the section they belong to."""
    rows = {f"{ROW_SECTION[row[0]]} {row}" for row in BARE_ROW.findall(text)}
    return rows | set(LABEL.findall(text))


def anchors() -> dict[str, str]:
    """Label: anchor, for each label that docs/ defines."""
    pairs = [
        pair
        for path in DOCS.glob("*.md")
        for pair in ANCHOR.findall(path.read_text(encoding="utf-8"))
    ]
    assert len({anchor for anchor, _ in pairs}) == len(pairs), "an anchor is defined twice"
    return {label: anchor for anchor, label in pairs}


def relative_links(path: Path) -> Iterator[str]:
    """Targets of the relative links of a Markdown file, except in code."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", path.read_text(encoding="utf-8")))
    yield from (target for target in LINK.findall(text) if not re.match(r"\w+:", target))


def fragments(path: Path) -> set[str]:
    """What may follow # in a link to a Markdown file: its anchors, its headings as on GitHub."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"<[^>]*>", "", text), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def test_every_label_has_an_anchor_named_after_it() -> None:
    labels = {f"{start}{n}" for start, last in SERIES.items() for n in range(1, last + 1)}
    labels |= {f"C.{n}" for n in range(8)} | {f"U.{n}" for n in range(6)}
    assert anchors() == {label: anchor_of(label) for label in labels}


def test_labels_are_found_and_a_wrong_one_does_not_resolve() -> None:
    wrong = f"C.{3} T{99}"  # not written out, because this file is searched too
    found = labels_in(f"# C.4 P7: {wrong}, T7 and T1; C.5-3, (U.2); ITU-T T.81, P100")
    assert found == {"C.4 P7", wrong, "C.3 T7", "C.3 T1", "C.5-3", "U.2"}
    assert wrong not in anchors()


def test_every_citation_resolves() -> None:
    cited = {path: labels_in(path.read_text(encoding="utf-8")) for path in files(*ALL)}
    in_package = {path for path, labels in cited.items() if labels and ROOT / "src" in path.parents}
    assert len(in_package) > 10, "the search finds almost no citation"
    known = anchors().keys()
    unknown = {str(path): labels - known for path, labels in cited.items() if labels - known}
    assert unknown == {}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_cites_documents_that_are_not_here(what: str) -> None:
    pattern, names = FORBIDDEN[what]
    assert [
        path for path in files(*names) if re.search(pattern, path.read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize("name", [*PAGES, "docs", "config"])
def test_relative_links_resolve(name: str) -> None:
    for path in (path for path in files(name) if path.suffix == ".md"):
        for target in relative_links(path):
            file, _, fragment = target.partition("#")
            destination = (path.parent / file).resolve() if file else path
            assert destination.exists(), f"{path}: {target}"
            assert not fragment or fragment in fragments(destination), f"{path}: {target}"
