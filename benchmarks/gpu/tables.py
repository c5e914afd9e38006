"""A row of a published table, all its runs side by side as one batched model."""

import subprocess
import sys
import time

from benchmarks.gpu.part import arguments, table


def main() -> None:
    """Run as much of the row as the limit has time for, and say how long an epoch took."""
    args = arguments(__doc__ or "", table="reinmax2023", row="8x4", seeds=3, epochs=0)
    epochs = args.epochs or (160 if args.device == "cuda" else 1)
    command = [
        sys.executable,
        "-m",
        "benchmarks.tables",
        args.table,
        "--rows",
        args.row,
        "--together",
    ]
    command += [
        "--seeds",
        str(args.seeds),
        "--jobs",
        "1",
        "--runs",
        str(args.out / "gpu_table_runs"),
    ]
    command += ["--results", str(args.out / "gpu_tables")]
    if epochs != 160:
        command += ["--epochs", str(epochs), "--iwae_samples", "10"]
    if args.device == "cpu":
        command += ["--estimators", "ST", "STGS"]
    start = time.perf_counter()
    code = subprocess.run(command, check=False).returncode
    seconds = round(time.perf_counter() - start, 1)
    row = {"table": args.table, "row": args.row, "seeds": args.seeds, "epochs": epochs}
    table(
        "tables",
        [{**row, "seconds": seconds, "ended": "passed" if code == 0 else f"code {code}"}],
        args,
    )
    sys.exit(code)


if __name__ == "__main__":
    main()
