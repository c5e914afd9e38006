"""One call that loads a trained model from wherever it lies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvae.doing import doing
from dvae.models import DiscreteVAE
from dvae.runs.layout import RunFolder
from dvae.sharing.folder import is_shared
from dvae.sharing.pretrained import from_pretrained
from dvae.sharing.source import load_checkpoint

__all__ = ["load"]


@doing("loading a model")
def load(path: str | Path, trusted: Sequence[str] = (), **where: Any) -> DiscreteVAE:
    """Load a trained model; its class is found by itself, and no code of the file is executed.

    Args:
        path: A checkpoint; the folder of a run, whose best checkpoint is taken; a folder that was
            shared; ``mnist`` or ``mnist-codebook``, which come with the package; or ``user/name``
            on the Hugging Face Hub.
        trusted: Packages beside dvae whose classes it may be made of, such as ``my_package``.
        where: For the Hub, see `dvae.sharing.from_pretrained`.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file or folder, or no model in it.
        ValueError: It is damaged, or names a class that is not of dvae or of a trusted package.
        MissingExtra: A package for the Hub is not installed.

    Example:
        >>> import dvae
        >>> model = dvae.load("mnist")
        >>> model.sample(16).shape
        torch.Size([16, 1, 28, 28])
        >>> model = dvae.load("runs/mnist_categorical/version_0")  # doctest: +SKIP
    """
    folder = Path(path)
    if folder.is_dir() and not is_shared(folder):
        return load_checkpoint(RunFolder.checkpoint_in(folder), trusted).model.eval()
    if folder.is_dir() or not folder.suffix:
        return from_pretrained(path, trusted, **where).eval()
    return load_checkpoint(folder, trusted).model.eval()
