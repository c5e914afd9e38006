"""The fused code book on a GPU against float64: values, gradients, noise, draws."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.part import arguments, table
from dvae.kernels import Book, Relaxation, gumbel_codebook, gumbel_noise, sweep, triton_sweep
from dvae.kernels.noise import row_keys
from tests.kernels.compare import KINDS, SHAPES, TRITON_KINDS, assert_as_good_as_plain
from tests.laws import assert_chi_square, assert_mean

BIG = ((4096, 64, 8192, 64), (1000, 200, 3000, 250))
NAMES = ("code", "kl", "of_h", "of_weight", "of_bias", "of_codebook", "of_prior")


def check_noise(device: str) -> None:
    """Keys are the CPU's bit for bit, noise is but for the rounding of two logarithms."""
    rows = torch.arange(5000)
    for seed in (5, 2**63 - 10**9):
        assert torch.equal(row_keys(seed, rows), row_keys(seed, rows.to(device)).cpu())
        on_device = gumbel_noise(torch.tensor(seed, device=device), 512, 4096)
        torch.testing.assert_close(
            on_device.cpu(), gumbel_noise(seed, 512, 4096), rtol=2e-6, atol=2e-6
        )
    assert_mean(
        gumbel_noise(torch.tensor(1, device=device), 3000, 3000).double().flatten(), 0.5772156649
    )


def check_draws(device: str, backend: str) -> None:
    """The draws are those of the categorical, at every temperature the same."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(9, 3, generator=generator).to(device)
    h = torch.randn(1, 3, generator=generator).expand(300_000, 3).to(device)
    book = Book(weight, None, torch.randn(9, 2, device=device))
    found = [
        sweep(h, book, Relaxation(torch.tensor(tau, device=device), hard=True), 5, backend).index
        for tau in (0.05, 5.0)
    ]
    assert torch.equal(*found)
    assert_chi_square(found[0].cpu().bincount(minlength=9), (weight @ h[0]).softmax(0).cpu())


def errors(
    backend: str, size: tuple[int, ...], dtype: torch.dtype, device: str
) -> dict[str, float]:
    """Return the relative error of each result at a large size, against blocks in float64."""
    n, c, k, d = size
    generator = torch.Generator().manual_seed(n)
    shapes = ((n, c), (k, c), (k,), (k, d), (k,))
    made = [torch.randn(s, generator=generator).to(torch.bfloat16).double() for s in shapes]
    made[1] *= c**-0.5
    made[1] = made[1].to(torch.bfloat16).double()
    made[4] = made[4].log_softmax(0)
    of_code = torch.randn(n, d, generator=generator).to(torch.bfloat16).double()

    def run(which: str, kind: torch.dtype) -> list[Tensor]:
        leaves = [x.to(device, kind).requires_grad_() for x in made]
        h, weight, bias, codebook, prior = leaves
        code, _, kl = gumbel_codebook(
            h, weight, bias, codebook, 0.7, 3, log_prior=prior, backend=which
        )
        grads = torch.autograd.grad(
            [code, kl], leaves, [of_code.to(device, kind), torch.ones_like(kl)]
        )
        return [x.detach().double() for x in (code, kl, *grads)]

    exact, ours = run("blocked", torch.float64), run(backend, dtype)
    return {
        name: float((a - b).norm() / b.norm())
        for name, a, b in zip(NAMES, ours, exact, strict=True)
    }


@dataclass
class Checks:
    """Checks that are tried in turn, and written down after each.

    Attributes:
        args: Arguments of the part.
        rows: What was found so far.
    """

    args: argparse.Namespace
    rows: list[dict[str, object]] = field(default_factory=list)

    def tried(self, name: str, check: Callable[[], object]) -> None:
        """Note how a check ended, and go on."""
        start = time.perf_counter()
        try:
            said = check()
            ended = "passed"
        except Exception as error:
            said, ended = " ".join(str(error).split())[:300] or type(error).__name__, "FAILED"
        seconds = round(time.perf_counter() - start, 2)
        self.rows.append({"check": name, "ended": ended, "seconds": seconds, "said": said or ""})
        print(self.rows[-1], flush=True)
        table("kernels", self.rows, self.args, show=False)


def main() -> None:
    """Check everything, and fail where one check does."""
    args = arguments(__doc__ or "")
    device, checks = args.device, Checks(args)
    backends = ("triton", "blocked") if device == "cuda" else ("blocked",)
    checks.tried("noise", lambda: check_noise(device))
    for backend in backends:
        checks.tried(f"chi-square {backend}", lambda b=backend: check_draws(device, b))
        for dtype in (torch.float32, torch.bfloat16):
            name = str(dtype).removeprefix("torch.")
            for kind in TRITON_KINDS if backend == "triton" else KINDS:
                for shape in SHAPES:
                    checks.tried(
                        f"{backend} {name} {kind} {shape}",
                        lambda b=backend, s=shape, t=dtype, k=kind: assert_as_good_as_plain(
                            b, s, t, k, device=device
                        ),
                    )
    for backend in backends:
        # Arithmetic of float32 products: exact, or on tensor cores.
        kinds = ("ieee", "tf32") if backend == "triton" else ("ieee",)
        for arithmetic in (*kinds, "bfloat16"):
            dtype = torch.bfloat16 if arithmetic == "bfloat16" else torch.float32
            for size in BIG:
                if arithmetic == "ieee" and backend == "triton" and size is BIG[1]:
                    continue  # minutes of compiling
                with mock.patch.object(
                    triton_sweep,
                    "precision_of",
                    lambda a=arithmetic: "tf32" if a == "bfloat16" else a,
                ):
                    checks.tried(
                        f"{backend} {arithmetic} {size}",
                        lambda b=backend, s=size, t=dtype: {
                            k: f"{v:.1e}" for k, v in errors(b, s, t, device).items()
                        },
                    )
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(True)
    for backend in backends:
        checks.tried(
            f"{backend} deterministic",
            lambda b=backend: assert_as_good_as_plain(
                b, SHAPES[3], torch.float32, "soft", device=device, repeats=3
            ),
        )
    table("kernels", checks.rows, args)
    rows = checks.rows
    failed = sum(row["ended"] == "FAILED" for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} checks passed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
