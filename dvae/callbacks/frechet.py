"""Fréchet Inception distance of the reconstructions, for those who have the network's weights."""

from importlib.util import find_spec
from pathlib import Path

from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from dvae.callbacks.reconstruction_distance import ReconstructionDistance

__all__ = ["FrechetDistance"]

_FILE = "weights-inception-2015-12-05-6726825d.pth"


class FrechetDistance(ReconstructionDistance):
    """Measure the FID between test images and their arg-max reconstructions, ``test/fid``.

    The distance is between Gaussians fitted to the 2,048 features of an Inception network, so that
    figures on fewer than some 10,000 images are too high, and comparable only at equal numbers.
    Images of one channel are given three times.

    Args:
        weights: File of the network's weights, ``weights-inception-2015-12-05-6726825d.pth`` of
            the releases of torch-fidelity. Nothing is downloaded.

    Raises:
        ValueError: There is no such file.
        ModuleNotFoundError: torch-fidelity, which has the network, is not installed.

    References:
        M. Heusel et al., 2017, arXiv 1706.08500, eq. 6.
    """

    def __init__(self, weights: str) -> None:
        self.weights = Path(weights).expanduser()
        if not self.weights.is_file():
            raise ValueError(
                f"FrechetDistance.weights: there is no file {self.weights}; get {_FILE} from the "
                "releases of github.com/toshas/torch-fidelity and name it here"
            )
        if find_spec("torch_fidelity") is None:
            raise ModuleNotFoundError(
                "FrechetDistance needs torch-fidelity: pip install 'dvae[fid]'"
            )

    def _make_metric(self) -> FrechetInceptionDistance:
        weights = str(self.weights)
        return FrechetInceptionDistance(normalize=True, feature_extractor_weights_path=weights)

    def _seen(self, image: Tensor) -> Tensor:
        return image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image

    def _named(self, found: Tensor) -> dict[str, Tensor]:
        return {"test/fid": found}
