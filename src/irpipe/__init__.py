"""Interpretability-aware robust training: regenerate, retrain and stress-test image classifiers."""

__version__ = "0.1.0"
