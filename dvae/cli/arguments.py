"""The keys of the command line beside Lightning's own."""

from typing import Literal

from pytorch_lightning.cli import LightningArgumentParser

from dvae.callbacks import LatentInspector, Reconstructions
from dvae.models.encoding import write_tokens
from dvae.models.finetune import Finetune
from dvae.schedules import Schedule

__all__ = ["ANNEALED", "add_arguments"]

# The scalars that have a key of their own; any other is an Anneal under trainer.callbacks.
ANNEALED = ("tau", "beta")


def add_arguments(parser: LightningArgumentParser) -> None:
    """Add our keys to a parser.

    Args:
        parser: Parser of one command.
    """
    parser.add_argument(
        "--experiment",
        type=str | None,
        default=None,
        help="Folder of the run inside trainer.default_root_dir; the config's name by default.",
    )
    parser.add_argument(
        "--init_from",
        type=str | None,
        default=None,
        help="Checkpoint to take the weights from; optimizer and schedules start afresh.",
    )
    parser.add_argument(
        "--allow_mismatch",
        type=bool,
        default=False,
        help="With init_from: take over what fits and leave the rest.",
    )
    parser.add_class_arguments(Finetune, "finetune")
    parser.add_argument(
        "--checkpoints.every_n_steps",
        type=int | None,
        default=None,
        help="Steps between checkpoints within an epoch; only at its end by default.",
    )
    parser.add_argument(
        "--nonfinite",
        type=Literal["stop", "skip"],
        default="stop",
        help="What to do about a loss or a gradient that is NaN or infinite.",
    )
    for name in ANNEALED:
        parser.add_subclass_arguments(Schedule, f"anneal.{name}", required=False)
    parser.add_lightning_class_args(Reconstructions, "reconstructions")
    parser.add_lightning_class_args(LatentInspector, "latents")
    parser.add_function_arguments(
        write_tokens, "tokens", skip={"model", "data", "checkpoint", "trainer"}
    )
