"""Interpretability-aware robust training: released networks, training from scratch, stress tests."""

__version__ = "0.1.0"
