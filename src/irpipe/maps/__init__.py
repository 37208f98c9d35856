"""Interpretability maps: how they are made, and how far two of them lie apart."""
