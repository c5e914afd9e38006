"""The fused code book in Triton: which tiles, which launches, and the gradients' way back."""

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from dvae.kernels import triton_kernels as kernels
from dvae.kernels.sweep import Book, Relaxation, Sweep

__all__ = ["refusal", "triton_sweep"]

# C and D are held as a whole by a tile: beyond this its registers run out.
_WIDEST = 256
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Rows, codes, warps and pipeline stages of the tiles that are tried. The smallest fits anywhere.
_TILES = [
    *((128, 64, 8, 2), (64, 64, 8, 2), (64, 64, 4, 2), (64, 32, 4, 1)),
    *((32, 32, 4, 2), (32, 32, 4, 1), (32, 16, 8, 1), (16, 32, 4, 1), (16, 16, 4, 1)),
]
_SHARED_BYTES = 96 * 2**10
_WRITTEN_OUT = 1024


def _interpreted() -> bool:
    """Say whether Triton runs kernels in its interpreter, on a CPU (TRITON_INTERPRET=1)."""
    return bool(triton.knobs.runtime.interpret)


def _fitting(configs: list[Any], arguments: dict[str, Any], **others: Any) -> list[Any]:
    """Leave out the tiles that cannot be good: too much shared memory, or too long to compile."""
    size = arguments["h_ptr"].element_size()
    across = others["C_PAD"] + others["D_PAD"]
    kept = []
    for config in configs:
        m, k = config.kwargs["M"], config.kwargs["K"]
        # Without tensor cores a product is written out number by number.
        short = size < 4 or others["PRECISION"] != "ieee" or m * k <= _WRITTEN_OUT
        if short and (m + k) * across * size <= _SHARED_BYTES:
            kept.append(config)
    return kept


def _tuned(kernel: Any) -> Any:
    """Let Triton choose among the tiles, anew for each size but that of the batch."""
    tiles = [(16, 16, 4, 1)] if _interpreted() else _TILES
    configs = [
        triton.Config({"M": m, "K": k}, num_warps=warps, num_stages=stages)
        for m, k, warps, stages in tiles
    ]
    key = ["num_codes", "C", "D", "HAS_BIAS", "HAS_PRIOR", "NOISY", "PRECISION"]
    return triton.autotune(configs, key, prune_configs_by={"early_config_prune": _fitting})(kernel)


_forward = _tuned(kernels.forward)
_rows = _tuned(kernels.rows_backward)
_codes = _tuned(kernels.codes_backward)


def refusal(device: torch.device, features: int, dim: int, dtype: torch.dtype) -> str:
    """Say why Triton cannot take these tensors, or nothing where it can.

    Args:
        device: Of the features.
        features: C.
        dim: D.
        dtype: Of the features.
    """
    if device.type != "cuda" and not (device.type == "cpu" and _interpreted()):
        return f"it needs a CUDA device and got {device.type}"
    if device.type == "cpu" and dtype == torch.bfloat16:
        return "Triton's interpreter multiplies no bfloat16"
    if dtype not in _DTYPES:
        return f"it takes float32, bfloat16 and float16 and got {dtype}"
    if max(features, dim) > _WIDEST:
        return f"it takes at most {_WIDEST} features and numbers in a code; got {features}, {dim}"
    return ""


def triton_sweep(h: Tensor, book: Book, relaxation: Relaxation, seed: Tensor) -> Sweep:
    """Do the sweep in memory of N D numbers on a GPU, with products accumulated in float32.

    Args:
        h: Features ``(N, C)``.
        book: The code book.
        relaxation: The softmax that the gradient goes through.
        seed: Of the noise, ``()``.

    Returns:
        What `gumbel_codebook` and `straight_through_codebook` return.
    """
    tensors = (book.weight, book.bias, book.codebook, book.log_prior)
    return Sweep(*_TritonSweep.apply(h, *tensors, relaxation, seed))


class _TritonSweep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        codebook: Tensor,
        log_prior: Tensor | None,
        relaxation: Relaxation,
        seed: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tau = relaxation.tau.to(h.device, torch.float32)
        inputs = [_contiguous(x) for x in (h, weight, bias, codebook, log_prior)]
        n, dim = len(h), codebook.shape[1]
        mixture = torch.empty(n, dim, dtype=torch.float32, device=h.device)
        kl = torch.empty(n, dtype=torch.float32, device=h.device)
        sums = torch.empty(5, n, dtype=torch.float32, device=h.device)
        index, mode = torch.empty(2, n, dtype=torch.int64, device=h.device)
        _launch(_forward, n, inputs, tau, seed, (mixture, index, mode, kl, sums), relaxation)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(index, mode)
        ctx.relaxation = relaxation
        ctx.save_for_backward(*inputs, tau, seed, mixture, index, sums)
        code = codebook[index] if relaxation.hard else mixture.to(h.dtype)
        return code, index, kl, mode

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, tau, seed, mixture, index, sums = ctx.saved_tensors
        h, weight, _, codebook, _ = inputs
        hard, needed = ctx.relaxation.hard, ctx.needs_input_grad
        grad = torch.zeros_like(mixture) if grads[0] is None else grads[0]
        grad = grad.to(h.dtype).contiguous()
        grad_kl = torch.zeros_like(sums[0]) if grads[2] is None else grads[2].contiguous()
        mean = (grad.float() * mixture).sum(-1)
        rows = (grad, mean, grad_kl, sums)
        found = [None if x is None else torch.empty_like(x) for x in inputs]
        of_h, of_weight, of_bias, of_codebook, of_prior = found
        if needed[0]:
            _launch(_rows, len(h), inputs, tau, seed, (*rows, of_h), ctx.relaxation)
        if any(needed[1:5]):
            out = (of_weight, of_bias, of_codebook, of_prior)
            _launch(
                *(_codes, len(weight), inputs, tau, seed, (*rows, *out), ctx.relaxation),
                by_codes=True,
            )
        if hard:
            summed = torch.zeros(codebook.shape, dtype=torch.float32, device=h.device)
            found[3] = summed.index_add_(0, index, grad.float()).to(codebook.dtype)
        kept = [g if need else None for g, need in zip(found, needed[:5], strict=True)]
        return (*kept, None, None)


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().contiguous()


def _launch(
    kernel: Any,
    count: int,
    inputs: list[Any],
    tau: Tensor,
    seed: Tensor,
    others: tuple[Tensor | None, ...],
    relaxation: Relaxation,
    by_codes: bool = False,
) -> None:
    """Launch a kernel over tiles of so many rows (or codes)."""
    h, weight, bias, codebook, log_prior = inputs
    flags: dict[str, Any] = {"HAS_BIAS": bias is not None, "HAS_PRIOR": log_prior is not None}
    flags["NOISY"] = relaxation.noisy
    # The rule that torch's own products follow.
    exact = torch.get_float32_matmul_precision() == "highest"
    flags["PRECISION"] = "ieee" if exact else "tf32"
    if by_codes:
        flags["HARD"] = relaxation.hard
    tile = "K" if by_codes else "M"
    # A pointer that is not there is never followed.
    pointers = [h if x is None else x for x in (*inputs, tau, seed, *others)]
    with torch.cuda.device_of(h):
        kernel[lambda meta: (triton.cdiv(count, meta[tile]),)](
            *pointers,
            len(h),
            len(weight),
            h.shape[1],
            codebook.shape[1],
            **flags,
            C_PAD=max(16, triton.next_power_of_2(h.shape[1])),
            D_PAD=max(16, triton.next_power_of_2(codebook.shape[1])),
            # As it always was; Triton 3.9 warns of another default to come.
            enable_fp_fusion=True,
        )
