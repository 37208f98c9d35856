"""Import torch in less time."""

import gc
import sys


def import_torch() -> None:
    """Import torch, and exempt all objects from garbage collection, since they are here to stay.

    The collector would search them while torch is imported, and again when the process ends. That
    takes a fifth of the time of a command that computes little.
    """
    if "torch" not in sys.modules:
        gc.disable()
        try:
            import torch  # noqa: F401

            gc.freeze()
        finally:
            gc.enable()
