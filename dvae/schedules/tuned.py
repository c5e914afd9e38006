"""Not a schedule but a tuner: the temperature goes as high as noise hides the bias."""

from dataclasses import dataclass

from dvae.scalars import check_count
from dvae.schedules.base import Mover, Schedule

__all__ = ["Tuned"]

# Neighbours of a grid of temperatures differ by this factor.
_FACTOR = 2**0.5


@dataclass(frozen=True)
class Tuned(Mover):
    r"""Settings of a tuner, which `Anneal` takes in place of a schedule of a temperature.

    It measures, on the batches of training and with noise of its own, the gradient in the logits at
    a grid of temperatures, and moves the temperature towards the highest one at which
    :math:`\mathrm{bias}^2 \le \mathrm{variance} / n`; see `dvae.callbacks.tuner`. It begins at the
    temperature that the model has. All defaults are meant to stay.

    Args:
        low: Lowest temperature tried, above 0; an estimator may allow only higher ones.
        high: Highest temperature tried, at least 4 times the lowest.
        every: Optimizer steps between measurements, at least 1.
        n_eff: Steps n that the optimizer averages over in effect at the highest learning rate,
            above 0; as the rate falls, n grows as one over it. More of them bear a lower
            temperature.
        follow: Schedule that moves the temperature instead; the tuner then only measures.

    Raises:
        ValueError: A value outside its range.
    """

    low: float = 0.25
    high: float = 4.0
    every: int = 20
    n_eff: float = 20.0
    follow: Schedule | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_count("Tuned.every", self.every, 1)
        if not 1e-3 <= self.low <= self.high / 4 <= 1e3:
            raise ValueError(
                "Tuned.low must be >= 0.001 and Tuned.high from 4 times that to 4000; "
                f"got {self.low:g} and {self.high:g}"
            )
        if not isinstance(self.follow, Schedule | None):
            raise ValueError(f"Tuned.follow must be a schedule; got {self.follow!r}")
        if not 0 < self.n_eff < 1e9:
            raise ValueError(f"Tuned.n_eff must be > 0 and < 1e9; got {self.n_eff:g}")

    def grid(self, least: float = 0.0) -> list[float]:
        r"""Return the temperatures to try, ascending, each :math:`\sqrt 2` times the one before.

        Args:
            least: Lowest temperature that the estimator allows.

        Raises:
            ValueError: There are fewer than three.
        """
        taus, tau = [], max(self.low, least)
        while tau <= self.high * 1.001:
            taus.append(tau)
            tau *= _FACTOR
        if len(taus) < 3:
            raise ValueError(
                f"Tuned.high must be at least twice the estimator's lowest temperature, {least:g}; "
                f"got {self.high:g}"
            )
        return taus

    def check_run(self, run_steps: int | None) -> None:
        """Ask the schedule that is followed, if there is one; see `Mover.check_run`."""
        if self.follow is not None:
            self.follow.check_run(run_steps)
