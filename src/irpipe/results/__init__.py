"""Results: files that describe themselves, how to select and verify them, and their numbers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irpipe.results.frame import to_frame

__all__ = ["to_frame"]


def __getattr__(name: str) -> Any:
    """Import `to_frame` when it is first asked for: every command imports this package."""
    if name != "to_frame":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from irpipe.results.frame import to_frame

    return to_frame
