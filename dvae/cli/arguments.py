"""The keys of the command line beside Lightning's own."""

from dataclasses import dataclass
from typing import Literal

from pytorch_lightning.cli import LightningArgumentParser

from dvae.callbacks import Checkpoints, LatentInspector, Reconstructions
from dvae.models.encoding import write_tokens
from dvae.models.finetune import Finetune
from dvae.schedules import Mover, Schedule

__all__ = ["ANNEALED", "add_arguments"]

# The scalars that have a key of their own; any other is an Anneal under trainer.callbacks.
ANNEALED = ("tau", "beta")


@dataclass(frozen=True)
class _Keys:
    """The keys that stand by themselves.

    Args:
        experiment: Folder of the run inside trainer.default_root_dir; the config's name by default.
        init_from: Checkpoint to take the weights from; optimizer and schedules start afresh.
        allow_mismatch: With init_from: take over what fits and leave the rest.
        nonfinite: What to do about a loss or a gradient that is NaN or infinite.
        ema: Decay of an exponential moving average of the weights, in (0, 1), such as 0.999, which
            is what is validated, tested and loaded; none by default.
    """

    experiment: str | None = None
    init_from: str | None = None
    allow_mismatch: bool = False
    nonfinite: Literal["stop", "skip"] = "stop"
    ema: float | None = None


def add_arguments(parser: LightningArgumentParser) -> None:
    """Add our keys to a parser.

    Args:
        parser: Parser of one command.
    """
    parser.add_class_arguments(_Keys, instantiate=False)
    parser.add_class_arguments(Finetune, "finetune")
    parser.add_class_arguments(Checkpoints, "checkpoints", instantiate=False)
    for name in ANNEALED:
        # What can be measured of a KL weight does not say where to put it.
        kind = Mover if name == "tau" else Schedule
        parser.add_subclass_arguments(kind, f"anneal.{name}", required=False)
    parser.add_lightning_class_args(Reconstructions, "reconstructions")
    parser.add_lightning_class_args(LatentInspector, "latents")
    parser.add_function_arguments(
        write_tokens, "tokens", skip={"model", "data", "checkpoint", "trainer"}
    )
