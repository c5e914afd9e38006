"""The code-book VAE: each position of a convolutional grid picks an entry of one code book."""

import inspect

from pytorch_lightning.cli import OptimizerCallable

from dvae.bottlenecks.grid import GridBottleneck
from dvae.bottlenecks.projected_codebook import ProjectedCodebook
from dvae.likelihoods import Likelihood, OptimalGaussian
from dvae.metrics import ImageQuality
from dvae.models.base import DiscreteVAE
from dvae.models.compiled import Compile
from dvae.models.evaluation import Evaluation
from dvae.models.objectives import Objective
from dvae.models.settings import remember_settings
from dvae.networks.base import Network
from dvae.networks.resnet import ResNet
from dvae.priors.base import Prior
from dvae.schedules import Schedule

__all__ = ["CodebookVAE"]


class CodebookVAE(DiscreteVAE):
    """A VAE whose code is a grid of entries of a code book; see `DiscreteVAE` for the arguments.

    By default 32x32 colour images, residual convolutions to a grid of 8x8, 512 codes of 64 numbers
    behind a projection, and Gaussian pixels of the best variance. The test draws once for each
    image, since a convolutional decoder is slow and its ELBO hardly varies between draws.

    On top of the other models' metrics it logs, of images, the mean squared error, PSNR (dB) and
    SSIM of the arg-max reconstruction, and the number of dead codes: ``val/mse``, ``val/psnr``,
    ``val/ssim``, ``val/dead_codes``, and the same for the test.

    Raises:
        ValueError: The network gives no grid.

    References:
        A. van den Oord, O. Vinyals, K. Kavukcuoglu, 2017, arXiv 1711.00937; A. Ramesh et al.,
        2021, arXiv 2102.12092.

    Example:
        >>> import torch
        >>> model = CodebookVAE(ResNet((1, 28, 28), width=8, blocks=1))
        >>> model.encode(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 7, 7])
        >>> model.sample(3).shape
        torch.Size([3, 1, 28, 28])
    """

    def __init__(
        self,
        network: Network | None = None,
        bottleneck: GridBottleneck | None = None,
        likelihood: Likelihood | None = None,
        objective: Objective | None = None,
        optimizer: OptimizerCallable | None = None,
        lr_schedule: Schedule | None = None,
        evaluation: Evaluation | None = None,
        compile: Compile = False,
        prior: Prior | None = None,
    ) -> None:
        # Under names of their own: the arguments as they were given are the settings remembered.
        net = ResNet() if network is None else network
        if not net.grid:
            raise ValueError(
                f"CodebookVAE needs a network with a grid, such as ResNet; got {type(net).__name__}"
            )
        code = ProjectedCodebook() if bottleneck is None else bottleneck
        pixels = OptimalGaussian() if likelihood is None else likelihood
        work = Evaluation(iwae_samples=1, chunk=512) if evaluation is None else evaluation
        training = (objective, optimizer, lr_schedule, work)
        super().__init__(net, code, pixels, *training, compile=compile, prior=prior)
        if pixels.pixels:
            self.image_quality = ImageQuality()
        remember_settings(self, inspect.currentframe())
