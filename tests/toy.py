"""A data set and models small enough to enumerate and to train in a second."""

from typing import Any

import pytorch_lightning as pl
import torch

from dvae.bottlenecks import CategoricalBottleneck
from dvae.data import ImageDataModule, Images
from dvae.estimators import Estimator, GumbelSoftmax
from dvae.models import CategoricalVAE
from dvae.networks import MLP


class ToyData(ImageDataModule):
    """Blurred bars on 6 by 6 pixels."""

    name = "toy"
    image_shape = (1, 6, 6)
    num_classes = 6

    def load(self, split: str) -> Images:
        generator = torch.Generator().manual_seed(1 if split == "train" else 2)
        labels = torch.randint(6, (230,), generator=generator)
        images = torch.randint(0, 60, (230, 1, 6, 6), generator=generator, dtype=torch.uint8)
        images[torch.arange(230), 0, :, labels] += 190
        return Images(images, labels)


def toy_data(**kwargs: Any) -> ToyData:
    return ToyData(**({"batch_size": 16, "val_size": 50} | kwargs))


def toy_model(
    estimator: Estimator | None = None, latents: int = 3, codes: int = 3, **kwargs: Any
) -> CategoricalVAE:
    estimator = GumbelSoftmax(0.7) if estimator is None else estimator
    return CategoricalVAE(
        network=MLP(image_shape=(1, 6, 6), hidden=(16,)),
        bottleneck=CategoricalBottleneck(latents, codes, estimator),
        **kwargs,
    )


def toy_trainer(tmp_path: Any, **kwargs: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "default_root_dir": tmp_path,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(**(defaults | kwargs))
