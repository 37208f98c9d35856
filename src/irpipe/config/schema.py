"""Pydantic models of a recipe, of a `networks` entry and of a config."""

from typing import Annotated, Any

from pydantic import Field

from irpipe.config.kinds import StrictModel
from irpipe.option_types import (
    Bool,
    Count,
    Eps,
    Folder,
    Model,
    Positive,
    RelativePath,
    Schedule,
    Seed,
)

SeedCount = Annotated[Seed, Field(le=1000)]  # each seed is a file


class Recipe(StrictModel):
    """How a network is trained (C.2). Schedules are points [step, value], linear in between."""

    batch_size: Count
    epochs: Count
    # Learning rate.
    lr: Schedule
    # Share of eps.
    eps_schedule: Schedule
    # Of the inner maximisation.
    inner_steps: Count
    inner_step_size: Positive
    # None means the data set's eps of training.
    eps: Eps | None = None
    # Run seed<k> trains with seed + k (C.1).
    seed: Seed = 99


class Networks(StrictModel):
    """Networks of one data set and model: their methods, their number and their attacks."""

    dataset: str
    # The architecture.
    model: Model
    methods: list[str] = Field(min_length=1)
    attacks: list[str] = Field(min_length=1)
    recipe: str | None = None
    # Networks trained per method: runs seed0, seed1, ... None means the config's number.
    seeds: SeedCount | None = None
    # Method: file in the folder of released networks.
    released_files: dict[str, RelativePath] = {}
    # Method: network that was made elsewhere, a file or FILE.py:function next to the config.
    checkpoints: dict[str, str] = {}


class Config(StrictModel):
    """A config, as it is written."""

    # Folder of the data sets. None means the environment's IRPIPE_DATA, else `data`.
    data: Folder | None = None
    # Folder of the released networks. None means IRPIPE_RELEASED, else `released`.
    released: Folder | None = None
    # Whether missing data may be fetched.
    download: Bool = False
    # Networks trained per method.
    seeds: SeedCount = 1
    # The networks to make, such as "mnist/small/int,adv" (`config.only`). None means all.
    only: str | None = None
    datasets: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]] = {}
    recipes: dict[str, Recipe] = {}
    attacks: dict[str, dict[str, Any]]
    networks: list[Networks] = Field(min_length=1)
    tables: dict[str, dict[str, Any]] = {}
    figures: dict[str, dict[str, Any]] = {}
