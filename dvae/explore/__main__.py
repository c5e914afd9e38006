"""The latent explorer on the command line: dvae explore runs/.../checkpoints."""

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from dvae.commands import Parser, run_command
from dvae.doing import doing
from dvae.explore.checkpoints import load_snapshots
from dvae.explore.images import load_gallery
from dvae.explore.view import Explorer
from dvae.extras import require


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
        prog="dvae explore",
        description="Open a local page to change the code of an image by hand and see the decoded "
        "image change, at each checkpoint of a run.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="CKPT",
        help="checkpoint, folder of checkpoints, of a run or of a shared model, or mnist or "
        "mnist-codebook, which come with the package",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="of a run, for the test split of its data set, or of images; by default the data set "
        "of the checkpoint's run, or else the bundled MNIST",
    )
    parser.add_trusted()
    parser.add_argument("--host", default="127.0.0.1", help="address, default 127.0.0.1")
    parser.add_argument("--port", type=int, default=7860, help="default 7860")
    return parser


def _main(args: argparse.Namespace) -> None:
    _check_address(args.host, args.port)
    # Before Gradio is imported: it sends nothing to anybody.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    require("gradio", "explore")
    from dvae.explore.page import launch, make_page

    with doing("starting the explorer"):
        snapshots, left_out = load_snapshots(args.checkpoints, args.trusted)
        first = snapshots[0]
        gallery = load_gallery(first.model.image_shape, first.path, args.data, args.trusted)
        page = make_page(Explorer(snapshots, gallery))
    for reason in left_out:
        print(f"left out: {reason}")
    for snapshot in snapshots:
        print(snapshot.title)
    print(f"listening on {launch(page, args.host, args.port)} (Ctrl-C ends it)", flush=True)
    page.block_thread()


def _check_address(host: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise ValueError(f"--port must be within [1, 65535]; got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"cannot listen on {host}, port {port}: {reason}; choose others with --host and --port"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
