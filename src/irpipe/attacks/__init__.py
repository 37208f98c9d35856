"""Attacks, one file a kind: `attack(case, *, eps, options)` yields (steps, adversarial images).

The images of each yield are `[E, N, C, H, W]`, one set a radius in `eps`. What comes out is not trusted: `evaluate`
checks range and radius and recomputes every prediction.
"""
