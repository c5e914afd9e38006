"""The fused code book in Triton: which tiles, which launches, and the gradients' way back."""

from functools import partial
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from dvae.kernels import triton_kernels as kernels
from dvae.kernels.parts import Book, Relaxation, Sweep

__all__ = ["Tile", "precision_of", "refusal", "tile_of", "triton_sweep"]

# C and D are held as a whole by a tile: beyond this its registers run out.
_WIDEST = 256
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Programs that a launch should have at least for each processor of the GPU.
_WAVES = 4


class Tile(NamedTuple):
    """How a kernel is cut and compiled.

    Attributes:
        M: Rows of a tile.
        K: Codes of a tile.
        warps: Warps of a program.
        stages: Steps of its loop that are in flight.
    """

    M: int
    K: int
    warps: int
    stages: int


# By kernel, arithmetic of its products, and the larger of C and D, padded. None spills (see
# `benchmarks.gpu.registers`); of half precision and 64 it is the quickest of those that do not, on
# an H100 (`benchmarks/results/gpu_tiles.csv`).
_TILES = {
    ("forward", "half", 64): Tile(64, 32, 4, 2),
    ("forward", "half", 256): Tile(64, 32, 8, 2),
    ("forward", "tf32", 64): Tile(64, 32, 8, 2),
    ("forward", "tf32", 256): Tile(32, 32, 8, 2),
    ("forward", "ieee", 64): Tile(32, 32, 4, 2),
    ("forward", "ieee", 256): Tile(16, 16, 4, 1),
    ("codes_backward", "half", 64): Tile(32, 32, 4, 2),
    ("codes_backward", "half", 256): Tile(32, 64, 8, 1),
    ("codes_backward", "tf32", 64): Tile(32, 64, 8, 2),
    ("codes_backward", "tf32", 256): Tile(16, 32, 8, 1),
    ("codes_backward", "ieee", 64): Tile(16, 16, 8, 2),
    ("codes_backward", "ieee", 256): Tile(16, 16, 8, 1),
}


def tile_of(kernel: str, arithmetic: str, widest: int) -> Tile:
    """Look up the tile of a kernel.

    Args:
        kernel: Its name. The deterministic ``rows_backward`` has the tiles of the sweep forward.
        arithmetic: Arithmetic of its products: ``half``, or that of `precision_of`.
        widest: The larger of C and D, padded to powers of two.
    """
    if _interpreted():
        return Tile(16, 16, 4, 1)
    name = "forward" if kernel == "rows_backward" else kernel
    return _TILES[name, arithmetic, 64 if widest <= 64 else 256]


def precision_of() -> str:
    """Choose the arithmetic of products of float32 by the rule that torch's own products follow."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def _interpreted() -> bool:
    """Say whether Triton runs kernels in its interpreter, on a CPU (TRITON_INTERPRET=1)."""
    return bool(triton.knobs.runtime.interpret)


def refusal(device: torch.device, features: int, dim: int, dtype: torch.dtype) -> str:
    """Say why Triton cannot take these tensors, or nothing where it can.

    Args:
        device: Device of the features.
        features: C.
        dim: D.
        dtype: Dtype of the features.
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
        seed: Seed of the noise, ``()``.

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
    ) -> tuple[Tensor, ...]:
        tau = relaxation.tau.to(h.device, torch.float32)
        inputs = [_contiguous(x) for x in (h, weight, bias, codebook, log_prior)]
        n, dim = len(h), codebook.shape[1]
        mixture = torch.empty(n, dim, dtype=torch.float32, device=h.device)
        kl = torch.empty(n, dtype=torch.float32, device=h.device)
        sums = torch.empty(5, n, dtype=torch.float32, device=h.device)
        index, mode = torch.empty(2, n, dtype=torch.int64, device=h.device)
        keys = torch.empty(2, n, dtype=torch.int32, device=h.device)
        others = (tau, seed, mixture, index, mode, kl, sums, keys)
        _launch("forward", inputs, relaxation, others)
        ctx.set_materialize_grads(False)
        log_sum = sums[0] + sums[1].log()
        ctx.mark_non_differentiable(index, mode, log_sum)
        ctx.relaxation = relaxation
        ctx.save_for_backward(*inputs, tau, mixture, index, sums, keys)
        code = codebook[index] if relaxation.hard else mixture.to(h.dtype)
        return code, index, kl, mode, log_sum

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, tau, mixture, index, sums, keys = ctx.saved_tensors
        h, weight, _, codebook, _ = inputs
        hard, needed = ctx.relaxation.hard, ctx.needs_input_grad
        grad = torch.zeros_like(mixture) if grads[0] is None else grads[0]
        grad = grad.to(h.dtype).contiguous()
        grad_kl = torch.zeros_like(sums[0]) if grads[2] is None else grads[2].contiguous()
        mean = (grad.float() * mixture).sum(-1)
        rows = (tau, grad, mean, grad_kl, sums, keys)
        call = partial(_launch, inputs=inputs, relaxation=ctx.relaxation)
        # One sweep for all gradients adds up those of the features in an order of its own.
        both = needed[0] and any(needed[1:5])
        together = both and not torch.are_deterministic_algorithms_enabled()
        of_h = torch.zeros(h.shape, dtype=torch.float32, device=h.device) if needed[0] else None
        found: list[Tensor | None] = [of_h, None, None, None, None]
        if of_h is not None and not together:
            call("rows_backward", others=(*rows, of_h))
        if any(needed[1:5]):
            parts = _parts(len(weight), codebook.shape[1], h)
            # Where a vector is drawn, the code book's gradient does not come from the softmax.
            out = [
                None if x is None or (hard and x is codebook) else _empty(parts, x)
                for x in inputs[1:]
            ]
            call("codes_backward", others=(*rows, of_h, *out), parts=parts, all_of_them=together)
            found[1:] = [None if x is None else x.sum(0) for x in out]
        if hard:
            summed = torch.zeros(codebook.shape, dtype=torch.float32, device=h.device)
            found[3] = summed.index_add_(0, index, grad.float())
        kept = [
            g.to(x.dtype) if g is not None and x is not None and need else None
            for g, x, need in zip(found, inputs, needed[:5], strict=True)
        ]
        return (*kept, None, None)


def _empty(parts: int, x: Tensor) -> Tensor:
    return torch.empty((parts, *x.shape), dtype=torch.float32, device=x.device)


def _parts(num_codes: int, dim: int, h: Tensor) -> int:
    """Cut the rows into as many parts as keep all processors of the GPU busy."""
    if h.device.type != "cuda":
        return 2  # the interpreter: so that sums over parts are tested
    tile = tile_of("codes_backward", _arithmetic(h), max(_pads(h.shape[1], dim)))
    wanted = _WAVES * int(torch.cuda.get_device_properties(h.device).multi_processor_count)
    most, tiles = (int(triton.cdiv(*pair)) for pair in ((len(h), 4 * tile.M), (num_codes, tile.K)))
    return max(1, min(most, wanted // tiles))


def _arithmetic(h: Tensor) -> str:
    return "half" if h.element_size() == 2 else precision_of()


def _pads(*widths: int) -> list[int]:
    """Pad to powers of two, of 16 at least."""
    return [max(16, triton.next_power_of_2(width)) for width in widths]


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().contiguous()


def _launch(
    kernel: str,
    inputs: list[Any],
    relaxation: Relaxation,
    others: tuple[Tensor | None, ...],
    parts: int = 0,
    all_of_them: bool = False,
) -> None:
    """Launch a kernel over tiles of all rows, or of all codes and so many parts of the rows."""
    h, weight, bias, codebook, log_prior = inputs
    pads = _pads(h.shape[1], codebook.shape[1])
    tile = tile_of(kernel, _arithmetic(h), max(pads))
    flags: dict[str, Any] = {"HAS_BIAS": bias is not None, "HAS_PRIOR": log_prior is not None}
    flags["NOISY"] = relaxation.noisy
    flags["PRECISION"] = precision_of()
    grid: tuple[int, ...] = (triton.cdiv(len(h), tile.M),)
    if parts:
        grid = (triton.cdiv(len(weight), tile.K), parts)
        flags |= {"HARD": relaxation.hard, "ALL": all_of_them}
    # A pointer that is not there is never followed.
    pointers = [h if x is None else x for x in (*inputs, *others)]
    with torch.cuda.device_of(h):
        getattr(kernels, kernel)[grid](
            *pointers,
            len(h),
            len(weight),
            h.shape[1],
            codebook.shape[1],
            **flags,
            C_PAD=pads[0],
            D_PAD=pads[1],
            M=tile.M,
            K=tile.K,
            num_warps=tile.warps,
            num_stages=tile.stages,
            # As it always was; Triton 3.9 warns of another default to come.
            enable_fp_fusion=True,
        )
