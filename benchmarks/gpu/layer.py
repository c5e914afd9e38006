"""The fused code book against eager code, a vector quantizer and its matrix products alone."""

import torch

from benchmarks.bottleneck import WAYS, WITHOUT_LOGITS, compare
from benchmarks.gpu.part import arguments, table

__all__ = ["main"]

# Grids of 8x8 or 7x7 positions of a batch of 128: a matrix of logits may be the quicker way.
SMALL = ((6272, 128, 64, 64), (8192, 512, 64, 64), (8192, 2048, 64, 64))

SIZES = {
    "cuda": ((65_536, 8192, 64, 64), (65_536, 8192, 256, 256), (8192, 8192, 64, 64)),
    "cpu": ((512, 1024, 64, 64),),
}
KINDS = (("bfloat16", "high"), ("float32", "high"), ("float32", "highest"))


def main() -> None:
    """Measure the three kinds of numbers at each size."""
    args = arguments(__doc__ or "", rounds=7)
    rows: list[dict[str, object]] = []
    for size in SIZES[args.device]:
        for kind, precision in KINDS:
            torch.set_float32_matmul_precision(precision)
            # All ways do their products by torch's setting: tf32 with "high".
            arithmetic = "tf32" if (kind, precision) == ("float32", "high") else kind
            try:
                found = compare(
                    list(WAYS), size, args.rounds, torch.device(args.device), getattr(torch, kind)
                )
            except torch.OutOfMemoryError:
                found = compare(
                    WITHOUT_LOGITS,
                    size,
                    args.rounds,
                    torch.device(args.device),
                    getattr(torch, kind),
                )
            rows += [{"arithmetic": arithmetic, **row} for row in found]
            if args.device == "cuda":
                torch.cuda.empty_cache()
    for size in SMALL if args.device == "cuda" else ():
        for kind, precision in KINDS:
            torch.set_float32_matmul_precision(precision)
            arithmetic = "tf32" if (kind, precision) == ("float32", "high") else kind
            found = compare(
                ["fused", "plain"], size, 15, torch.device("cuda"), getattr(torch, kind)
            )
            rows += [{"arithmetic": arithmetic, **row} for row in found]
    table("layer", rows, args)


if __name__ == "__main__":
    main()
