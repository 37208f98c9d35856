"""A folder is text: Snakemake and YAML read 2024_01 as the number 202401, which is another one."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from warm_python import programs
from workflow_copy import CONFIG, ROOT

from irpipe import config as configs
from irpipe.errors import IrpipeError

FOLDERS = ["2024_01", "007", "1e3", "true", "+5", "0x10", "2024-01-02", "1:30", "~", "a=b", "ε"]


def dry_run(folder: Path, argument: str) -> str:
    """What snakemake says on standard error for `--config released=ARGUMENT`."""
    entry = CONFIG["networks"][0] | {"released_files": {"int": "net.pkl"}}
    config = yaml.safe_dump(CONFIG | {"networks": [entry]})
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    command = [str(programs() / "python"), "-m", "snakemake", "--dry-run", "--cores", "1"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
    command += ["--config", f"released={argument}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert run.returncode == 2
    return run.stderr


@pytest.mark.parametrize("name", ["2024_01", "007", "true"])
def test_snakemake_takes_a_folder_as_it_is_written(name: str, tmp_path: Path) -> None:
    message = f"irpipe: error: {tmp_path / name}/net.pkl: no such file; the config wants it"
    assert message in dry_run(tmp_path, name)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_config_says_which_folder_must_stand_in_quotes(name: str) -> None:
    """A name that YAML reads as text is kept; another is refused with the remedy."""
    value: Any = yaml.safe_load(name)
    for key in ("data", "released"):
        assert configs.validate(CONFIG | {key: name})[key] == name
        if isinstance(value, int | float):
            with pytest.raises(IrpipeError, match=rf"config\.{key}: .*folder's name in quotes"):
                configs.validate(CONFIG | {key: value})
        elif value is not None and value != name:
            with pytest.raises(IrpipeError, match=rf"config\.{key}: "):
                configs.validate(CONFIG | {key: value})
