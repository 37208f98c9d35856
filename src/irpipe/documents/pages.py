"""Pages from templates: a number that no result gives reads "not run"."""

import functools
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from irpipe.analysis.claims import CLAIMS
from irpipe.config import CONFIG_FOLDER
from irpipe.config.yaml_reader import read_yaml
from irpipe.documents.numbers import Name, Number, Numbers, format_list
from irpipe.documents.verdicts import claim_attacks
from irpipe.published import (
    CLASS_SETS,
    INTERPRETERS,
    METHODS,
    NORMS,
    PublishedKey,
    Table1Key,
    published_table,
    published_table1,
)

PAGES = ("reproduction", "verdict", "benchmarks", "benchmarks_gpu")
NOT_RUN = "not run"
HEAD = (
    "<!-- Generated from templates/{name}.md.jinja and result files by `make docs`: "
    "do not edit. -->\n\n"
)


class UsedNumbers:
    """What a template asks for; `used` has the numbers that it was given."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self.used: dict[Name, Number] = {}

    def number(self, *name: object) -> str:
        """The text of a number, or "not run". A part of its name may be a list of parts."""
        parts = [part if isinstance(part, list) else [part] for part in name]
        key = tuple(map(str, itertools.chain(*parts)))
        if key not in self.numbers:
            return NOT_RUN
        self.used[key] = self.numbers[key]
        return self.numbers[key].text

    def rows(self, *prefix: str) -> list[str]:
        """The next parts of all names that begin with `prefix`, in their order."""
        n = len(prefix)
        return list(dict.fromkeys(name[n] for name in self.numbers if name[:n] == prefix))

    def table(self, measurement: str) -> str:
        """The Markdown table of a measurement, or "not run"."""
        prefix = ("measured", measurement)
        rows = self.rows(*prefix)
        if not rows:
            return f"*{NOT_RUN.capitalize()}.*"
        columns = self.rows(*prefix, rows[0])
        lines = [columns, ["---"] * len(columns)]
        lines += [[self.number(*prefix, row, column) for column in columns] for row in rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def machines(self, measurements: Iterable[str]) -> str:
        """A Markdown list of the machines, several with the names of what was measured on each."""
        names: dict[str, list[str]] = {}
        for name in measurements:
            names.setdefault(self.number("machine", name), []).append(f"`{name}`")
        names.pop(NOT_RUN, None)
        if len(names) == 1:
            return f"- {next(iter(names))}"
        lines = [f"- {', '.join(on_it)}: {machine}" for machine, on_it in names.items()]
        return "\n".join(lines) or f"- {NOT_RUN}"

    def figure(self, name: str, caption: str) -> str:
        """The Markdown of a figure, or "not run" and its caption."""
        if self.number("figure", name) == NOT_RUN:
            return f"*{caption}: {NOT_RUN}.*"
        return f"![{caption}](figures/{name}.png)"


def render(name: str, numbers: Numbers, folder: Path) -> str:
    """The page of the template `name` in `folder`/templates, with the list of its numbers."""
    environment = Environment(
        loader=FileSystemLoader(folder / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    used = UsedNumbers(numbers)
    source = (folder / "templates" / f"{name}.md.jinja").read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        n=used.number,
        rows=used.rows,
        table=used.table,
        machines=functools.partial(used.machines, re.findall(r'table\("(\w+)"\)', source)),
        has_network=_has_network,
        figure=used.figure,
        claims=CLAIMS,
        n_attacks=len(claim_attacks()),
        methods=METHODS,
        interpreters=INTERPRETERS,
        norms=NORMS,
        class_sets=CLASS_SETS,
        published=_published,
        published_scores=_published_scores,
    )
    return f"{HEAD.format(name=name)}{text}\n{format_list(used.used)}"


def _has_network(network: str, method: str | None) -> bool:
    """Whether there is a network of this `dataset/model/run`: trained, or released by the authors.

    No method stands for any.
    """
    dataset, model, run = network.split("/")
    return run != "released" or method is None or method in _released()[dataset, model]


@functools.cache
def _released() -> dict[tuple[str, str], set[str]]:
    """The methods of which the authors released a network, by data set and model."""
    methods: dict[tuple[str, str], set[str]] = {}
    for entry in read_yaml(CONFIG_FOLDER / "released.yaml")["networks"]:
        methods.setdefault((entry["dataset"], entry["model"]), set()).update(entry["methods"])
    return methods


def _published(
    table: str, dataset: str, model: str, method: str, attack: str, eps: float | None, steps: int
) -> str:
    """A cell of a published table with accuracies or rank correlations; "–" if it is not there."""
    value = published_table(table).get(PublishedKey(dataset, model, method, attack, steps, eps))
    return f"{value.value:.3f}" if value else "–"


def _published_scores(network: str, interpreter: str, norm: str, class_set: str) -> str:
    """NDS/NSL of a cell of Table 1; "–" if it is not there. `network` is `dataset/model/method`."""
    dataset, model, method, *_ = network.split("/")
    key = Table1Key(dataset, model, method, interpreter, norm, class_set)
    value = published_table1().get(key)
    return f"{value.nds:.3f}/{value.nsl:.4f}" if value else "–"
