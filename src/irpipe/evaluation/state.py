"""Where an interrupted evaluation keeps what it has done.

As in training (D.7), this is a folder outside the outputs, named by the fingerprint of all that
decides the result. There is no lock: two processes that make one result only lose time, because
they write the same files, each at once.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any


class EvaluationState:
    """The folder of one evaluation below `root`, in which attacks keep what they have done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder: Path | None = None

    def folder_for(self, attrs: dict[str, Any]) -> Path:
        """Return the folder of the evaluation that `result_attributes` describes.

        It may not exist.
        """
        identity = json.dumps(attrs, sort_keys=True).encode()
        self.folder = self.root / hashlib.sha256(identity).hexdigest()[:16]
        return self.folder

    def remove(self) -> None:
        """Remove the folder, because the result is written."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
