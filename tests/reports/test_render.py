"""Tables as files: the literal text of small pages in every format."""

import csv
import io
import math
from itertools import product
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from irpipe.reports._render import FORMATS, CellText, SubTable, TablePage, render, write

ROW = [CellText("Int"), CellText("0.790", "(0.795)", "[0.73, 0.84]", "*")]
NUMBERS = TablePage("PGD", [SubTable("MNIST", ["Method", "ε = 0.3"], [ROW])], "* by one image.")
VERDICT = [CellText("Pool"), CellText("holds")]
SENTENCES = TablePage("Claims", [SubTable("Int", ["Network", "Verdict"], [VERDICT])], "n.", True)
SPECIAL = r"""\ | * _ < > & % $ # { } ~ ^ " ' ε ℓ ∞ τ"""
ESCAPED = {
    ".md": r"""\\ \| \* \_ \< > & % \$ # { } ~ ^ " ' ε ℓ ∞ τ""",
    ".tex": r"""\textbackslash{} $|$ * \_ $<$ $>$ \& \% \$ \# \{ \} """
    r"""\textasciitilde{} \textasciicircum{} " ' $\epsilon$ $\ell$ $\infty$ τ""",
    ".html": r"""\ | * _ &lt; &gt; &amp; % $ # { } ~ ^ &quot; &#x27; ε ℓ ∞ τ""",
}
FRAME = pd.DataFrame(
    [
        {"eps": "8/255", "n": 200, "low": 0.728354, "spread": None, "undefined": 3},
        {"eps": "0", "n": 0, "low": math.nan, "spread": 0.01, "undefined": 2.5},
        {"eps": "a,b", "n": None, "low": None, "spread": 1e-05, "undefined": None},
    ],
    dtype=object,
)


def page_of(*cells: CellText) -> TablePage:
    return TablePage("T", [SubTable("S", ["h"] * len(cells), [cells])], "L")


def test_markdown_of_numbers_is_centred() -> None:
    assert render(NUMBERS, ".md") == (
        "### PGD\n\n**MNIST**\n\n| Method | ε = 0.3 |\n| :--- | :---: |\n"
        "| Int | 0.790\\* [0.73, 0.84] (0.795) |\n\n\\* by one image.\n"
    )


def test_markdown_of_sentences_is_set_to_the_left() -> None:
    assert render(SENTENCES, ".md") == (
        "### Claims\n\n**Int**\n\n| Network | Verdict |\n| :--- | :--- |\n| Pool | holds |\n\nn.\n"
    )


def test_latex_of_numbers_is_a_table() -> None:
    assert render(NUMBERS, ".tex").splitlines() == [
        r"% needs \usepackage{booktabs,xcolor}",
        r"\begin{table}\centering\footnotesize\setlength{\tabcolsep}{2pt}",
        r"\caption{PGD: MNIST}",
        r"\begin{tabular}{@{}lc@{}}",
        r"\toprule",
        r"Method & $\epsilon$ = 0.3 \\",
        r"\midrule",
        r"Int & \shortstack{0.790$^{*}$ {\scriptsize\color{gray}(0.795)}"
        r"\\{\scriptsize [0.73, 0.84]}} \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip * by one image.",
        r"\end{table}",
    ]


def test_latex_of_sentences_may_be_longer_than_a_page() -> None:
    assert render(SENTENCES, ".tex").splitlines() == [
        r"% needs \usepackage{booktabs,longtable}",
        r"{\footnotesize\setlength{\tabcolsep}{2pt}\begin{longtable}"
        r"{@{}p{0.450\linewidth}p{0.450\linewidth}@{}}",
        r"\caption{Claims: Int}\\",
        r"\toprule",
        r"Network & Verdict \\",
        r"\midrule",
        r"\endhead",
        r"Pool & holds \\",
        r"\bottomrule",
        r"\end{longtable}",
        r"\noindent n.\par}",
    ]


def test_html_shows_marks_as_colours() -> None:
    head, _, rest = render(NUMBERS, ".html").partition("<style>")
    assert head.endswith('initial-scale=1">\n<title>PGD</title>\n')
    assert rest.partition("</style>\n")[2].splitlines() == [
        *("</head>", "<body>", "<h1>PGD</h1>"),
        '<div class="scroll"><table><caption>MNIST</caption>',
        "<thead><tr><th>Method</th><th>ε = 0.3</th></tr></thead>",
        "<tbody>",
        '<tr><td>Int</td><td class="near">0.790<sup>*</sup> <span class="aside">(0.795)</span>'
        "<br><small>[0.73, 0.84]</small></td></tr>",
        "</tbody></table></div>",
        "<p><small>* by one image.</small></p>",
        *("</body>", "</html>"),
    ]
    assert '<td class="far">1<sup>**</sup></td>' in render(
        page_of(CellText("1", mark="**")), ".html"
    )
    assert '<table class="prose"><caption>Int</caption>' in render(SENTENCES, ".html")


@pytest.mark.parametrize("suffix", FORMATS)
def test_text_is_escaped_wherever_it_stands(suffix: str) -> None:
    cell = CellText(SPECIAL, SPECIAL, SPECIAL)
    text = render(TablePage(SPECIAL, [SubTable(SPECIAL, [SPECIAL], [[cell]])], SPECIAL), suffix)
    assert text.count(ESCAPED[suffix]) == (8 if suffix == ".html" else 7)  # HTML has two titles
    assert SPECIAL not in text


@pytest.mark.parametrize("suffix", FORMATS)
def test_text_that_looks_like_a_template_is_not_run(suffix: str) -> None:
    assert "7 + 7" in render(page_of(CellText("{{ 7 + 7 }}{% raise %}{# gone #}")), suffix)


def test_empty_parts_of_a_cell_leave_nothing() -> None:
    page = page_of(CellText(""), CellText("", second_line="b"), CellText("", muted="c"))
    assert "|  | b | c |" in render(page, ".md").splitlines()
    latex = r" & \shortstack{\\{\scriptsize b}} &  {\scriptsize\color{gray}c} \\"
    assert latex in render(page, ".tex").splitlines()


def test_equal_input_gives_five_files_of_equal_bytes(tmp_path: Path) -> None:
    paths = write(tmp_path / "table.1", NUMBERS, FRAME)
    again = write(tmp_path / "again", NUMBERS, FRAME.copy())
    suffixes = [".csv", ".parquet", ".md", ".tex", ".html"]
    assert paths == [tmp_path / f"table.1{suffix}" for suffix in suffixes]
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    assert [path.read_text(encoding="utf-8") for path in paths[2:]] == [
        render(NUMBERS, suffix) for suffix in FORMATS
    ]
    assert len(list(tmp_path.iterdir())) == 10


def test_csv_tells_absent_from_undefined_and_integers_from_floats(tmp_path: Path) -> None:
    assert write(tmp_path / "t", NUMBERS, FRAME)[0].read_bytes().decode() == (
        'eps,n,low,spread,undefined\n8/255,200,0.728354,,3\n0,0,nan,0.01,2.5\n"a,b",,,1e-05,\n'
    )


def test_csv_is_what_the_csv_module_writes(tmp_path: Path) -> None:
    texts = ["", " x", "a,b", 'a"b', "a\nb", "a\rb", "nan", "NA", "None", "1e5", "ε"]
    numbers = [0.1, 1 / 3, 1e-4, 1e-5, 1e15, 1e16, 5e-324, -0.0, math.inf, math.nan, None, 7, -1]
    rows = list(product(texts, numbers, numbers))
    expected = io.StringIO(newline="")
    csv.writer(expected, lineterminator="\n").writerows([("a", "b", "c"), *rows])
    frame = pd.DataFrame(rows, columns=["a", "b", "c"], dtype=object)
    path = write(tmp_path / "t", NUMBERS, frame)[0]
    assert path.read_bytes().decode() == expected.getvalue()


def test_parquet_has_numbers_and_nulls(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "t", NUMBERS, FRAME)[1])
    assert [str(kind) for kind in table.schema.types] == ["string", "int64", *["double"] * 3]
    assert table.to_pydict() == {
        "eps": ["8/255", "0", "a,b"],
        "n": [200, 0, None],
        "low": [0.728354, None, None],
        "spread": [None, 0.01, 1e-05],
        "undefined": [3.0, 2.5, None],
    }


def test_parquet_column_without_any_value_has_numbers(tmp_path: Path) -> None:
    columns = {"none": [None, None], "nan": [math.nan, math.nan], "text": ["", ""]}
    paths = write(tmp_path / "t", NUMBERS, pd.DataFrame(columns, dtype=object))
    assert paths[0].read_text(encoding="utf-8") == "none,nan,text\n,nan,\n,nan,\n"
    assert [str(kind) for kind in pq.read_schema(paths[1]).types] == ["double", "double", "string"]


def test_columns_of_other_dtypes_lack_values_where_pandas_says_so(tmp_path: Path) -> None:
    columns = {"a": pd.array([0.5, None], dtype="Float64"), "b": pd.array([1, None], dtype="Int64")}
    paths = write(tmp_path / "t", NUMBERS, pd.DataFrame(columns | {"c": [math.nan, 1.0]}))
    assert paths[0].read_text(encoding="utf-8") == "a,b,c\n0.5,1,\n,,1.0\n"
    assert [str(kind) for kind in pq.read_schema(paths[1]).types] == ["double", "int64", "double"]


def test_empty_text_among_numbers_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Conversion failed for column x"):
        write(tmp_path / "t", NUMBERS, pd.DataFrame({"x": ["", 0.5]}, dtype=object))
    assert not list(tmp_path.iterdir())
