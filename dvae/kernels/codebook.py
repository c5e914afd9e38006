r"""A draw from a code book without its N x K matrices: the layer that `dvae.kernels` is about."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from dvae.kernels.blocked import blocked_sweep
from dvae.kernels.parts import Book, Relaxation, Sweep
from dvae.kernels.reference import reference_sweep
from dvae.scalars import LEAST, check_choice

__all__ = [
    "Backend",
    "gumbel_codebook",
    "reinmax_codebook",
    "straight_through_codebook",
    "sweep",
    "triton_refusal",
]

Backend = Literal["auto", "reference", "blocked", "triton"]
"""What computes a code book: whole matrices, blocks of them, or Triton; ``auto`` chooses."""


def gumbel_codebook(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    codebook: Tensor,
    tau: Tensor | float,
    seed: Tensor | int,
    hard: bool = False,
    log_prior: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draw vectors of a code book by Gumbel-softmax, and compute the KL of what they come from.

    .. math:: \mathrm{softmax}((h W^\top + b + G) / \tau) \, E

    is attention with noise on its scores, and is computed as attention is: block by block over the
    K codes with a running softmax. The noise is a function of the seed, the row and the column
    (`dvae.kernels.gumbel_noise`), so the backward pass draws it again; it is float32, and finite,
    for all dtypes, as are softmax and KL: bfloat16 is for products alone. Memory is O(N D + K D),
    not O(N K). The gradients are first derivatives only.

    Args:
        h: Features ``(N, C)`` in float64, float32, bfloat16 or float16.
        weight: W, ``(K, C)``.
        bias: b, ``(K,)``, or ``None``; ``-inf`` forbids a code.
        codebook: E, ``(K, D)``.
        tau: Temperature, above 0; no gradient goes to it.
        seed: A 64-bit integer, or a tensor of one, ``()``, by `dvae.kernels.draw_seed`.
        hard: Whether the vector drawn goes forward: then the gradient of h, W and b is that of
            the mixture (straight-through), and that of E the one of the vector drawn.
        log_prior: Normalised log-probabilities of the prior, ``(K,)``, finite; uniform by default.
        backend: ``reference`` is plain torch with all matrices, ``blocked`` works on any device,
            ``triton`` needs CUDA; ``auto`` takes Triton where it can, else ``blocked``.

    Returns:
        The code ``(N, D)`` in the dtype of h; the index drawn, 64-bit integers ``(N,)``, an exact
        draw from the categorical at any temperature; and the exact KL of the categorical (not of
        the relaxed density) to the prior, nats per row, ``(N,)``, at least in float32.

    Raises:
        ValueError: Shapes or dtypes that do not go together, an unknown backend, or one that is
            not available for these tensors.

    References:
        E. Jang, S. Gu, B. Poole, 2017, arXiv 1611.01144; T. Dao, D. Fu, S. Ermon, A. Rudra,
        C. Re, 2022, arXiv 2205.14135.

    Example:
        >>> import torch
        >>> h, weight, codebook = torch.ones(5, 3), torch.randn(9, 3), torch.randn(9, 4)
        >>> code, index, kl = gumbel_codebook(h, weight, None, codebook, tau=0.5, seed=1)
        >>> code.shape, index.shape, kl.shape
        (torch.Size([5, 4]), torch.Size([5]), torch.Size([5]))
    """
    relaxation = Relaxation(_temperature(tau, h), hard)
    found = sweep(h, Book(weight, bias, codebook, log_prior), relaxation, seed, backend)
    return found.code, found.index, found.kl


def straight_through_codebook(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    codebook: Tensor,
    tau: Tensor | float,
    seed: Tensor | int,
    log_prior: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draw vectors of a code book; their gradient goes through the softmax without the noise.

    Forward :math:`E_i` with i drawn from :math:`\mathrm{softmax}(h W^\top + b)`; backward, for h, W
    and b the gradient of :math:`\mathrm{softmax}((h W^\top + b) / \tau) E`, for E that of the
    vector drawn.

    Args:
        h: Features ``(N, C)``.
        weight: W, ``(K, C)``.
        bias: b, ``(K,)``, or ``None``.
        codebook: E, ``(K, D)``.
        tau: Temperature of the backward softmax, above 0.
        seed: Seed of the noise.
        log_prior: Normalised log-probabilities of the prior, ``(K,)``; uniform by default.
        backend: See `gumbel_codebook`.

    Returns:
        Code, index and KL; see `gumbel_codebook`.

    Raises:
        ValueError: See `gumbel_codebook`.

    References:
        Y. Bengio, N. Leonard, A. Courville, 2013, arXiv 1308.3432.
    """
    relaxation = Relaxation(_temperature(tau, h), hard=True, noisy=False)
    found = sweep(h, Book(weight, bias, codebook, log_prior), relaxation, seed, backend)
    return found.code, found.index, found.kl


def reinmax_codebook(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    codebook: Tensor,
    tau: Tensor | float,
    seed: Tensor | int,
    log_prior: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Draw vectors of a code book; their gradient is ReinMax's, of second order.

    Forward :math:`E_i` with i drawn from :math:`q = \mathrm{softmax}(h W^\top + b)`; backward, for
    the logits, :math:`2 J(\pi) u - \frac12 J(q) u` with :math:`u = E g`, :math:`\pi` half way
    between the draw and :math:`\mathrm{softmax}((h W^\top + b) / \tau)`, and J the Jacobian of a
    softmax; for E the gradient of the vector drawn.

    Args:
        h: Features ``(N, C)``.
        weight: W, ``(K, C)``.
        bias: b, ``(K,)``, or ``None``.
        codebook: E, ``(K, D)``.
        tau: Temperature, above 0.
        seed: Seed of the noise.
        log_prior: Normalised log-probabilities of the prior, ``(K,)``; uniform by default.
        backend: See `gumbel_codebook`; ``triton`` has no ReinMax, and ``auto`` is ``blocked``.

    Returns:
        Code, index and KL; see `gumbel_codebook`.

    Raises:
        ValueError: See `gumbel_codebook`.

    References:
        L. Liu, C. Dong, X. Liu, B. Yu, J. Gao, 2023, arXiv 2304.08612, algorithm 2.
    """
    relaxation = Relaxation(_temperature(tau, h), hard=True, noisy=False, heun=True)
    found = sweep(h, Book(weight, bias, codebook, log_prior), relaxation, seed, backend)
    return found.code, found.index, found.kl


@torch.compiler.disable  # type: ignore[untyped-decorator]
def sweep(
    h: Tensor, book: Book, relaxation: Relaxation, seed: Tensor | int, backend: Backend = "auto"
) -> Sweep:
    """Do what `gumbel_codebook` does, and find each row's most probable code besides.

    It is not compiled: it is a loop over blocks, or a kernel, as it is.

    Args:
        h: Features ``(N, C)``.
        book: The code book.
        relaxation: The softmax that the gradient goes through.
        seed: Seed of the noise, ``()``; or one for each of the images whose rows these are,
            ``(B,)``, which Triton does not take.
        backend: See `gumbel_codebook`.

    Returns:
        What it finds; the KL of a row without a finite maximum (NaN, +inf, or all codes forbidden)
        is NaN.

    Raises:
        ValueError: See `gumbel_codebook`, or the rows are not those of as many images as there are
            seeds.
    """
    _check(h, book, relaxation)
    seed = _placed(seed, h.device)
    if seed.dim() and len(h) % max(1, len(seed)):
        raise ValueError(f"rows must be a multiple of the {len(seed)} seeds; got {len(h)} rows")
    run = _pick(backend, h, book, relaxation, one_seed=not seed.dim())
    relaxation = replace(relaxation, tau=_placed(relaxation.tau, h.device))
    # Not under autocast: logits of a large code book need the digits of float32.
    with torch.autocast(h.device.type, enabled=False):
        found = run(h, book, relaxation, seed)
    if book.bias is None:
        return found
    # Within a sweep a forbidden code has a very low logit, and a row of nothing else a softmax.
    forbidden = book.bias.detach().index_select(0, found.mode) == -torch.inf
    return replace(found, kl=found.kl.masked_fill(forbidden, torch.nan))


def _placed(value: Tensor | int, device: torch.device) -> Tensor:
    """Put a number on the device without a copy, which the host would wait for."""
    if isinstance(value, Tensor):
        if value.device == device:
            return value
        return torch.full((), value.item(), dtype=value.dtype, device=device)
    return torch.full((), value, dtype=torch.int64, device=device)


def triton_refusal(device: torch.device, features: int, dim: int, dtype: torch.dtype) -> str:
    """Say why the Triton version cannot run, or nothing where it can.

    Args:
        device: Device of the features.
        features: C.
        dim: D.
        dtype: Dtype of the features.
    """
    if find_spec("triton") is None:
        return "the package triton is not installed"
    from dvae.kernels.triton_sweep import refusal

    return refusal(device, features, dim, dtype)


def _temperature(tau: Tensor | float, h: Tensor) -> Tensor:
    """Make a tensor of a number, as precise as the computation is."""
    if isinstance(tau, Tensor):
        return tau
    return torch.tensor(tau, dtype=torch.promote_types(h.dtype, torch.float32))


def _pick(
    backend: Backend, h: Tensor, book: Book, relaxation: Relaxation, one_seed: bool
) -> Callable[..., Sweep]:
    check_choice("backend", backend, Backend)
    if backend == "reference":
        return reference_sweep
    if backend == "blocked" or (backend == "auto" and h.device.type != "cuda"):
        return blocked_sweep
    reason = triton_refusal(h.device, h.shape[1], book.codebook.shape[1], h.dtype)
    if relaxation.heun:
        reason = "it has no ReinMax"
    if not reason and not one_seed:
        reason = "it takes one seed for all rows"
    if not reason:
        from dvae.kernels.triton_sweep import triton_sweep

        return triton_sweep
    if backend == "triton":
        raise ValueError(f"backend='triton' cannot run here: {reason}; allowed is 'blocked'")
    return blocked_sweep


def _check(h: Tensor, book: Book, relaxation: Relaxation) -> None:
    if h.dim() != 2 or not h.is_floating_point():
        raise ValueError(
            f"h must be floating-point of shape (N, C); got {h.dtype} of shape {tuple(h.shape)}"
        )
    k = len(book.weight)
    shapes = {
        "weight": (book.weight, (k, h.shape[1])),
        "bias": (book.bias, (k,)),
        "codebook": (book.codebook, (k, book.codebook.shape[-1])),
        "log_prior": (book.log_prior, (k,)),
    }
    for name, (x, shape) in shapes.items():
        if x is None:
            continue
        if x.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}; got {tuple(x.shape)}")
        if name != "log_prior" and x.dtype != h.dtype:
            raise ValueError(f"{name} must have the dtype of h, {h.dtype}; got {x.dtype}")
    tau = relaxation.tau
    # A value on the device is not waited for.
    if tau.dim() or (tau.device.type == "cpu" and not tau > 0):
        raise ValueError(f"tau must be one number above 0; got {tau.tolist()}")
    if tau.device.type == "cpu" and tau < LEAST:
        raise ValueError(
            f"tau must be >= {LEAST:g}, below which float32 cannot divide by it; got {tau:g}"
        )
