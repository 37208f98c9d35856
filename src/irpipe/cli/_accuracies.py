"""The accuracies of a result, as text for the terminal."""

import numpy as np

from irpipe.results.result import Result


def accuracies(result: Result) -> str:
    """A table of the accuracy at each eps (rows) and step count (columns).

    If the attack chooses the eps of each image, the rows are its points, each with the mean l-inf
    distance of the images.
    """
    arrays = result.arrays
    accuracy = np.mean(arrays["correct"], axis=0)
    eps = arrays["eps"] if "eps" in arrays else np.mean(arrays["linf_distance"], axis=(0, 2))
    if "steps" in arrays:
        headings = [f"{count} steps" for count in arrays["steps"]]
    else:
        headings = [str(position) for position in range(accuracy.shape[1])]
    lines = ["      eps" + "".join(f"{heading:>11}" for heading in headings)]
    for value, row in zip(eps, accuracy, strict=True):
        lines.append(f"{value:9.4f}" + "".join(f"{number:11.3f}" for number in row))
    lines.append(f"accuracy on {len(arrays['label'])} test images")
    return "\n".join(lines)


def print_left_out(result: Result) -> None:
    """Say which parts of the attack were left out, because the network has too few classes."""
    for part in result.attrs.get("left_out", ()):
        n_classes = len(result.attrs["class_names"])
        attack = result.attrs["attack"]
        print(f"{attack}: {part} left out, because it needs more than {n_classes} classes")
