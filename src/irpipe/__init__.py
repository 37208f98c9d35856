"""Interpretability-aware robust training: regenerate, retrain and stress-test image classifiers."""

import os

__version__ = "0.1.0"

# Torch's threads spin while they wait. That makes jobs that share cores three times slower and
# others no faster. Torch looks at it once, when it is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
