"""What a step costs beside its arithmetic: Lightning, and each callback and logger by name.

    python -m benchmarks.overhead

The main job of `benchmarks.training` with a hidden layer of two units, where little else is left of
a step. In each round it trains in a plain loop, by Lightning alone, and with all that the command
line adds, on the clock of `benchmarks.training`; then again with Lightning's profiler, which says
what each part takes. Pictures and checkpoints at the end of an epoch are spread over its steps. The
profiler is in its own figures, so that the parts may add up to more than the whole.
"""

import argparse
import logging
import re
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

from pytorch_lightning.profilers import SimpleProfiler

from benchmarks.measure import conditions, read_csv, spread, write_csv
from benchmarks.training import BATCH, EPOCH, bare, ours, silent
from dvae.bottlenecks import CategoricalBottleneck
from dvae.cli.loggers import ForgivingCSVLogger, ForgivingWandbLogger
from dvae.models import CategoricalVAE
from dvae.models.compiled import Compile
from dvae.networks import MLP

__all__ = ["main", "overhead"]

LOOP, LIGHTNING, ALL = "plain loop", "Lightning", "all callbacks and loggers"
_EPOCHS = 3


def small(compile: Compile) -> CategoricalVAE:
    """Build the default model with a hidden layer of two units."""
    return CategoricalVAE(MLP(hidden=(2,)), CategoricalBottleneck(), compile=compile)


class Parts(SimpleProfiler):
    """Lightning's profiler, which sees the loggers too, and adds up what is of one part."""

    def timed(self, logger: Any) -> Any:
        """Have a kind of logger timed."""
        log_metrics, name = logger.log_metrics, logger.__name__.removeprefix("Forgiving")

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.profile(f"[Callback]{name}.log_metrics"):
                return log_metrics(*args, **kwargs)

        return mock.patch.object(logger, "log_metrics", wrapped)

    def per_step(self) -> dict[str, float]:
        """Return the seconds of each part for a step, of the second epoch of three."""
        found: Counter[str] = Counter()
        for action, seconds in self.recorded_durations.items():
            part = re.match(r"\[Callback\](\w+)", action)
            third = len(seconds) // _EPOCHS  # none of what is done once, before or after
            if part and part[1] != "Clock":
                found[part[1]] += sum(seconds[third : 2 * third]) / EPOCH
        return found


def round_of(folder: Path) -> dict[str, float]:
    """Measure once; return seconds of a step, by part."""
    steps = _EPOCHS * EPOCH
    loop, alone, all_of_it = (
        BATCH / way(steps, folder, EPOCH, make=small) for way in (bare, silent, ours)
    )
    parts = Parts()
    with parts.timed(ForgivingCSVLogger), parts.timed(ForgivingWandbLogger):
        ours(steps, folder, EPOCH, make=small, profiler=parts)
    found = {LOOP: loop, LIGHTNING: alone - loop, ALL: all_of_it - alone}
    return found | parts.per_step()


def overhead() -> str:
    """Make the page's table: microseconds of a step."""
    rows = read_csv("overhead")
    lines = ["| part of a step | microseconds (p20 to p80) |", "|---|---|"]
    lines += [
        f"| {row['part']} | {row['us']} ({row['us_p20']} to {row['us_p80']}) |" for row in rows
    ]
    return "\n".join([*lines, "", f"`python -m benchmarks.overhead` ({conditions(rows[0])})."])


def main() -> None:
    """Measure in rounds; write the CSV; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        rounds = [round_of(Path(folder)) for _ in range(args.rounds)]
    names = ("us", "us_p20", "us_p80")
    found = {part: spread([took[part] for took in rounds]) for part in rounds[0]}
    measured = [part for part in found if part in (LOOP, LIGHTNING, ALL)]
    named = sorted(found.keys() - measured, key=lambda part: -found[part][0])
    rows: list[dict[str, object]] = [
        {"part": part, "rounds": args.rounds}
        | {name: round(1e6 * x) for name, x in zip(names, found[part], strict=True)}
        for part in (*measured, *named)
    ]
    write_csv("overhead", rows)
    print(overhead())


if __name__ == "__main__":
    main()
