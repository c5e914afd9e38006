"""What is tried, how often, and from which seed on."""

import argparse
import sys
import time
from collections.abc import Sequence

import torch

import benchmarks.fuzz as package
from benchmarks.fuzz import fuzz, fuzz_configs

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run, and print how many were tried and what became of them.

    Args:
        args: Arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(description=(package.__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--configs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    failures = 0
    runs = (("cases", options.cases, fuzz), ("configs", options.configs, fuzz_configs))
    for name, count, function in runs:
        if count:
            began = time.perf_counter()
            counts = function(count, options.seed)
            failures += counts["failure"]
            good = ", ".join(f"{n} {k}" for k, n in sorted(counts.items()) if k != "failure")
            seconds = time.perf_counter() - began
            failed = counts["failure"]
            print(
                f"{count} {name}, seed {options.seed}: {good}; {failed} failures, {seconds:.0f} s"
            )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
