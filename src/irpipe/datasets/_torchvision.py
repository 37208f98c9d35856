"""torchvision, which may need help to be imported.

Write `from irpipe.datasets._torchvision import torchvision`.
"""

from irpipe.runtime.torchvision_operators import declare_torchvision_operators

declare_torchvision_operators()

# This import needs the operators, so it cannot stand at the top.
import torchvision  # noqa: E402

__all__ = ["torchvision"]
