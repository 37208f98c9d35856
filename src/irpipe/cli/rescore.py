"""`irpipe rescore`: accuracy and distances of saved adversarial images, by one forward pass."""

import argparse
from pathlib import Path

from irpipe.cli import _arguments
from irpipe.cli._failures import explained, has_code_of_others
from irpipe.cli._torch import import_torch
from irpipe.cli.stress import add_network, load_network
from irpipe.errors import IrpipeError
from irpipe.results.labels import eps_label


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    text = "adversarial images (.npz) of irpipe stress --save-images, or of anyone"
    parser.add_argument("images", type=Path, metavar="IMAGES", help=text)
    _arguments.add_config(parser)
    add_network(parser)
    _arguments.add_data(parser)
    _arguments.add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Print one line per eps. Raises IrpipeError if an image lies outside its eps or [0, 1]."""
    import_torch()
    from irpipe.datasets import data_root, load
    from irpipe.evaluation.saved_images import rescore
    from irpipe.runtime.device import select_device

    device = select_device(args.device)
    network = load_network(args, device)
    test = load(network.metadata["data"], data_root(args.data), "test")
    is_external = has_code_of_others(network.metadata)
    with explained(str(args.images), args.checkpoint, is_external=is_external):
        scores = rescore(args.images, network.network, test, device)
    print(f"eps bounds the {scores[0].norm} norm of the change")
    print(f"{'eps':>8} {'accuracy':>9} {'n':>6} {'max linf':>9} {'max l2':>8}  stored as")
    for score in scores:
        print(
            f"{eps_label(score.eps):>8} {score.n_correct / score.n:9.4f} {score.n:6} "
            f"{score.linf:9.6f} {score.l2:8.4f}  {score.dtype}"
        )
    outside = [eps_label(score.eps) for score in scores if not score.is_within]
    if outside:
        raise IrpipeError(
            f"{args.images}: images lie outside [0, 1] or their eps, at eps {', '.join(outside)}"
        )
    print("all images lie in [0, 1] and within their eps of the test images")
