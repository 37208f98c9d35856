"""The file of what bounds certify: whose proofs count, and that it costs no result."""

from pathlib import Path

import pytest

from irpipe.cli._stress_proofs import Certified, kept_proofs

NETWORK = {"network_sha256": "a", "code_hash": "b"}


def prove(path: Path, identity: dict[str, str], *images: int) -> Certified:
    """What is known of a network before these images are certified at eps 0.1."""
    with kept_proofs(path, identity) as certified:
        known = certified.copy()
        certified.update({(image, 0.1): True for image in images})
    return known


def test_proofs_of_another_identity_count_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "proofs.json"
    prove(path, NETWORK, 3)
    assert prove(path, NETWORK) == {(3, 0.1): True}
    assert prove(path, NETWORK | {"code_hash": "c"}) == {}
    assert prove(path, NETWORK) == {(3, 0.1): True}


def test_two_commands_at_once_keep_the_proofs_of_both(tmp_path: Path) -> None:
    path = tmp_path / "proofs.json"
    with kept_proofs(path, NETWORK) as certified:
        certified[1, 0.1] = False
        prove(path, NETWORK, 2)
    assert prove(path, NETWORK) == {(1, 0.1): False, (2, 0.1): True}


@pytest.mark.parametrize("key", [(1, 0.1), ("1", 0.1), 3])
def test_a_file_that_cannot_be_written_costs_no_result(
    key: tuple[int, float], tmp_path: Path
) -> None:
    """Nor does it replace Ctrl-C."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "proofs.json"
    with kept_proofs(path, NETWORK) as certified:
        certified[2, 0.1] = certified[key] = True
    with pytest.raises(KeyboardInterrupt), kept_proofs(path, NETWORK) as certified:
        certified[2, 0.1] = certified[key] = True
        raise KeyboardInterrupt
