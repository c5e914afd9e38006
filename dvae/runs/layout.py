"""Where things lie in the folder of a run, ``runs/<experiment>/version_N/``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever only reads a run does not wait for Lightning
    import pytorch_lightning as pl

__all__ = ["BEST", "CHECKPOINTS", "CONFIG", "LAST", "METRICS", "MONITOR", "RunFolder", "run_folder"]

CONFIG = "config.yaml"
METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
BEST = "best.ckpt"
MONITOR = "val/elbo"
"""Metric of which the best checkpoint has the highest value."""

_VERSION = re.compile(r"version_(\d+)")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Attributes:
        path: Its path; it need not exist.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Settings of the run, as the command line takes them."""
        return self.path / CONFIG

    @property
    def metrics(self) -> Path:
        """What was logged, by step."""
        return self.path / METRICS

    @property
    def media(self) -> Path:
        """Pictures and tables."""
        return self.path / "media"

    @property
    def curves(self) -> Path:
        """Picture of what was annealed and logged."""
        return self.media / "curves.png"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def ours(self) -> list[Path]:
        """The checkpoints that every run writes, the last before the best."""
        return [self.checkpoints / LAST, self.checkpoints / BEST]

    def tokens(self, checkpoint: str, split: str) -> Path:
        """Name the folder of the codes that a checkpoint gives.

        Args:
            checkpoint: File name of the checkpoint, without its ending.
            split: Split of the data set.
        """
        return self.path / "tokens" / f"{checkpoint}-{split}"

    @classmethod
    def of_checkpoint(cls, path: Path) -> "RunFolder":
        """Find the run that a checkpoint belongs to, or the folder that it lies in.

        Args:
            path: File of the checkpoint.
        """
        folder = path.parent
        return cls(folder.parent if folder.name == CHECKPOINTS else folder)

    @classmethod
    def versions(cls, experiment: Path) -> "list[RunFolder]":
        """List the runs of an experiment, the newest first.

        Args:
            experiment: Folder of the runs; it need not exist.
        """
        inside = experiment.iterdir() if experiment.is_dir() else ()
        found = {int(match.group(1)): p for p in inside if (match := _VERSION.fullmatch(p.name))}
        return [cls(found[number]) for number in sorted(found, reverse=True)]


def run_folder(trainer: "pl.Trainer") -> RunFolder:
    """Find the folder of a training, as its first process knows it.

    Args:
        trainer: Trainer of the run.
    """
    # Not trainer.log_dir, which is a broadcast: one process alone would wait in it for the others.
    logger = trainer.logger
    folder = getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None)
    return RunFolder(Path(folder or trainer.default_root_dir))
