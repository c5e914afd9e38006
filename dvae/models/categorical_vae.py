"""The categorical-latent VAE: independent categoricals between two small networks."""

import inspect

from pytorch_lightning.cli import OptimizerCallable

from dvae.bottlenecks.base import Bottleneck
from dvae.bottlenecks.categorical import CategoricalBottleneck
from dvae.likelihoods import Bernoulli, Likelihood
from dvae.models.base import DiscreteVAE
from dvae.models.compiled import Compile
from dvae.models.evaluation import Evaluation
from dvae.models.objectives import Objective
from dvae.models.settings import remember_settings
from dvae.networks.base import Network
from dvae.networks.mlp import MLP
from dvae.priors.base import Prior
from dvae.schedules import Schedule

__all__ = ["CategoricalVAE"]


class CategoricalVAE(DiscreteVAE):
    """A VAE whose code is L categories; see `DiscreteVAE` for the arguments.

    By default 20 latents of 10 categories, perceptrons 784-512-256 and back, Bernoulli pixels.

    Raises:
        ValueError: The network gives a grid of features, where latents have no place.

    References:
        E. Jang, S. Gu, B. Poole, 2017, arXiv 1611.01144, section 4.2.

    Example:
        >>> import torch
        >>> model = CategoricalVAE()
        >>> model.encode(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 20])
        >>> model.sample(3).shape
        torch.Size([3, 1, 28, 28])
    """

    def __init__(
        self,
        network: Network | None = None,
        bottleneck: Bottleneck | None = None,
        likelihood: Likelihood | None = None,
        objective: Objective | None = None,
        optimizer: OptimizerCallable | None = None,
        lr_schedule: Schedule | None = None,
        evaluation: Evaluation | None = None,
        compile: Compile = False,
        prior: Prior | None = None,
    ) -> None:
        # Under names of their own: the arguments as they were given are the settings remembered.
        net = MLP() if network is None else network
        code = CategoricalBottleneck() if bottleneck is None else bottleneck
        if net.grid and isinstance(code, CategoricalBottleneck):
            raise ValueError(
                "CategoricalVAE needs a network without a grid, such as MLP; got "
                f"{type(net).__name__} (a code book at each position is CodebookVAE)"
            )
        pixels = Bernoulli() if likelihood is None else likelihood
        training = (objective, optimizer, lr_schedule, evaluation)
        super().__init__(net, code, pixels, *training, compile=compile, prior=prior)
        remember_settings(self, inspect.currentframe())
