"""Lightning callbacks: annealing, pictures, curves, checkpoints, progress, probes."""

from typing import Any

from dvae.callbacks.anneal import Anneal
from dvae.callbacks.checkpoints import Checkpoints
from dvae.callbacks.curves import Curves
from dvae.callbacks.feature_distance import FeatureDistance
from dvae.callbacks.frechet import FrechetDistance
from dvae.callbacks.freeze import Freeze
from dvae.callbacks.gradient_probe import GradientProbe
from dvae.callbacks.latents import LatentInspector
from dvae.callbacks.nonfinite import NonFinite, NonFiniteError
from dvae.callbacks.progress import ProgressBar
from dvae.callbacks.progress_lines import ProgressLines
from dvae.callbacks.random_state import RandomState
from dvae.callbacks.reconstructions import Reconstructions
from dvae.callbacks.run_id import RunId
from dvae.callbacks.short_run import ShortRun
from dvae.callbacks.start_at_mean import StartAtMean
from dvae.callbacks.stop_on_signal import StopOnSignal, Stopped, StopUnsaved
from dvae.callbacks.stopwatch import Stopwatch
from dvae.callbacks.symptoms import Symptoms
from dvae.callbacks.weight_average import WeightAverage
from dvae.runs.checkpoints import SafeCheckpointIO

__all__ = [
    "Anneal",
    "Checkpoints",
    "Curves",
    "FeatureDistance",
    "FrechetDistance",
    "Freeze",
    "GradientProbe",
    "LatentInspector",
    "NonFinite",
    "NonFiniteError",
    "ProgressBar",
    "ProgressLines",
    "RandomState",
    "Reconstructions",
    "RunId",
    "SafeCheckpointIO",
    "ShortRun",
    "StartAtMean",
    "StopOnSignal",
    "StopUnsaved",
    "Stopped",
    "Stopwatch",
    "Symptoms",
    "WeightAverage",
]


def __getattr__(name: str) -> Any:
    if name == "TokenWriter":
        raise ImportError("dvae.callbacks.TokenWriter is now dvae.models.encoding.write_tokens")
    raise AttributeError(f"module 'dvae.callbacks' has no attribute {name!r}")
