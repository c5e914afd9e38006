"""One call that loads a trained model from wherever it lies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvae.models import DiscreteVAE
from dvae.runs.layout import RunFolder
from dvae.sharing.pretrained import from_pretrained
from dvae.sharing.source import load_checkpoint

__all__ = ["load"]


def load(path: str | Path, trusted: Sequence[str] = (), **where: Any) -> DiscreteVAE:
    """Load a trained model; its class is found by itself, and no code of the file is executed.

    Args:
        path: A checkpoint; the folder of a run, whose best checkpoint is taken; a folder that was
            shared; or ``user/name`` on the Hugging Face Hub.
        trusted: Packages beside dvae whose classes it may be made of, such as ``my_package``.
        where: For the Hub, see `dvae.sharing.from_pretrained`.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file or folder, or no model in it.
        ValueError: It is damaged, or names a class that is not of dvae or of a trusted package.
        MissingExtra: A package for shared folders is not installed.

    Example:
        >>> import dvae
        >>> model = dvae.load("runs/mnist_categorical/version_0")  # doctest: +SKIP
        >>> images = model.sample(16)  # doctest: +SKIP
    """
    folder = Path(path)
    if folder.is_dir() and not (folder / "config.json").is_file():
        return load_checkpoint(RunFolder.checkpoint_in(folder), trusted).model.eval()
    if folder.is_dir() or not folder.suffix:
        return from_pretrained(path, trusted, **where).eval()
    return load_checkpoint(folder, trusted).model.eval()
