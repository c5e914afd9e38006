"""Sharing on the command line: dvae share save runs/.../best.ckpt --out folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvae.commands import Parser, run_command
from dvae.runs.layout import RunFolder
from dvae.sharing.card import CARD, RECONSTRUCTIONS
from dvae.sharing.folder import shared_folder
from dvae.sharing.onnx import export_onnx, has_step
from dvae.sharing.pretrained import from_pretrained, push_to_hub, save_pretrained
from dvae.sharing.source import Source, load_checkpoint


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments; those of the process by default.

    Returns:
        The exit code: 0, or 2 where the input was bad. ``DVAE_TRACEBACK=1`` raises instead.
    """
    return run_command(_parser(), _main, args)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="dvae share", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("save", "write config.json, model.safetensors and a model card"),
        ("onnx", "write encoder.onnx, decoder.onnx and prior.onnx"),
        ("push", "upload to the Hugging Face Hub"),
    ):
        command = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        command.add_argument("source", metavar="CKPT", help="checkpoint, run, or folder of `save`")
        command.add_trusted()
        if name != "onnx":
            command.add_argument(
                "--license", default="", help="of the weights, as the Hub names it: mit, ..."
            )
            command.add_argument(
                "--reconstructions",
                action="store_true",
                help="show the run's picture of these weights, with images of its validation data",
            )
        if name == "push":
            command.add_argument("--repo", required=True, help="user/name on the Hub")
            command.add_argument("--private", action="store_true", help="if it is a new one")
        else:
            command.add_argument("--out", type=Path, required=True, help="new folder")
    return parser


def _main(args: argparse.Namespace) -> None:
    trusted: Sequence[str] = args.trusted
    source = _load(args.source, trusted)
    model = source.model
    if args.command == "push":
        private = True if args.private else None
        print(push_to_hub(model, args.repo, private=private, **_facts(source, args)))
    elif args.command == "save":
        for path in save_pretrained(model, args.out, **_facts(source, args)):
            print(f"{path}  {_size(path.stat().st_size)}")
    else:
        for file in export_onnx(model, args.out):
            print(
                f"{file.path}  {_size(file.size)}  largest difference from the model "
                f"{file.difference:.1e}"
            )
        if not has_step(model):
            print(
                f"no prior.onnx: {type(model.prior).__name__} has no logits of an integer given "
                "others of its code"
            )


def _load(source: str, trusted: Sequence[str]) -> Source:
    # Not a name on the Hub: what is exported or uploaded is one's own.
    path = shared_folder(source)
    if RunFolder(path).checkpoints.is_dir():
        return load_checkpoint(RunFolder.checkpoint_in(path), trusted)
    if not path.is_dir():
        return load_checkpoint(path, trusted)
    model = from_pretrained(path, trusted)
    card, picture = (p if p.is_file() else None for p in (path / CARD, path / RECONSTRUCTIONS))
    return Source(model, {}, "", picture=picture, card=card)


def _facts(source: Source, args: argparse.Namespace) -> dict[str, Any]:
    """Return what the card is told."""
    if args.reconstructions and source.picture is None:
        raise ValueError(f"{args.source} has no run beside it that drew its reconstructions")
    return {
        "figures": source.figures,
        "data": source.data,
        "trusted": args.trusted,
        "license": args.license,
        "picture": source.picture if args.reconstructions else None,
        "card": source.card,
    }


def _size(size: int) -> str:
    return f"{size / 2**20:.2f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


if __name__ == "__main__":
    sys.exit(main())
