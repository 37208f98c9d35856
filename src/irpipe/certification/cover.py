"""Whether leaves cover all cases, for the check of certificates."""

import numpy as np


def covers(signs: np.ndarray) -> bool:
    """Whether leaves with these `signs` `[n, neurons]` are those of a binary tree.

    If so, each sign pattern of the neurons, and so each image, lies in a leaf. A tree has a
    neuron that all of its leaves split: its root. The leaves on either side are a tree again.
    """
    pending = [signs]
    while pending:
        leaves = pending.pop()
        if len(leaves) == 1 and not leaves.any():
            continue
        is_root = (leaves != 0).all(axis=0) & (leaves > 0).any(axis=0) & (leaves < 0).any(axis=0)
        if not is_root.any():
            return False
        root = int(is_root.argmax())
        for sign in (1, -1):
            side = leaves[np.sign(leaves[:, root]) == sign].copy()
            side[:, root] = 0
            pending.append(side)
    return True
