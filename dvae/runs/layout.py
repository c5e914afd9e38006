"""Where things lie in the folder of a run, ``runs/<experiment>/version_N/``."""

import re
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
"""Metric of which the best checkpoint has the highest value, unless another one is chosen."""

_VERSION = re.compile(r"version_(\d+)")


class RunFolder:
    """The folder of a run.

    Args:
        path: Path of the folder, which need not exist.

    Attributes:
        config: Settings of the run, as the command line takes them.
        metrics: What was logged, by step.
        media: Pictures and tables.
        curves: Picture of what was annealed and logged.
        checkpoints: Folder of the checkpoints.
        ours: The checkpoints that every run writes, the last before the best.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / CONFIG
        self.metrics = path / METRICS
        self.media = path / "media"
        self.curves = self.media / "curves.png"
        self.checkpoints = path / CHECKPOINTS
        self.ours = [self.checkpoints / LAST, self.checkpoints / BEST]

    def picture(self, name: str, step: int, suffix: str = ".png") -> Path:
        """Name the file of a picture or table.

        Args:
            name: Name of the picture.
            step: Optimizer steps taken when it was made.
            suffix: Ending of the file.
        """
        return self.media / name / f"step_{step:07d}{suffix}"

    def tokens(self, checkpoint: str, split: str) -> Path:
        """Name the folder of the codes that a checkpoint gives.

        Args:
            checkpoint: File name of the checkpoint, without its ending.
            split: Split of the data set.
        """
        return self.path / "tokens" / f"{checkpoint}-{split}"

    @classmethod
    def checkpoint_in(cls, path: str | Path) -> Path:
        """Find the best checkpoint of a run, or the last, or of a folder of checkpoints.

        Args:
            path: Folder; a file is what is looked for.

        Raises:
            FileNotFoundError: The folder has none.
        """
        folder = Path(path)
        if not folder.is_dir():
            return folder
        places = (folder, folder / CHECKPOINTS)
        for file in (place / name for name in (BEST, LAST) for place in places):
            if file.is_file():
                return file
        runs = cls.versions(folder)
        hint = f"; the newest run in it is {runs[0].path}" if runs else ""
        raise FileNotFoundError(f"{path} has no model: no {BEST} or {LAST} in it{hint}")

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
