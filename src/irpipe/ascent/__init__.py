"""Gradient ascent, which the attacks and the inner maximisation of training share."""
