"""The four states of an image. Reports read them, so this imports no torch."""

from enum import IntEnum


class Status(IntEnum):
    """What is known of an image. Results store the number; 0 is for eps = 0."""

    CERTIFIED = 1
    UNDECIDED = 2
    BROKEN = 3
    MISCLASSIFIED = 4
