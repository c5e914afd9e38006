"""A run that meets NaN says so as on a CPU: step, temperature and batch in a file, code 1."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.part import arguments, table

CONFIGS = {
    "mnist_categorical": [],
    "mnist_codebook": ["--model.bottleneck.init_args.kernel", "plain"],
    "mnist_codebook fused": ["--model.bottleneck.init_args.kernel", "blocked"],
    "mnist_codebook triton": ["--model.bottleneck.init_args.kernel", "triton"],
}


def main() -> None:
    """Let each configuration learn at a rate that breaks it, in a process of its own."""
    args = arguments(__doc__ or "")
    rows = []
    for name, options in CONFIGS.items():
        if name.endswith("triton") and args.device == "cpu":
            continue
        config = name.split()[0]
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "train.py", "fit", "--config", f"configs/{config}.yaml"]
            words += ["--trainer.accelerator", "gpu" if args.device == "cuda" else "cpu"]
            words += [
                "--trainer.devices",
                "1",
                "--trainer.max_steps",
                "60",
                "--model.lr_schedule",
                "null",
            ]
            words += ["--model.optimizer.lr", "1e20", "--trainer.enable_progress_bar", "false"]
            words += ["--trainer.default_root_dir", folder, "--trainer.logger", "CSVLogger"]
            words += ["--trainer.logger.save_dir", folder, *options]
            environment = os.environ | {"CUDA_LAUNCH_BLOCKING": "0"}
            done = subprocess.run(
                words, capture_output=True, text=True, env=environment, check=False
            )
            files = sorted(p.name for p in Path(folder).rglob("nonfinite*"))
        said = (done.stderr.strip().splitlines() or [""])[-1][:160]
        rows.append({"run": name, "code": done.returncode, "files": " ".join(files), "said": said})
        print(rows[-1], flush=True)
    table("nan", rows, args)
    sys.exit(any(row["code"] != 1 or not row["files"] for row in rows))


if __name__ == "__main__":
    main()
