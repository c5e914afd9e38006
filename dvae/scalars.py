"""Named scalars of a module that a schedule may move: buffers with a stated range."""

import inspect
import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import get_args

import torch
from torch import Tensor, nn

__all__ = [
    "LEAST",
    "MAX_COUNT",
    "Range",
    "ScalarRef",
    "annealable_scalars",
    "check_choice",
    "check_count",
    "register_scalar",
    "settings_of",
]

MAX_COUNT = 2**31 - 1
"""What torch takes for a size, a count and a seed everywhere."""

LEAST = 1e-15
"""What float32 can divide by, twice: 1e3 / LEAST**2 is still finite."""

_FLOAT32 = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Range:
    """The values a scalar may take.

    Attributes:
        low: The lower end.
        low_allowed: Whether the lower end itself is allowed; if not, what is allowed begins
            `LEAST` above it.
        high: The upper end, always allowed if finite.
    """

    low: float
    low_allowed: bool = True
    high: float = math.inf

    def __str__(self) -> str:
        low = f"{'>=' if self.low_allowed else '>'} {self.low:g}"
        return low if math.isinf(self.high) else f"{low} and <= {self.high:g}"

    def check(self, name: str, value: float) -> None:
        """Refuse a value outside the range.

        Args:
            name: What the value is called in the message.
            value: The value.

        Raises:
            ValueError: The value is not finite, outside the range, more than float32 holds, or so
                little above 0 that float32 cannot divide by it.
        """
        fits = (
            isinstance(value, Real)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and (self.low <= value if self.low_allowed else self.low < value)
            and value <= self.high
        )
        if not fits:
            raise ValueError(f"{name} must be a number {self}; got {value!r}")
        if not self.low_allowed and value - self.low < LEAST:
            raise ValueError(
                f"{name} must be >= {self.low + LEAST:g}, below which float32 cannot divide by it; "
                f"got {value:g}"
            )
        if abs(value) > _FLOAT32:
            raise ValueError(f"{name} must be within {_FLOAT32:.3g}; got {value:g}")


def check_choice(name: str, value: object, kind: object) -> None:
    """Refuse a word that is not among those of a `Literal`.

    Args:
        name: What the value is called in the message.
        value: The value.
        kind: The `Literal`.

    Raises:
        ValueError: It is another word.
    """
    if value not in get_args(kind):
        raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}; got {value!r}")


def check_count(name: str, value: int, least: int) -> None:
    """Refuse a count below the least allowed, or larger than a size can be.

    Args:
        name: What the value is called in the message.
        value: The value.
        least: The smallest count allowed.

    Raises:
        ValueError: The value is not an integer, too small, or of more than 63 bits.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}; got {value!r}")
    if value >= 2**63:
        raise ValueError(f"{name} must be below 2^63; got {value!r}")


@dataclass(frozen=True)
class ScalarRef:
    """A scalar found in a module: its buffer and the range it was declared with."""

    path: str
    buffer: Tensor
    range: Range


def register_scalar(module: nn.Module, name: str, value: float, allowed: Range) -> None:
    """Add a scalar to a module as a float32 buffer, so that it travels in every checkpoint.

    Args:
        module: Where it belongs.
        name: Its name, also that of the buffer.
        value: The starting value.
        allowed: The values it may take, now and when annealed.

    Raises:
        ValueError: The value is outside the range.
    """
    allowed.check(name, value)
    module.register_buffer(name, torch.tensor(float(value)))
    module.__dict__.setdefault("_scalar_ranges", {})[name] = allowed


def annealable_scalars(module: nn.Module) -> dict[str, ScalarRef]:
    """List the scalars declared anywhere in a module.

    Args:
        module: The root of the search.

    Returns:
        The scalars by their dotted path from the root.
    """
    found: dict[str, ScalarRef] = {}
    for prefix, child in module.named_modules():
        for name, allowed in child.__dict__.get("_scalar_ranges", {}).items():
            path = f"{prefix}.{name}" if prefix else name
            found[path] = ScalarRef(path, child.get_buffer(name), allowed)
    return found


def settings_of(module: nn.Module) -> str:
    """Name the constructor's arguments that a module keeps, with what they are now.

    Args:
        module: The module.
    """
    names = inspect.signature(type(module)).parameters
    values = {name: getattr(module, name) for name in names if hasattr(module, name)}
    numbers = {k: v.item() if isinstance(v, Tensor) else v for k, v in values.items()}
    return ", ".join(
        f"{k}={v:g}" if isinstance(v, float) else f"{k}={v!r}" for k, v in numbers.items()
    )
