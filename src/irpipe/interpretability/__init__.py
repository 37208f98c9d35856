"""Interpretability maps: the interpreters, and how much two maps differ."""
