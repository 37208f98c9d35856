"""What decides a trained network."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingPlan:
    """All that decides a trained network, except the content of the data files.

    `data`, `options` and `recipe` are resolved: they hold every option, defaults included.
    """

    dataset: str
    # `{kind, ...}` of the data set.
    data: dict[str, Any]
    # The architecture.
    model: str
    method: str
    # `{kind, ...}` of the method.
    options: dict[str, Any]
    recipe: dict[str, Any]
    # The network is run `seed<run>` (C.1).
    run: int
    code_hash: str

    @property
    def seed(self) -> int:
        """Seed of the initial weights, of the order of the images and of the noise (C.1)."""
        return int(self.recipe["seed"]) + self.run
