"""Time and memory of a code book over its size: the fused layer beside what people write.

Forward and backward pass from features to vectors and KL, gradients for all parameters. In each
round every way takes one step, and what is reported is the median of the ratios to the fused layer
in the same round, with their 20th and 80th percentile. Rows of the CSV that were measured on
another device, or of sizes and dtypes that are not measured now, are kept:

- fused: `dvae.kernels.gumbel_codebook`, in Triton on a GPU, block by block on a CPU;
- fused bfloat16: the same on a CPU with inputs in bfloat16, which it multiplies as such where the
  processor has instructions for it (column ``bfloat16_instructions``), beside float32;
- plain: this package's estimator on a matrix of logits, the code book behind it;
- eager: `F.gumbel_softmax` on the logits, an einsum with the code book, the softmax again for
  the KL;
- VectorQuantize: of vector-quantize-pytorch, which draws nothing and has no KL;
- products: the seven matrix products alone that a pass without matrices of logits needs, by torch's
  matrix multiplication; the fused layer may have quicker ones (`dvae.kernels.products`).

    python -m benchmarks.bottleneck --threads 1
    python -m benchmarks.bottleneck --device cuda --dtype bfloat16 --dtype float32
    python -m benchmarks.bottleneck --device cuda --dtype bfloat16 --size 65536 8192 256 256
    python -m benchmarks.bottleneck --crossover      # for the constant in dvae/bottlenecks/fused.py
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from benchmarks.bottleneck_crossover import crossover
from benchmarks.bottleneck_plot import draw
from benchmarks.layer import peak_bytes, seconds
from benchmarks.measure import RESULTS, machine, milliseconds, ratio, read_csv, write_csv
from dvae.estimators import GumbelSoftmax
from dvae.functional import categorical_kl
from dvae.kernels import draw_seed, gumbel_codebook

__all__ = ["main"]

CODES = (512, 2048, 8192, 32768, 131_072)
DIM = 64  # D, of vectors
FEATURES = 64  # C
# A size with wider features than vectors, as encoders have them.
WIDE = (4096, 8192, 128, DIM)
TAU = 0.7
# Rows of each device, and the largest matrix of logits that others are asked to hold: beyond it
# only what has no such matrix is measured, in a few rounds.
ROWS = {"cpu": (256, 4096), "cuda": (4096, 32_768)}
LARGEST = {"cpu": 2**25, "cuda": 2**32}
# Numbers of a block of the products alone: near a CPU's cache, or worth a GPU's launches.
BLOCK = {"cpu": 2**17, "cuda": 2**26}
MIB = 2**20
HALF = "fused bfloat16"
# Rows that agree in these are of one comparison.
KEY = ("rows", "codes", "features", "dim", "dtype", "device")

Step = Callable[[], None]
# N rows, K codes, C features, D numbers of a vector.
Size = tuple[int, int, int, int]


class Problem:
    """Features, parameters and upstream gradients of one size."""

    def __init__(self, size: Size, device: torch.device, dtype: torch.dtype) -> None:
        rows, codes, features, dim = size

        def made(*shape: int, scale: float = 1.0) -> Tensor:
            return (scale * torch.randn(shape, device=device)).to(dtype)

        self.h = made(rows, features).requires_grad_()
        self.weight = made(codes, features, scale=features**-0.5).requires_grad_()
        self.bias = made(codes).requires_grad_()
        self.codebook = made(codes, dim).requires_grad_()
        self.of_code = made(rows, dim)
        self.of_kl = torch.ones(rows, device=device)
        self.log_prior = torch.full((codes,), -math.log(codes), device=device)

    def logits(self) -> Tensor:
        """Return the matrix of logits."""
        return F.linear(self.h, self.weight, self.bias)

    def back(self, code: Tensor, kl: Tensor) -> None:
        """Pass gradients back to all leaves, and forget them."""
        leaves = (self.h, self.weight, self.bias, self.codebook)
        torch.autograd.grad([code, kl], leaves, [self.of_code, self.of_kl.to(kl.dtype)])


def fused(problem: Problem) -> Step:
    """Build a step of the fused layer."""
    p = problem
    tau = torch.tensor(TAU, device=p.h.device)

    def step() -> None:
        seed = draw_seed(device=p.h.device)
        code, _, kl = gumbel_codebook(p.h, p.weight, p.bias, p.codebook, tau, seed)
        p.back(code, kl)

    return step


def fused_bfloat16(problem: Problem) -> Step:
    """Build a step of the fused layer on inputs in bfloat16."""
    (rows, features), (codes, dim) = problem.h.shape, problem.codebook.shape
    return fused(Problem((rows, codes, features, dim), problem.h.device, torch.bfloat16))


def plain(problem: Problem) -> Step:
    """Build a step of the estimator on a matrix of logits."""
    estimator = GumbelSoftmax(TAU).to(problem.h.device)

    def step() -> None:
        logits = problem.logits()
        code = estimator.sample(logits).code @ problem.codebook
        problem.back(code, categorical_kl(logits.float(), problem.log_prior))

    return step


def eager(problem: Problem) -> Step:
    """Build a step of what tutorials write."""

    def step() -> None:
        logits = problem.logits()
        soft = F.gumbel_softmax(logits, tau=TAU, dim=-1)
        code = torch.einsum("nk,kd->nd", soft, problem.codebook)
        q = F.softmax(logits, -1)
        kl = (q * (torch.log(q + 1e-10) - problem.log_prior[0].to(q.dtype))).sum(-1)
        problem.back(code, kl)

    return step


def vector_quantize(problem: Problem) -> Step:
    """Build a training step of a vector quantizer with moving averages, which has no projection."""
    codes, dim = problem.codebook.shape
    layer: nn.Module = VectorQuantize(dim=dim, codebook_size=codes).to(problem.h.device).train()
    h = torch.randn_like(problem.of_code).unsqueeze(0).requires_grad_()
    grad = problem.of_code.unsqueeze(0)

    def step() -> None:
        code, _, loss = layer(h)
        torch.autograd.grad([code, loss.sum()], h, [grad.to(code.dtype), None])

    return step


def products(problem: Problem) -> Step:
    """Build the products alone, in blocks, so that no matrix of logits is written to memory."""
    p = problem
    rows = min(len(p.h), 512)
    codes = BLOCK[p.h.device.type] // rows

    @torch.no_grad()
    def step() -> None:
        of_weight, of_codebook = torch.zeros_like(p.weight), torch.zeros_like(p.codebook)
        books = [x.split(codes) for x in (p.weight, p.codebook, of_weight, of_codebook)]
        for h, grad in zip(p.h.split(rows), p.of_code.split(rows), strict=True):
            code, of_h = torch.zeros_like(grad), torch.zeros_like(h)
            for weight, codebook, of_w, of_e in zip(*books, strict=True):
                code.addmm_(h @ weight.t(), codebook)
                of_e.addmm_((h @ weight.t()).t(), grad)
                of_logits = grad @ codebook.t()
                of_h.addmm_(of_logits, weight)
                of_w.addmm_(of_logits.t(), h)

    return step


WAYS: dict[str, Callable[[Problem], Step]] = {
    "fused": fused,
    HALF: fused_bfloat16,
    "plain": plain,
    "eager": eager,
    "VectorQuantize": vector_quantize,
    "products": products,
}

WITHOUT_LOGITS = ("fused", HALF, "products")


def compare(
    ways: Sequence[str],
    size: Size,
    rounds: int,
    device: torch.device,
    dtype: torch.dtype,
) -> list[dict[str, object]]:
    """Time ways of one size in turn and measure the memory of each."""
    torch.manual_seed(0)
    problem = Problem(size, device, dtype)
    sizes = dict(zip(("rows", "codes", "features", "dim"), size, strict=True))
    steps: dict[str, Step] = {}
    for name in ways:
        # What has a table of its own on a GPU.
        if name == HALF and (dtype != torch.float32 or device.type != "cpu"):
            continue
        build = WAYS[name]
        try:
            step = build(problem)
            for _ in range(2):
                step()
            steps[name] = step
        except torch.OutOfMemoryError:
            print(f"{name} runs out of memory at {sizes}", flush=True)
    peaks = {name: peak_bytes(step, problem.h, device) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(step, device))
    result: list[dict[str, object]] = []
    for name, column in times.items():
        median, low, high = ratio(column, times["fused"])
        result.append(
            {
                **sizes,
                "dtype": str(dtype).removeprefix("torch."),
                "way": name,
                **milliseconds(column),
                "over_fused_median": round(median, 2),
                "over_fused_p20": round(low, 2),
                "over_fused_p80": round(high, 2),
                "peak_mib": round(peaks[name] / MIB, 1),
                "rounds": rounds,
            }
        )
        print("  ".join(f"{value!s:>14}" for value in result[-1].values()), flush=True)
    return result


def main() -> None:
    """Run the comparison, print it, write it down and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on CPU")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds of each size")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16"])
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--largest", type=int, help="rows times codes, at most")
    limits.add_argument(
        "--size",
        type=int,
        nargs=4,
        action="append",
        metavar=("N", "K", "C", "D"),
        help="measure this size alone: rows, codes, features, numbers of a vector",
    )
    parser.add_argument("--crossover", action="store_true", help="of the bottleneck's two paths")
    parser.add_argument("--dry", action="store_true", help="write no files")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.crossover:
        return crossover(args.rounds, TAU)
    device = torch.device(args.device)
    largest = args.largest or LARGEST[args.device]
    sizes = [(rows, codes, FEATURES, DIM) for rows in ROWS[args.device] for codes in CODES]
    found = []
    for dtype in args.dtype or ["float32"]:
        kind = getattr(torch, dtype)
        for size in args.size or (*sizes, WIDE):
            if size[0] * size[1] <= largest:
                found += compare(list(WAYS), tuple(size), args.rounds, device, kind)
            elif args.size or (args.largest is None and size[1] == max(CODES)):
                found += compare(WITHOUT_LOGITS, size, min(args.rounds, 3), device, kind)
    if not args.dry:
        where = machine(args.device, ["triton", "vector-quantize-pytorch"])
        now = [{**row, **where} for row in found]
        print(f"wrote {write_csv('bottleneck', [*now, *others(now)], where=where)}")
        draw(read_csv("bottleneck"), RESULTS / "bottleneck.png")


def others(now: Sequence[Mapping[str, object]]) -> list[dict[str, str]]:
    """Read the rows of the CSV that are not measured anew.

    Args:
        now: What is measured, each row with its device.
    """

    def key(row: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in KEY)

    again = {key(row) for row in now}
    return [row for row in read_csv("bottleneck") if key(row) not in again]


if __name__ == "__main__":
    main()
