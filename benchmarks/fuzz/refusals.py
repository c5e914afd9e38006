"""Which joints are refused, and in what words."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.joint import ESTIMATED, GRIDS, Joint
from benchmarks.fuzz.laws import Broken
from benchmarks.fuzz.session import Session
from dvae.estimators import ESTIMATORS, PathwiseEstimator

__all__ = ["REFUSALS", "Refusal", "check_refused"]

_PATHWISE = [name for name, cls in ESTIMATORS.items() if issubclass(cls, PathwiseEstimator)]
_WITHOUT_LOSS = tuple(name for name in ESTIMATED if name != "DistanceCodebook")
_FUSED = ("GumbelSoftmax", "StraightThrough", "ReinMax")


@dataclass(frozen=True)
class Refusal:
    """Something that does not work, and says so.

    Attributes:
        applies: Whether a joint has it.
        says: What the one line holds.
    """

    applies: Callable[[Joint], bool]
    says: str


def _estimated(joint: Joint) -> bool:
    return joint["bottleneck"] in ESTIMATED


def _bound_alone(joint: Joint) -> tuple[str, ...]:
    return () if joint["bottleneck"] == "ResidualCodebook" else ("VIMCO",)


REFUSALS = (
    Refusal(lambda joint: joint["precision"] == "64-true", r"trainer\.precision must be"),
    Refusal(
        lambda joint: (
            joint["bottleneck"] == "ProjectedCodebook"
            and joint["kernel"] == "blocked"
            and joint["estimator"] not in _FUSED
        ),
        r"kernel='blocked' needs the estimator",
    ),
    Refusal(
        lambda joint: joint["callback"] == "GradientProbe" and not _estimated(joint),
        r"GradientProbe needs a DiscreteVAE whose bottleneck has an estimator",
    ),
    Refusal(
        lambda joint: (
            joint["objective"] == "IWAE"
            # FSQ and DiVeQ have no auxiliary loss that the bound would drop.
            and joint["bottleneck"] not in (*_WITHOUT_LOSS, "FSQ", "DiVeQ")
        ),
        r"IWAE",
    ),
    Refusal(
        lambda joint: (
            joint["objective"] == "IWAE"
            and _estimated(joint)
            and joint["estimator"] not in (*_PATHWISE, *_bound_alone(joint))
        ),
        r"bound|IWAE",
    ),
    Refusal(
        lambda joint: joint["objective"] == "PriorLikelihood" and joint["prior"] == "UniformPrior",
        r"has nothing to learn",
    ),
    Refusal(
        lambda joint: joint["callback"] == "LearningRateMonitor" and joint["logger"] == "false",
        r"LearningRateMonitor needs a logger",
    ),
    Refusal(
        lambda joint: joint["bottleneck"] in GRIDS and _estimated(joint) and _too_many(joint),
        r"max_states|codes|latents",
    ),
)


def _too_many(joint: Joint) -> bool:
    # RELAX is told how many latents there are, and not every grid's codes can be visited.
    if joint["estimator"] == "RELAX":
        return True
    visits = joint["estimator"] == "ExactEnumeration"
    return visits and joint["data"].startswith("mnist")


def check_refused(joint: Joint, run: Session, root: Path) -> bool:
    """Tell whether a run was refused, and ask that it was so rightly.

    Args:
        joint: The joint.
        run: The first run of it.
        root: Folder of the runs.

    Raises:
        Broken: What works was refused, what does not was begun or left a folder, or the line says
            something else.
    """
    reasons = [refusal.says for refusal in REFUSALS if refusal.applies(joint)]
    if run.error is not None or run.code != 2:
        if reasons and run.error is None and run.code == 0:
            raise Broken("refusal", f"was not refused, which should say {' or '.join(reasons)}")
        return False
    if len(run.lines) != 1 or not any(re.search(reason, run.lines[0]) for reason in reasons):
        said = "; ".join(run.lines) or run.output[-300:]
        raise Broken("refusal", f"should say {' or '.join(reasons) or 'nothing'}: {said[:300]}")
    if root.exists():
        raise Broken("refusal", f"it came after the run's folder: {run.lines[0][:300]}")
    return True
