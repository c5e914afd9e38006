"""The machine and its packages, and the two ceilings: a copy in memory, a matrix product."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.gpu.part import arguments, now, table

PACKAGES = ("torch", "triton", "pytorch-lightning", "torchvision", "vector-quantize-pytorch")


def ceiling(device: str) -> dict[str, object]:
    """Measure bytes a second of a copy, and operations a second of matrix products."""
    size = 2**13 if device == "cuda" else 2**10
    found: dict[str, object] = {}
    x = torch.empty(size * size * 16, dtype=torch.uint8, device=device)
    y = torch.empty_like(x)
    for _ in range(2):
        start = now(device)
        for _ in range(10):
            y.copy_(x)
        seconds = now(device) - start
    found["copy_tb_per_s"] = round(20 * x.numel() / seconds / 1e12, 2)
    for name, dtype, precision in (
        ("bf16", torch.bfloat16, "highest"),
        ("tf32", torch.float32, "high"),
        ("fp32", torch.float32, "highest"),
    ):
        torch.set_float32_matmul_precision(precision)
        a = torch.randn(size, size, device=device).to(dtype)
        for _ in range(2):
            start = now(device)
            for _ in range(5):
                a @ a
            seconds = now(device) - start
        found[f"{name}_tflops"] = round(10 * size**3 / seconds / 1e12, 1)
    return found


def main() -> None:
    """Print and write them."""
    args = arguments(__doc__ or "")
    row: dict[str, object] = {"platform": platform.platform(), **ceiling(args.device)}
    for package in PACKAGES:
        try:
            row[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            row[package.replace("-", "_")] = "missing"
    if args.device == "cuda":
        subprocess.run(["nvidia-smi"], check=False)
    table("versions", [row], args)


if __name__ == "__main__":
    main()
