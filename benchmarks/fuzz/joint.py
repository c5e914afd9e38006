"""What two parts meet in one run: the axes, a random point on them, and its simpler neighbours."""

import inspect
import random
from collections.abc import Iterator, Mapping, Sequence

from dvae import estimators
from dvae.estimators.about import trials

__all__ = [
    "AXES",
    "BINARY",
    "ESTIMATED",
    "ESTIMATORS",
    "GRIDS",
    "PRIORS",
    "Joint",
    "described",
    "draw_joint",
    "simpler",
    "with_values",
]

Joint = Mapping[str, str]
"""A value for each axis."""

_SETTINGS = {"tau": 1.2, "samples": 3, "num_latents": 3, "num_codes": 3, "hidden": 4}


def _takes_three(cls: type[estimators.Estimator]) -> bool:
    try:
        return bool(trials(cls, 3, 3))
    except ValueError:
        return False


# Settings of each estimator, for the 3 latents of 3 categories that a run has; the simplest first.
ESTIMATORS: dict[str, dict[str, object]] = {
    cls.__name__: {k: v for k, v in _SETTINGS.items() if k in inspect.signature(cls).parameters}
    for cls in (estimators.GumbelSoftmax, *estimators.ESTIMATORS.values())
}
BINARY = [name for name, cls in estimators.ESTIMATORS.items() if not _takes_three(cls)]
# Bottlenecks of a grid, with their settings.
GRIDS: dict[str, dict[str, object]] = {
    "ProjectedCodebook": {"num_codes": 3, "code_dim": 2, "in_features": 4},
    "ProductCodebook": {"num_codes": 3, "code_dim": 2, "in_features": 4},
    "DistanceCodebook": {"num_codes": 3, "code_dim": 2},
    "ResidualCodebook": {"num_codes": 3, "code_dim": 2},
    "VQ": {"num_codes": 4, "code_dim": 2},
    "RotationVQ": {"num_codes": 4, "code_dim": 2},
    "DiVeQ": {"num_codes": 4, "code_dim": 2},
    "SimVQ": {"num_codes": 4, "code_dim": 2},
    "FSQ": {"levels": [3, 3], "code_dim": 2},
    "LFQ": {"num_codes": 4, "code_dim": 2},
    "ResidualVQ": {"num_codes": 3, "code_dim": 2, "depth": 2},
}
ESTIMATED = ("CategoricalBottleneck", *[name for name in GRIDS if name.endswith("Codebook")])
# Codes of a grid whose estimator is told their number, or that have two categories only, are
# another fuzzer's; these cross every kind of draw.
_ON_GRIDS = ("GumbelSoftmax", "StraightThrough", "ReinMax", "REBAR", "Reinforce", "RLOO", "VIMCO")

# Priors of a few weights, with their settings; of transformers the second is told of classes.
PRIORS: dict[str, dict[str, object]] = {
    "CategoricalPrior": {},
    "MADEPrior": {"width": 2, "depth": 1},
    "AutoregressivePrior": {"width": 4, "depth": 1, "heads": 2},
    "MaskedPrior": {"width": 4, "depth": 1, "heads": 2, "num_classes": 10},
}

# The first value of each axis is its simplest.
AXES: dict[str, Sequence[str]] = {
    "precision": ("32-true", "bf16-mixed", "16-mixed", "64-true"),
    "bottleneck": ("CategoricalBottleneck", *GRIDS),
    "estimator": tuple(ESTIMATORS),
    "kernel": ("auto", "plain", "blocked"),
    "objective": ("ELBO", "two samples", "IWAE", "PriorLikelihood"),
    "likelihood": ("Bernoulli", "OptimalGaussian", "Laplace", "DiscretizedLogisticMixture"),
    "data": ("mnist", "mnist dynamic", "folder", "small folder", "files"),
    "schedules": ("none", "steps", "open", "nested"),
    "optimizer": ("AdamW fused", "Adam", "SGD"),
    "clip": ("none", "norm", "value"),
    "accumulate": ("1", "2", "3"),
    "validate": ("epoch", "each batch", "2 batches", "2 batches across", "2 epochs", "never"),
    "log_every": ("1", "2", "3"),
    "pictures": ("0", "2", "1"),
    "callback": ("none", "GradientProbe", "ModelCheckpoint", "LearningRateMonitor", "EMA"),
    "logger": ("default", "false"),
    "nonfinite": ("stop", "skip"),
    "checkpoint_every": ("null", "1", "2"),
    "length": ("epochs", "steps", "both"),
    "end": ("end", "max_epochs", "max_steps", "max_time", "stop", "signal", "kill"),
    "at": tuple(str(batch) for batch in (3, 4, 2, 1, 5, 6, 7, 8)),
    "resume": ("last", "file", "moved", "no"),
    "tokens": ("no", "test", "val", "train"),
    "prior": ("UniformPrior", *PRIORS),
}
# How often the simplest is drawn where it should be oftener than the others.
_SIMPLE = {
    "precision": 0.4,
    "objective": 0.6,
    "optimizer": 0.6,
    "clip": 0.7,
    "callback": 0.6,
    "logger": 0.8,
    "length": 0.5,
    "end": 0.1,
    "resume": 0.5,
    "tokens": 0.7,
    "prior": 0.5,
}


def draw_joint(number: int) -> Joint:
    """Draw a value for each axis.

    Args:
        number: Which joint; the same number draws the same one.
    """
    draw = random.Random(f"joint {number}")
    joint: dict[str, str] = {}
    for axis, values in AXES.items():
        share = _SIMPLE.get(axis, 0.0)
        joint[axis] = values[0] if draw.random() < share else draw.choice(values)
    if draw.random() < 0.4:
        joint["bottleneck"] = AXES["bottleneck"][0]
    # Most of what is refused is refused for one reason, which a few joints are enough for.
    if joint["bottleneck"] in GRIDS and draw.random() < 0.95:
        joint["estimator"] = draw.choice(_ON_GRIDS)
    if joint["objective"] == "IWAE" and draw.random() < 0.7:
        joint["bottleneck"] = draw.choice(ESTIMATED[:3])  # which have no auxiliary loss
        joint["estimator"] = draw.choice(("GumbelSoftmax", "StraightThrough", "VIMCO"))
    if joint["precision"] == "64-true" and draw.random() < 0.5:
        joint["precision"] = "32-true"
    if joint["kernel"] == "blocked" and draw.random() < 0.8:
        joint["estimator"] = draw.choice(("GumbelSoftmax", "StraightThrough", "ReinMax"))
    return joint


def with_values(joint: Joint, changes: Sequence[str]) -> Joint:
    """Change some values of a joint.

    Args:
        joint: The joint.
        changes: Each ``axis=value``.

    Raises:
        ValueError: There is no such axis, or it has no such value.
    """
    found = dict(joint)
    for change in changes:
        axis, _, value = change.partition("=")
        if value not in AXES.get(axis, ()):
            allowed = AXES.get(axis, tuple(AXES))
            raise ValueError(f"{change!r}: {axis!r} must be one of {', '.join(allowed)}")
        found[axis] = value
    return found


def simpler(joint: Joint) -> Iterator[tuple[str, Joint]]:
    """Yield each joint that has the simplest value of one more axis, with that axis.

    Args:
        joint: The joint.
    """
    for axis, values in AXES.items():
        if joint[axis] != values[0]:
            yield axis, {**joint, axis: values[0]}


def described(joint: Joint) -> str:
    """Name what is not the simplest, as `with_values` takes it.

    Args:
        joint: The joint.
    """
    words = [f"{axis}={joint[axis]}" for axis, values in AXES.items() if joint[axis] != values[0]]
    return " ".join(f"'{word}'" if " " in word else word for word in words) or "precision=32-true"
