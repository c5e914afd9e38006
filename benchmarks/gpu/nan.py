"""A run that meets NaN says so as on a CPU: step, temperature and batch in a file, code 1."""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu.part import arguments, table

RUNS = {
    "mnist_categorical": (),
    "mnist_codebook": ("--model.bottleneck.init_args.kernel", "plain"),
    "mnist_codebook fused": ("--model.bottleneck.init_args.kernel", "blocked"),
    "mnist_codebook triton": ("--model.bottleneck.init_args.kernel", "triton"),
}


def broken(name: str, device: str) -> dict[str, object]:
    """Let a configuration learn at a rate that breaks it, in a process of its own.

    Args:
        name: Name of the run.
        device: ``cpu`` or ``cuda``.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "train.py", "fit", "--config", f"configs/{name.split()[0]}.yaml"]
        words += ["--trainer.accelerator", "gpu" if device == "cuda" else "cpu"]
        words += ["--trainer.devices", "1", "--trainer.max_steps", "60"]
        words += ["--model.lr_schedule", "null", "--model.optimizer.lr", "1e20"]
        words += ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", folder]
        done = subprocess.run([*words, *RUNS[name]], capture_output=True, text=True, check=False)
        files = sorted(path.name for path in Path(folder).rglob("nonfinite*"))
    said = (done.stderr.strip().splitlines() or [""])[-1][:200]
    return {"run": name, "code": done.returncode, "files": " ".join(files), "said": said}


def main() -> None:
    """Break all at once, and fail where one does not say so."""
    args = arguments(__doc__ or "")
    names = list(RUNS) if args.device == "cuda" else ["mnist_categorical"]
    with ThreadPoolExecutor(len(names) if args.device == "cuda" else 1) as pool:
        rows = list(pool.map(lambda name: broken(name, args.device), names))
    table("nan", rows, args)
    sys.exit(any(row["code"] != 1 or not row["files"] for row in rows))


if __name__ == "__main__":
    main()
