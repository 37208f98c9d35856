"""Code that lies beside a config: what a config may name, what counts, what is refused."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from irpipe import config as configs
from irpipe.code_hash import code_hash, of_model, of_proofs, of_training
from irpipe.config.kinds import resolve_entry
from irpipe.datasets import facts
from irpipe.errors import IrpipeError
from irpipe.networks.architectures import build
from irpipe.outside_code import import_file, import_kind, outside_file
from irpipe.results.data_record import files_sha256, read_data_record

ATTACK = '''
"""An attack."""
from helper import N
from tools import parts

def attack(batch, *, eps: EpsList, steps: Count = 3, mode: Literal["a", "b"] = "a"):
    """Yield nothing."""
    yield from ()
'''
HOSTILE_ATTACKS = {
    "no function": ("def other(): pass", "no function 'attack'"),
    "not Python": ("def attack(", "not a readable Python file"),
    "zero byte": ("\0", "not a readable Python file"),
    "deep": ("(" * 5000, "not a readable Python file"),
    "type of a thousand parts": (
        f"def attack(batch, *, n: {'|'.join(['int'] * 1000)}): pass",
        "option 'n' has a type of too many parts",
    ),
    "default is no value": (
        "def attack(batch, *, n: dict = {[]: 1}): pass",
        "option 'n' has a default that is no plain value",
    ),
    "type runs code": (
        "def attack(batch, *, n: __import__('os').mkdir('canary')): pass",
        "option 'n' has type",
    ),
    "type calls": ("def attack(batch, *, n: int('3')): pass", "option 'n' has type"),
    "type is huge": ("def attack(batch, *, n: Literal[9**9**9]): pass", "option 'n' has type"),
    "default runs code": (
        "import os\ndef attack(batch, *, n: int = os.mkdir('canary')): pass",
        "option 'n' has a default that is no plain value",
    ),
    "no type": ("def attack(batch, *, n=3): pass", "option 'n' has no type"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a config, with an attack and the modules that it imports."""
    files = {
        "mine/attack.py": ATTACK,
        "mine/helper.py": "N = 1  # so many\n",
        "mine/tools/__init__.py": "",
        "mine/tools/parts.py": "from . import more\n",
        "mine/tools/more.py": "M = 1\n",
        "mine/unused.py": "U = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRPIPE_CODE", "project")
    return tmp_path / "project"


def refused(message: str) -> pytest.RaisesExc[IrpipeError]:
    """Expect one line that matches `message`."""
    return pytest.raises(IrpipeError, match=rf"\A[^\n]*{message}[^\n]*\Z")


def test_options_are_read_and_checked_as_ever(folder: Path) -> None:
    entry = {"kind": "./mine/attack.py", "eps": "8/255", "mode": "b"}
    resolved = resolve_entry("attacks", entry, "here")
    assert resolved["eps"] == [8 / 255]
    assert (resolved["steps"], resolved["mode"], resolved["images"]) == (3, "b", 200)
    with refused("here.step: no option 'step'; .* did you mean 'steps'"):
        resolve_entry("attacks", entry | {"step": 4}, "here")
    with refused("here.mode: input should be 'a' or 'b'"):
        resolve_entry("attacks", entry | {"mode": "c"}, "here")


@pytest.mark.parametrize(
    ("name", "old", "new", "counts"),
    [
        ("helper.py", "N = 1", "N = 2", True),
        ("helper.py", "# so many", "# more", False),
        ("tools/more.py", "M = 1", "M = 2", True),  # a relative import of an import
        ("tools/__init__.py", "", "X = 1", True),
        ("unused.py", "U = 1", "U = 2", False),
        ("attack.py", "An attack.", "The attack.", False),
        ("attack.py", "Count = 3", "Count = 4", True),
    ],
)
def test_what_a_file_imports_from_its_own_folder_counts(
    name: str, old: str, new: str, counts: bool, folder: Path
) -> None:
    before = code_hash("./mine/attack.py")
    moved = folder.parent / "moved"
    folder.rename(moved)
    os.environ["IRPIPE_CODE"] = str(moved)
    assert code_hash("./mine/attack.py") == before
    path = moved / "mine" / name
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    another = folder.parent / "another"  # another path, because hashes are remembered
    moved.rename(another)
    os.environ["IRPIPE_CODE"] = str(another)
    assert (code_hash("./mine/attack.py") != before) == counts


@pytest.mark.parametrize(
    "of_output", [partial(of_training, "digits", "trades"), of_proofs, of_model]
)
def test_a_model_counts_for_what_is_made_with_it(
    of_output: Callable[[str], str], folder: Path
) -> None:
    assert of_output("./mine/helper.py") != of_output("./mine/unused.py")
    assert of_output("pool") == of_output("small")


@pytest.mark.parametrize("name", HOSTILE_ATTACKS)
def test_a_hostile_file_is_one_line_and_runs_nothing(name: str, folder: Path) -> None:
    text, message = HOSTILE_ATTACKS[name]
    (folder / "bad.py").write_text(text, encoding="utf-8")
    with refused(rf"here\.kind: .*project/bad\.py: .*{message}"):
        resolve_entry("attacks", {"kind": "./bad.py"}, "here")
    assert not Path("canary").exists()


@pytest.mark.parametrize("n_operands", [1000, 10_000])
def test_an_expression_of_too_many_operands_is_one_line(n_operands: int, folder: Path) -> None:
    (folder / "long.py").write_text("+".join("1" * n_operands), encoding="utf-8")
    with refused(r"project/long\.py: an expression has too many operands .*; divide it"):
        code_hash("./long.py")


@pytest.mark.parametrize(
    "files",
    [
        "names()",
        "3",
        "{'train': ('a')}",
        "{'train': ('/a',)}",
        "{'train': ('a/../../b',)}",
        "{[]: 1}",
    ],
)
def test_files_of_a_data_set_must_be_tuples_of_relative_paths(files: str, folder: Path) -> None:
    (folder / "data.py").write_text(f"FILES = {files}", encoding="utf-8")
    with refused(r"project/data\.py: FILES has no plain tuples of paths below .*, such as .*"):
        files_sha256({"kind": "./data.py"}, folder, "train")


@pytest.mark.parametrize(
    "name", ["./../outside.py", "./mine/../../outside.py", "./link.py", "./folder/outside.py"]
)
def test_a_path_may_not_leave_the_folder_of_the_config(name: str, folder: Path) -> None:
    (folder.parent / "outside.py").write_text(ATTACK, encoding="utf-8")
    (folder / "link.py").symlink_to(folder.parent / "outside.py")
    (folder / "folder").symlink_to(folder.parent)
    with refused("leads out of .*/project, the folder of the config"):
        resolve_entry("attacks", {"kind": name}, "here")


@pytest.mark.parametrize("name", ["./nothing.py", "./mine", "./a\0b.py", f"./{'x' * 5000}.py"])
def test_a_file_that_is_not_there_is_one_line(name: str, folder: Path) -> None:
    with pytest.raises(IrpipeError, match=r"\Ahere\.kind: [^\n]*\Z"):
        resolve_entry("attacks", {"kind": name}, "here")


def test_a_module_that_python_has_already_is_refused(folder: Path) -> None:
    (folder / "mine" / "json.py").write_text("X = 1\n", encoding="utf-8")
    (folder / "mine" / "clash.py").write_text("import json\n", encoding="utf-8")
    with refused("imports json, which is .* here and not json.py beside it; rename that file"):
        import_file(folder / "mine" / "clash.py")


def test_an_error_in_a_file_is_one_line(folder: Path) -> None:
    (folder / "fails.py").write_text("def load(): pass\n1 / 0\n", encoding="utf-8")
    with refused(r"fails\.py: cannot be imported \(ZeroDivisionError: division by zero\)"):
        import_kind("datasets", "./fails.py")
    assert outside_file("./fails.py") == Path("project/fails.py")


MODELS = """
def build(shape, classes):
    return {body}
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1 / 0", r"build fails \(ZeroDivisionError: division by zero\)"),
        ("3", "build gave a int; expected an irpipe Network"),
    ],
)
def test_a_model_that_is_no_network_is_one_line(body: str, message: str, folder: Path) -> None:
    (folder / "model.py").write_text(MODELS.format(body=body), encoding="utf-8")
    with refused(rf"\./model\.py: {message}"):
        build("./model.py", (1, 28, 28), 10)


INVERTED = """
from irpipe.networks.network import Network
from torch import nn

class Inverted(Network):
    def forward(self, images):
        return super().forward(1 - images)

def build(shape, classes):
    return Inverted(nn.Identity(), None, shape[0], classes)
"""


def test_a_model_whose_logits_are_not_those_of_its_maps_is_refused(folder: Path) -> None:
    """Attacks would follow the maps, and miss what the network does with the images first."""
    (folder / "model.py").write_text(INVERTED, encoding="utf-8")
    with refused(r"\./model\.py: build gave a Network with its own forward, which attacks would"):
        build("./model.py", (1, 28, 28), 10)


def networks(**entry: Any) -> dict[str, Any]:
    """A config with one `networks` entry that trains nothing."""
    own = {"dataset": "digits", "model": "own", "methods": ["mine"], "attacks": ["pgd"]}
    return {
        "datasets": {"digits": {"kind": "digits"}},
        "attacks": {"pgd": {"kind": "pgd"}},
        "networks": [own | entry],
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"checkpoints": {"mine": "net.pt2"}}, "expected a file beside the config"),
        ({"checkpoints": {"mine": "./net.onnx"}}, r"expected \./NET\.safetensors, \./NET\.pt2 or"),
        ({"checkpoints": {"mine": "./mine/helper.py"}}, "expected .*FILE.py:function"),
        ({"checkpoints": {"mine": "./../a.py:f"}}, "leads out of"),
        ({"checkpoints": {"other": "./mine/helper.py:f"}}, "checkpoints: no method 'other'"),
        ({"released_files": {"mine": "a.pkl"}}, "model: own is for checkpoints"),
        ({"model": "./mine/helper.py"}, "makes no network; add a recipe, released_files or"),
        (
            {"model": "./mine/helper.py", "checkpoints": {"mine": "./mine/helper.py:f"}},
            r"model: .*helper\.py: no function 'build'",
        ),
        ({"model": "smal"}, "model: neither small, pool, wresnet, own nor a file"),
    ],
)
def test_wrong_networks_are_named(entry: dict[str, Any], message: str, folder: Path) -> None:
    with refused(rf"config\.networks\.0.*{message}"):
        configs.validate(networks(**entry))


def test_a_data_set_of_a_file_and_the_folder_of_the_config(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--config` says where the code lies, and the next command has forgotten it."""
    monkeypatch.delenv("IRPIPE_CODE")
    digits = "from irpipe.datasets.digits import *\nfrom irpipe.datasets import digits\n"
    digits += "def load(root, split, download=False): return digits.load(root, split)\n"
    (folder / "data.py").write_text(digits, encoding="utf-8")
    entry = "mine={kind: ./data.py}"
    config = folder / "config.yaml"
    config.write_text("{}", encoding="utf-8")
    assert run("data", "--config", config, "--dataset", entry, "--output", "a.json") == 0
    assert run("data", "--dataset", entry, "--output", "b.json") == 2
    monkeypatch.setenv("IRPIPE_CODE", str(folder))
    assert facts({"kind": "./data.py"}).shape == (1, 28, 28)


def test_a_record_that_is_nested_too_deep_is_one_line(tmp_path: Path) -> None:
    record = tmp_path / "train.json"
    record.write_text("[" * 10_000, encoding="utf-8")
    with refused("train.json: not a readable record of a data set; make it again"):
        read_data_record(record)
