"""Proofs that no image within an l-inf bound changes a network's prediction (docs/certify.md)."""
