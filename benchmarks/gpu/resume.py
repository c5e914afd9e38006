"""Twice N steps are N, a stop, and N more: to the last bit where algorithms are deterministic."""

import os
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.gpu.part import SMALL, arguments, fit, table

# cuBLAS is deterministic with a workspace of its own, which has to be said before it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

CONFIGS = ("mnist_categorical", "mnist_codebook")


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Read the last weights of a run."""
    path = run / "checkpoints" / "last.ckpt"
    return torch.load(path, map_location="cpu", weights_only=False)["state_dict"]  # type: ignore[no-any-return]


def main() -> None:
    """Train both ways, and fail where the weights differ."""
    args = arguments(__doc__ or "")
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for config in CONFIGS:
            common = ["--trainer.limit_train_batches", "10", "--trainer.limit_val_batches", "1"]
            common += ["--trainer.deterministic", "true", *(SMALL if args.device == "cpu" else ())]
            # Of a run stopped early, what depends on its length would be another.
            common += [
                "--model.lr_schedule",
                "null",
                "--anneal.tau",
                "null",
                "--anneal.beta",
                "null",
            ]
            found = {}
            for experiment, epochs in (("straight", "4"), ("half", "2")):
                words = [*common, "--experiment", f"{config}-{experiment}"]
                run = fit(config, Path(name), args.device, *words, "--trainer.max_epochs", epochs)
                found[experiment] = weights(run)
                last = str(run / "checkpoints" / "last.ckpt")
            words = [*common, "--experiment", f"{config}-rest", "--ckpt_path", last]
            run = fit(config, Path(name), args.device, *words, "--trainer.max_epochs", "4")
            rest = weights(run)
            apart = max(
                float((found["straight"][k].double() - x.double()).abs().max())
                for k, x in rest.items()
            )
            moved = max(
                float((found["half"][k].double() - x.double()).abs().max()) for k, x in rest.items()
            )
            rows.append({"config": config, "apart": apart, "moved_in_the_second_half": moved})
    table("resume", rows, args)
    sys.exit(any(row["apart"] != 0 or row["moved_in_the_second_half"] == 0 for row in rows))


if __name__ == "__main__":
    main()
