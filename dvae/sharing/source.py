"""A trained model with what its run measured, from a checkpoint or a shared folder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvae.models import DiscreteVAE
from dvae.models.weights import check_weights
from dvae.runs.checkpoints import read_checkpoint
from dvae.runs.curves import read_rows
from dvae.runs.layout import BEST, RunFolder
from dvae.runs.trust import CLASS_PATH, INSTANTIATOR
from dvae.sharing.config import build_model

__all__ = ["Source", "load_checkpoint"]


log = logging.getLogger("dvae")


@dataclass(frozen=True, eq=False)
class Source:
    """A model and what is known of it.

    Attributes:
        model: Model on the CPU.
        figures: What its run measured at these weights, by the run's names; may be empty.
        data: The data set and how its pixels are treated, or ``""`` where it is not known.
        step: Optimizer steps taken, 0 where they are not known.
        picture: File of the reconstructions that its run drew with these weights, or None.
        card: Card of a shared model, or None.
    """

    model: DiscreteVAE
    figures: Mapping[str, float]
    data: str
    step: int = 0
    picture: Path | None = None
    card: Path | None = None


def load_checkpoint(path: str | Path, trusted: Sequence[str] = ()) -> Source:
    """Load a checkpoint of the command line; no code in it is executed, no foreign class built.

    Figures are taken from the run's ``metrics.csv`` where they belong to these weights: validation
    at the checkpoint's step, and the test, which a run makes of its best checkpoint. The picture is
    what the run drew at that step. A file that cannot be read is said in a line.

    Args:
        path: The checkpoint.
        trusted: Packages beside dvae whose classes it may name.

    Returns:
        Model and figures.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, is of another model than it says, or does not say all.
    """
    path = Path(path)
    content = read_checkpoint(path)
    values = dict(content.get("hyper_parameters") or {})
    class_path = values.pop(CLASS_PATH, None)
    if class_path is None:
        raise ValueError(
            f"{path} does not say how its model is built: it was made in Python with a part of a "
            "class that no import finds; use load_from_checkpoint there, and give it that part"
        )
    shared = {n: v for n, v in values.items() if n not in (INSTANTIATOR, "optimizer")}
    model = build_model({"class_path": class_path, "init_args": shared}, trusted)
    report = check_weights(model, content["state_dict"])
    report.require(f"{path} is not of the model that it names")
    model.load_state_dict(content["state_dict"])
    step = int(content.get("global_step", 0))
    picture = RunFolder.of_checkpoint(path).picture("reconstructions", step)
    # A run draws with the weights themselves, of which an average has none.
    drawn = picture.is_file() and "current_model_state" not in content
    return Source(
        *(model, _figures(path, content), _data(content), step),
        picture=picture if drawn else None,
    )


def _figures(path: Path, content: Mapping[str, Any]) -> dict[str, float]:
    file = RunFolder.of_checkpoint(path).metrics
    figures: dict[str, float] = {}
    try:
        rows = read_rows(file) if file.is_file() else []
    except ValueError as error:
        log.warning("no figures of the run: %s", error)
        return {}
    for step, row in rows:
        # Lightning counts a step from 0 in the log, and the steps taken in a checkpoint.
        if "val/elbo" in row and step == content["global_step"] - 1:
            figures |= {name: value for name, value in row.items() if name.startswith("val/")}
        if "test/elbo" in row and path.name == BEST:
            figures |= {name: value for name, value in row.items() if name.startswith("test/")}
    return figures


def _data(content: Mapping[str, Any]) -> str:
    values = content.get("datamodule_hyper_parameters") or {}
    images = values.get("images")
    if isinstance(images, Mapping) and "class_path" in images:  # of tokens: what is tested on
        values = {**(images.get("init_args") or {}), CLASS_PATH: images["class_path"]}
    name = str(values.get(CLASS_PATH, "")).rpartition(".")[2]
    # A checkpoint of before 2026-11-28 has the class alone.
    name = str(values.get("_name", name)) if name else ""
    binarization = values.get("binarization")
    return f"{name}, binarization {binarization}" if name and binarization else name
