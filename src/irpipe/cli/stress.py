"""`irpipe stress`: attack any network with several attacks and look for masked gradients."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irpipe import config
from irpipe.cli import _arguments
from irpipe.cli._accuracies import accuracies, print_left_out
from irpipe.cli._failures import require_packages
from irpipe.cli._stress_against import open_others
from irpipe.cli._stress_attacks import MAPS, StressAttacks
from irpipe.cli._torch import import_torch
from irpipe.errors import IrpipeError
from irpipe.files import ensure_writable
from irpipe.results.result import Result

if TYPE_CHECKING:
    import torch

    from irpipe.networks.load import LoadedNetwork

DEFAULT_ATTACKS = [
    "pgd",
    "margin_pgd",
    "autoattack",
    "square",
    "aai_topk",
    "aai_mass_center",
    "aai_two_class",
    "aai_targeted",
]

N_MAP_IMAGES = 20
# Of PGD in l2 and l1, as Madry et al. have it; the default step size is meant for l-inf.
STEP_SIZE_FACTOR = 2.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)
    add_network(parser)
    text = (
        "attacks (default: %(default)s), from config/stress.yaml unless --config; "
        "or NAME={kind: ..., ...}"
    )
    parser.add_argument("--attacks", nargs="+", default=DEFAULT_ATTACKS, metavar="NAME", help=text)
    text = "eps of the attacks (default: those of the data set); 0 is added, for the clean accuracy"
    parser.add_argument("--eps", nargs="+", metavar="EPS", help=text)
    text = "norm in which eps is a bound (default: %(default)s); attacks that lack it are left out"
    parser.add_argument("--norm", choices=["linf", "l2", "l1"], default="linf", help=text)
    text = "number of test images (default: that of each attack)"
    parser.add_argument("--images", type=int, metavar="N", help=text)
    text = "compare with this network, or with the results in this folder; may be repeated"
    parser.add_argument("--against", action="append", default=[], metavar="OTHER", help=text)
    text = "save the adversarial images, too, as FOLDER/images/ATTACK.npz (irpipe rescore)"
    parser.add_argument("--save-images", action="store_true", help=text)
    _arguments.add_data(parser)
    _arguments.add_device(parser)
    _arguments.add_output(parser, "FOLDER", "folder of the page and the results, one per attack")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `load_network` reads."""
    text = (
        "NET.safetensors of irpipe, NET.pt2 of torch.export, FILE.py:function or "
        "module:function; the last three can run any code"
    )
    parser.add_argument("--checkpoint", required=True, metavar="NETWORK", help=text)
    text = f"data set of its images; {_arguments.ENTRY}"
    parser.add_argument("--dataset", metavar="NAME", help=text)
    text = "name of the network in reports (default: that of its file or function)"
    parser.add_argument("--name", help=text)


def run(args: argparse.Namespace) -> None:
    """Attack the network, write one result per attack and the page; print the accuracies.

    An attack that fails does not stop the others, and one that finished in an earlier call is not
    repeated. Raises IrpipeError at the end if one failed.
    """
    attacks = _attacks(args)
    for name, options in attacks:
        require_packages(options["kind"])
        ensure_writable(args.output / f"{name}.h5")
    import_torch()
    from irpipe.datasets import data_root, load
    from irpipe.reports.stress_page import StressRun, write_page
    from irpipe.reports.stress_page.against import OtherNetwork
    from irpipe.runtime.device import select_device

    device = select_device(args.device)
    network = load_network(args, device)
    test = load(network.metadata["data"], data_root(args.data), "test")
    test.sha256()  # A broken file is found here, and not once in each attack.
    attacks = _with_at_most(len(test), attacks, args)
    for note in network.metadata.get("notes", ()):
        print(f"{args.checkpoint}: {note}")
    others = open_others(args, network, test, device, load_network)
    stress = StressAttacks(args, network, test, device)
    for each in (stress, *(other.stress for other in others if other.stress)):
        each.print_estimate(attacks)
    for name, options in attacks:
        result = stress.run(name, options)
        if result:
            print(_accuracy_and_tau(result))
            print_left_out(result)
    results = list(stress.results.values())
    maps = stress.run(MAPS, _maps_options(results, network, len(test), args.images))
    failures = [*stress.failures, *(text for other in others for text in other.run(attacks))]
    run_of_page = StressRun(
        name=str(network.metadata["method"]),
        source=args.checkpoint,
        results=results,
        maps=maps,
        attempts=stress.attempts,
        has_images=args.save_images,
        others=[OtherNetwork(other.name, other.source, other.results) for other in others],
    )
    page, *_ = write_page(args.output, run_of_page)
    _print_signs(results)
    print(page)
    if failures:
        hint = "" if args.debug else " (--debug prints the traceback)"
        raise IrpipeError("; ".join(failures) + hint)


def _print_signs(results: list[Result]) -> None:
    from irpipe.analysis.gradient_masking import summarise
    from irpipe.reports.stress_page.numbers import stress_numbers

    numbers = stress_numbers(results)
    if numbers and numbers.flags:
        print(summarise(numbers.flags))


def _with_at_most(
    n_test_images: int, attacks: list[tuple[str, dict[str, Any]]], args: argparse.Namespace
) -> list[tuple[str, dict[str, Any]]]:
    """The attacks, on all test images where there are fewer than an attack has by default."""
    if args.images is not None and args.images > n_test_images:
        raise IrpipeError(f"--images {args.images}: the test set has {n_test_images}")
    if any(options["images"] > n_test_images for _, options in attacks):
        print(f"the test set has {n_test_images} images: each attack takes all of them")
    return [
        (name, options | {"images": min(options["images"], n_test_images)})
        for name, options in attacks
    ]


def _maps_options(
    results: list[Result], network: "LoadedNetwork", n_test_images: int, n_images: int | None
) -> dict[str, Any]:
    """The options of the attack whose maps the page shows: PGD at the eps of the verdict."""
    from irpipe.datasets import facts
    from irpipe.reports.stress_page.numbers import is_bounded, verdict_eps
    from irpipe.results.labels import eps_norm

    bounded = [result for result in results if is_bounded(result)]
    eps = facts(network.metadata["data"]).train_eps
    if bounded and eps_norm(bounded[0]) == "linf":
        eps = verdict_eps(bounded)
    count = min(n_images or N_MAP_IMAGES, N_MAP_IMAGES, n_test_images)
    entry = {
        "kind": "pgd_maps",
        "pgd_eps": eps,
        "step_size": eps / 4,
        "interpreters": ["cam", "gradcampp"],
        "images": count,
        "batch_size": count,
    }
    return config.resolve_named("attacks", entry, MAPS)


def _number_or_text(text: str) -> float | str:
    """A number; other texts, such as "8/255", are left to the option's type."""
    try:
        return float(text)
    except ValueError:
        return text


def _attacks(args: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Name and resolved options of each attack, changed by --images and --eps."""
    path = args.config or config.CONFIG_FOLDER / "stress.yaml"
    attacks = [_arguments.read_entry("attacks", argument, path) for argument in args.attacks]
    names = [name for name, _ in attacks]
    for name in names:
        if name == MAPS:
            raise IrpipeError(f"--attacks: the page's own attack is called {MAPS}; say another")
        if names.count(name) > 1:
            raise IrpipeError(
                f"--attacks: two attacks are called {name}, and the second result would replace "
                "the first; give each a name of its own"
            )
    return [(name, _with_arguments(args, name, options)) for name, options in attacks]


def _with_arguments(args: argparse.Namespace, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of an attack, with what --images and --eps say in their place."""
    if args.images is not None:
        entry = options | {"images": args.images}
        options = config.resolve_named("attacks", entry, f"--images, {name}")
    if args.norm != "linf":
        return _with_norm(args, name, options)
    if args.eps and "eps" in options:
        entry = options | {"eps": _eps_of(args)}
        options = config.resolve_named("attacks", entry, f"--eps, {name}")
    return options


def _with_norm(args: argparse.Namespace, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of an attack with eps in another norm, if the attack has it."""
    from irpipe.evaluation import norms_of

    if not args.eps:
        raise IrpipeError(f"--norm {args.norm}: say --eps, too; the data set's are l-inf bounds")
    if args.norm not in norms_of(options):
        return options
    entry = options | {"norm": args.norm, "eps": _eps_of(args)}
    if options["kind"] == "pgd" and options["step_size_factor"] is None:
        entry["step_size_factor"] = STEP_SIZE_FACTOR
    return config.resolve_named("attacks", entry, f"--eps, {name}")


def _eps_of(args: argparse.Namespace) -> list[float | str]:
    """The eps that --eps names, after 0. Raises IrpipeError if it names no other."""
    values = [value for value in map(_number_or_text, args.eps) if value != 0]
    if not values:
        raise IrpipeError("--eps 0: leaves nothing to attack; name an eps above 0")
    return [0, *values]


def load_network(args: argparse.Namespace, device: "torch.device") -> "LoadedNetwork":
    """Load a checkpoint of irpipe, a torch.export file, or what a function returns."""
    from irpipe.datasets import facts
    from irpipe.networks import external
    from irpipe.networks.load import LoadedNetwork, load_for_attack

    source = args.checkpoint
    if source.endswith(".safetensors"):
        loaded = load_for_attack(Path(source), device)
        if args.dataset or args.name:
            raise IrpipeError(f"--dataset, --name: {source} has both itself; leave them out")
        return loaded
    module, _, function = source.rpartition(":")
    if not (source.endswith(".pt2") or (module and function.isidentifier())):
        raise IrpipeError(
            f"{source}: none of NET.safetensors, NET.pt2, FILE.py:function and module:function; "
            "such a function returns a torch.nn.Module with its weights"
        )
    if not args.dataset:
        raise IrpipeError(f"--dataset: missing; {source} does not say what its images are")
    name, data = _arguments.read_entry("datasets", args.dataset, args.config)
    method = args.name or re.sub(r"\W", "_", Path(source.rpartition(":")[2]).stem)
    config.check_name(method, "--name")
    dataset = facts(data)
    n_classes = len(dataset.class_names)
    network, sha256 = external.load_external(source, dataset.shape, n_classes, device)
    metadata = {
        "dataset": name,
        "data": data,
        "model": "own",
        "method": method,
        "run": "external",
        "source": source,
        "notes": network.notes,
    }
    unfolded = external.UnfoldedNetwork(network, dataset.shape)
    return LoadedNetwork(network, unfolded, metadata, sha256)


def _accuracy_and_tau(result: Result) -> str:
    """A table of accuracy and, for attacks on maps, mean tau at each eps, after the most steps."""
    from irpipe.results.rank_correlation import rank_correlation_at

    arrays = result.arrays
    if "eps" not in arrays:
        return accuracies(result)
    accuracy = arrays["correct"][:, :, -1].mean(axis=0)
    lines = {
        "eps": [f"{eps:7.4f}" if eps < 10 else f"{eps:7.4g}" for eps in arrays["eps"]],
        "accuracy": [f"{value:7.3f}" for value in accuracy],
    }
    if "kendall_tau" in arrays:
        taus = [rank_correlation_at(arrays, index, -1) for index in range(len(arrays["eps"]))]
        lines["tau with the prediction kept"] = [f"{tau.value:7.3f}" for tau in taus]
        lines["  n ="] = [f"{tau.n:7}" for tau in taus]
        lines["tau with lost images counted as 0"] = [f"{tau.value_all:7.3f}" for tau in taus]
    width = max(map(len, lines))
    return "\n".join(f"  {heading:{width}} " + "".join(row) for heading, row in lines.items())
