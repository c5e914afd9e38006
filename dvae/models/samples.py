"""What pictures of a prior's samples show, and what they are called."""

import torch
from torch import Tensor

from dvae.doing import doing
from dvae.models.base import DiscreteVAE
from dvae.priors import UniformPrior

__all__ = ["sample_name", "sample_rows"]

# Classes that a picture has room for.
MAX_COLUMNS = 24


def sample_name(model: DiscreteVAE) -> str:
    """Name what `sample` gives: a uniform prior of a grid shows little of what a decoder can do.

    Args:
        model: Any model.
    """
    independent = isinstance(model.prior, UniformPrior) and len(model.index_shape) > 1
    return "independent uniform codes" if independent else "prior samples"


@doing("drawing samples of the prior")
def sample_rows(model: DiscreteVAE, count: int = 12) -> dict[str, Tensor]:
    """Draw three named rows of images, with noise of their own; each class has its column.

    Args:
        model: Any model.
        count: Images in a row, where the prior knows no classes.

    Returns:
        Pixels in [0, 1], each ``(N, C, H, W)``.
    """
    noise = model.evaluation.noise("prior", model.device)
    classes = model.prior.num_classes
    per_row = min(classes, MAX_COLUMNS) or count
    label = torch.arange(per_row).repeat(3) if classes else None
    images = model.sample(3 * per_row, noise, label).chunk(3)
    names = [*sample_name(model).split(), ""]
    if classes:
        names = ["classes", f"0 to {per_row - 1}", ""]
    return dict(zip(names, images, strict=False))
