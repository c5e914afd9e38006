"""How a run goes on from another run's weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dvae.scalars import check_choice

__all__ = ["Carry", "Finetune"]

Carry = Literal["restart", "continue", "hold"]
"""What becomes of the checkpoint's temperature; see `Finetune`."""


@dataclass(frozen=True)
class Finetune:
    """How a run goes on from the weights of `init_from`; the defaults train all of it afresh.

    Args:
        freeze: Parts that stay as they are, by name: encoder, bottleneck, decoder, or any module or
            tensor below.
        grow: Whether a smaller code book, or fewer latents, grow to this model's size: codes are
            split, new latents start at the prior.
        temperature: ``restart``: the config's schedule from its start. ``continue``: from the
            checkpoint's value to the schedule's end, along its shape. ``hold``: the checkpoint's
            value throughout.
        lr_scale: Factors on the learning rate by the name of a part, each above 0; 1 elsewhere.

    Raises:
        ValueError: A temperature that is none of these.
    """

    freeze: Sequence[str] = ()
    grow: bool = False
    temperature: Carry = "restart"
    lr_scale: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("finetune.temperature", self.temperature, Carry)
