"""Table 5 as the released code scores it, and the names of its columns (C.6-3)."""

import numpy as np

from irpipe.published.table5 import TITLES, column, is_published_setting
from irpipe.results.result import Result


def attack_title(result: Result) -> str:
    """The title of Table 5 if the attack is the table's, else the attack's name in the config."""
    options = result.attrs["options"]
    if is_published_setting(options):
        return TITLES[column(options)]
    return str(result.attrs["attack"])


def score_as_released(result: Result) -> Result:
    """A copy of the result, with `correct` as the released code has it.

    It predicts class 0 for an image whose iterate is NaN (U.3).
    """
    is_class_0 = (result.arrays["label"] == 0)[:, None, None]
    correct = np.where(result.arrays["nan"], is_class_0, result.arrays["correct"])
    return Result(result.attrs, result.arrays | {"correct": correct})
