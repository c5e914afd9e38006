"""What is tried, how often, and from which seed on."""

import argparse
import sys
import time
from collections.abc import Sequence

import torch

import benchmarks.fuzz as package
from benchmarks.fuzz import Failure, fuzz, fuzz_configs, fuzz_joints, joint_case
from benchmarks.fuzz.joint import AXES, described, draw_joint, with_values
from benchmarks.measure import write_csv

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run, and print how many were tried and what became of them.

    Args:
        args: Arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(description=(package.__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--configs", type=int, default=0)
    parser.add_argument("--joints", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the first of them")
    parser.add_argument("--case", type=int, help="repeat one joint")
    parser.add_argument(
        "--with",
        nargs="+",
        dest="values",
        metavar="AXIS=VALUE",
        help="with --case: these and the simplest of all other axes",
    )
    parser.add_argument("--no-shrink", action="store_true", help="do not look for simpler joints")
    parser.add_argument("--write", action="store_true", help="write the joints to joints.csv")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    if options.case is not None:
        return _repeat(options.case, options.values)

    def joints(count: int, seed: int) -> package.Counts:
        return fuzz_joints(count, seed, shrink=not options.no_shrink)

    failures = 0
    kinds = (
        ("cases", options.cases, fuzz),
        ("configs", options.configs, fuzz_configs),
        ("joints", options.joints, joints),
    )
    for name, count, function in kinds:
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
            if name == "joints" and options.write:
                row = {"joints": count, "seed": options.seed, "seconds": round(seconds)}
                kinds_of_end = ("resumed", "ended", "refused", "failure")
                row |= {kind: counts[kind] for kind in kinds_of_end}
                print(write_csv("joints", [row]))
    return int(failures > 0)


def _repeat(number: int, values: Sequence[str] | None) -> int:
    joint = draw_joint(number)
    if values:
        joint = with_values({axis: allowed[0] for axis, allowed in AXES.items()}, values)
    print(f"joint {number}: {described(joint)}")
    try:
        print(joint_case(number, joint))
    except Failure as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
