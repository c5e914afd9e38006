"""Lightning's loggers for trackers that have none there."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from dvae.extras import require

__all__ = ["TrackioLogger"]


class TrackioLogger(Logger):
    """Log to trackio, a tracker on one's own disk: ``pip install "dvae[trackio]"``.

    ``trackio show`` opens the page of what is logged, pictures and tables too. It is kept in
    ``TRACKIO_DIR``. The run is open, for a test after the training, until the process ends.

    Args:
        project: Project of the run.
        name: Name of the run; a new one by default.
        save_dir: Folder of the run's files; the trainer's by default.
        options: Further arguments of ``trackio.init``.

    Raises:
        MissingExtra: trackio is not installed.
    """

    def __init__(
        self,
        project: str = "dvae",
        name: str | None = None,
        save_dir: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _trackio()  # before the training, if it is missing
        self._project, self._name, self._save_dir = project, name, save_dir
        self._options = options or {}
        self._config: dict[str, Any] = {}
        self._run: Any = None
        self._step: int | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run, which begins when something is logged."""
        if self._run is None:
            self._run = _trackio().init(
                project=self._project, name=self._name, config=self._config, **self._options
            )
            self._name = self._run.name
        return self._run

    @property
    def name(self) -> str:
        """Project of the run."""
        return self._project

    @property
    def version(self) -> str | None:
        """Name of the run, once it has one."""
        return self._name

    @property
    def save_dir(self) -> str | None:
        """Folder of the run's files."""
        return self._save_dir

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the settings, which trackio takes at the run's beginning.

        Args:
            params: Settings by name.
            args: Nothing that is used.
            kwargs: Nothing that is used.
        """
        values = params if isinstance(params, Mapping) else vars(params)
        self._config |= {name: _plain(value) for name, value in values.items()}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures.

        Args:
            metrics: Values by name.
            step: Step of the training.
        """
        self._step = step
        self.experiment.log(dict(metrics), step=step)

    def log_image(self, key: str, images: Sequence[Image.Image]) -> None:
        """Show pictures at the step of the last figures.

        Args:
            key: Name of the pictures.
            images: The pictures; several are numbered.
        """
        names = [key] if len(images) == 1 else [f"{key}/{n}" for n in range(len(images))]
        shown = dict(zip(names, map(_shown, images), strict=True))
        self.experiment.log(shown, step=self._step)

    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        """Show a table at the step of the last figures.

        Args:
            key: Name of the table.
            columns: Names of the columns.
            data: Rows of values; pictures may be among them.
        """
        rows = [[_shown(value) for value in row] for row in data]
        self.experiment.log({key: _trackio().Table(list(columns), rows)}, step=self._step)


def _shown(value: Any) -> Any:
    return _trackio().Image(value) if isinstance(value, Image.Image) else value


def _trackio() -> Any:
    return require("trackio", "trackio")


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
