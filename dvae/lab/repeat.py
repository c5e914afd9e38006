"""Many copies of a batch side by side, so that one call makes many independent draws."""

from torch import Tensor

from dvae.estimators.base import Integrand

__all__ = ["repeat"]


def repeat(f: Integrand, logits: Tensor, copies: int) -> tuple[Integrand, Tensor]:
    """Repeat a batch along its own axis.

    Args:
        f: Takes codes ``(S, B, ..., K)``, returns ``(S, B)``.
        logits: ``(B, ..., K)``.
        copies: How often, N.

    Returns:
        f for codes ``(S, N * B, ..., K)``, and logits ``(N * B, ..., K)`` without a gradient;
        example b of copy n is at ``n * B + b``.
    """
    batch = len(logits)

    def repeated(codes: Tensor) -> Tensor:
        values = f(codes.reshape(-1, batch, *codes.shape[2:]))
        return values.reshape(codes.shape[0], -1)

    wide = logits.detach().expand(copies, *logits.shape)
    return repeated, wide.reshape(copies * batch, *logits.shape[1:])
