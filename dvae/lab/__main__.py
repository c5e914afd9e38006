"""The gradient lab on the command line: dvae lab --function network."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import track

from dvae.commands import Parser, run_command
from dvae.estimators.base import TEMPERATURE
from dvae.lab.files import write_report, write_tuners
from dvae.lab.functions import FunctionName, LogitsName
from dvae.lab.problem import (
    Problem,
    first_images,
    fresh_vae,
    function_problem,
    vae_problem,
)
from dvae.lab.reference import REFERENCE_DRAWS
from dvae.lab.run import TAUS, run
from dvae.runs.files import check_folder
from dvae.scalars import check_count
from dvae.sharing.load import load

# Either takes one to two minutes on one core.
_DRAWS = 100_000
_VAE_DRAWS = 1_000

_SIZE = 4


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments; those of the process by default.

    Returns:
        The exit code: 0, or 2 where the input was bad. ``DVAE_TRACEBACK=1`` raises instead.
    """
    return run_command(_parser(), _main, args)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="dvae lab",
        description="Measure bias, variance, cosine with the true gradient and time per step of "
        "every estimator, over temperatures, against exact enumeration, or against a reference of "
        "many draws where a trained model has too many codes to visit.",
        allow_abbrev=False,
    )
    where = parser.add_argument_group("where to measure (one of)").add_mutually_exclusive_group()
    where.add_argument("--function", choices=get_args(FunctionName), help="a function of the code")
    where.add_argument("--vae", action="store_true", help="a fresh VAE on MNIST's first batch")
    where.add_argument(
        "--ckpt", type=Path, metavar="PATH", help="a trained VAE on the same batch; or mnist"
    )
    where.add_argument(
        "--tuner",
        type=Path,
        metavar="PATH",
        help="measure nothing: draw what the tuner of a training found until this checkpoint",
    )
    size = parser.add_argument_group("its size")
    size.add_argument("--latents", type=int, metavar="L", help=f"default {_SIZE}")
    size.add_argument("--codes", type=int, metavar="K", help=f"categories, default {_SIZE}")
    size.add_argument("--logits", choices=get_args(LogitsName), help="default random")
    size.add_argument("--images", type=int, metavar="N", help="in the VAE's batch, default 16")
    parser.add_argument(
        "--taus", type=float, nargs="+", default=TAUS, metavar="TAU", help=f"default {_words(TAUS)}"
    )
    parser.add_argument(
        "--draws",
        type=int,
        metavar="N",
        help=f"gradients drawn from each, default {_DRAWS}, or {_VAE_DRAWS} of a VAE's batch",
    )
    parser.add_argument(
        "--reference_draws",
        type=int,
        default=REFERENCE_DRAWS,
        metavar="N",
        help="of the reference, where the codes are too many to visit; at least 64, default "
        f"{REFERENCE_DRAWS}",
    )
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--out", type=Path, default=Path("lab"), help="folder, default lab")
    return parser


def _main(args: argparse.Namespace) -> None:
    draws = args.draws
    if draws is None:
        draws = _VAE_DRAWS if args.vae or args.ckpt else _DRAWS
    check_count("--draws", draws, 2)
    check_count("--reference_draws", args.reference_draws, 64)
    for tau in args.taus:
        TEMPERATURE.check("--taus", tau)
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed must be within [0, 2^32); got {args.seed}")
    check_folder(args.out)
    if args.tuner is not None:
        for path in write_tuners(args.tuner, args.out):
            print(f"wrote {path}")
        return
    problem = _problem(args)
    console = Console(stderr=True)
    report = run(
        problem,
        sorted(set(args.taus)),
        draws,
        args.seed,
        lambda entries: track(entries, problem.title, console=console),
        args.reference_draws,
    )
    print(f"reference gradient: {report.reference}")
    for name, reason in report.skipped.items():
        print(f"not measured: {name}: {reason}")
    for path in write_report(report, args.out):
        print(f"wrote {path}")


def _problem(args: argparse.Namespace) -> Problem:
    latents, codes = (_SIZE if size is None else size for size in (args.latents, args.codes))
    if args.ckpt is None and not args.vae:
        _refuse(args, "--images", "a function has no images")
        return function_problem(
            args.function or "network", args.logits or "random", latents, codes, args.seed
        )
    _refuse(args, "--logits", "the encoder of a VAE gives the logits")
    images = 16 if args.images is None else args.images
    check_count("--images", images, 1)
    if args.ckpt is None:
        model = fresh_vae(latents, codes, args.seed)
        return vae_problem(model, first_images(images), "a fresh VAE")
    for option in ("--latents", "--codes"):
        _refuse(args, option, "the checkpoint has its own")
    return vae_problem(load(args.ckpt), first_images(images), f"the VAE of {args.ckpt.name}")


def _refuse(args: argparse.Namespace, option: str, reason: str) -> None:
    if getattr(args, option.removeprefix("--")) is not None:
        raise ValueError(f"{option} is not for this: {reason}")


def _words(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
