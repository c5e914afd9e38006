"""Many joints, each that fails made as simple as it fails still."""

import gc
import tempfile
from pathlib import Path

from benchmarks.fuzz.joint import Joint, described, draw_joint, simpler
from benchmarks.fuzz.laws import Broken
from benchmarks.fuzz.session import image_folder
from benchmarks.fuzz.tally import Counts, Failure, TooLong, limit, tally
from benchmarks.fuzz.trial import Trial

__all__ = ["fuzz_joints", "joint_case"]

SLOW = 900.0  # seconds, on a busy core


def joint_case(number: int, joint: Joint | None = None, shrink: bool = False) -> str:
    """Put one joint to the test.

    Args:
        number: Which, and the seed of its runs.
        joint: Another one in its place, with that seed.
        shrink: Whether to look for a simpler one that breaks the same law.

    Returns:
        ``refused``, ``ended`` or ``resumed``.

    Raises:
        Failure: A law does not hold; the message is one line that tells how to repeat it.
    """
    joint = draw_joint(number) if joint is None else joint
    try:
        return _attempt(number, joint)
    except Broken as broken:
        if shrink:
            joint, broken = _shrunk(number, joint, broken)
        text = " ".join(str(broken).split())[:400]
        raise Failure(f"{text} [--case {number} --with {described(joint)}]") from broken


def fuzz_joints(count: int, seed: int = 0, show: int = 100, shrink: bool = True) -> Counts:
    """Try many joints.

    Args:
        count: How many.
        seed: Seed of the first.
        show: Failures printed at most.
        shrink: Whether to look for the simplest that fails.
    """
    return tally(range(seed, seed + count), lambda n: joint_case(n, shrink=shrink), show)


def _attempt(number: int, joint: Joint) -> str:
    with tempfile.TemporaryDirectory() as name, limit(SLOW):
        folder = Path(name)
        image_folder(folder / "images")
        try:
            return Trial(joint, number, folder, folder / "images").judge()
        except TooLong as error:
            raise Broken("time", f"took more than {SLOW:.0f} s") from error
        except Exception as error:
            if isinstance(error, Broken):
                raise
            # What a run left could not even be looked at.
            raise Broken("judging", repr(error)) from error
        finally:
            gc.collect()  # a trainer and its model are a reference cycle


def _shrunk(number: int, joint: Joint, broken: Broken) -> tuple[Joint, Broken]:
    for axis, _ in list(simpler(joint)):
        other = next(found for name, found in simpler(joint) if name == axis)
        try:
            _attempt(number, other)
        except Broken as found:
            if found.law == broken.law:
                joint, broken = other, found
    return joint, broken
