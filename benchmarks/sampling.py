"""Time of drawing codes from `AutoregressivePrior` with the keys and values kept, and without.

Without them each integer is drawn from a new pass: over those before it alone ("prefix"), or over
the whole code, as a prior does that has no steps of its own ("whole"). All are timed in turn, from
one seed: they draw the same codes.

    python -m benchmarks.sampling --threads 1
"""

import argparse
import time

import torch
from torch import Generator, Tensor

from benchmarks.measure import machine, milliseconds, ratio, write_csv
from dvae.priors import AutoregressivePrior
from dvae.priors.sequential import NextLogits, SequentialPrior

__all__ = ["main"]

CODES, WIDTH, DEPTH = 512, 128, 3
SIDE = 8  # of the grid: 64 positions
IMAGES = (16, 64)
SPEEDUP = ("speedup_median", "speedup_p20", "speedup_p80")


class Prefix(AutoregressivePrior):
    """The same prior, that passes over the integers before it again for each integer."""

    def steps(self, label: Tensor | None = None) -> NextLogits:
        """Keep nothing; see `SequentialPrior.steps`."""
        net, places = self.net, self.net.places()

        def step(code: Tensor, t: int) -> Tensor:
            tokens = torch.cat([net.first(label, len(code)), net.tokens(code[:, :t])], 1)
            return net.logits(net.layers(tokens + places[: t + 1])[:, -1:], t)[:, 0]

        return step


class Whole(AutoregressivePrior):
    """The same prior, that passes over the whole code for each integer."""

    steps = SequentialPrior.steps


def priors(side: int, codes: int, width: int, depth: int) -> dict[str, AutoregressivePrior]:
    """Return one prior with random weights three times, by what it does for each integer."""
    kinds = {"cached": AutoregressivePrior, "prefix": Prefix, "whole": Whole}
    made = {name: kind(width, depth) for name, kind in kinds.items()}
    for prior in made.values():
        prior.build((side, side), (codes,))
        prior.eval()
    first = made["cached"]
    with torch.no_grad():
        first.net.head.normal_(std=0.1)
    for prior in made.values():
        prior.load_state_dict(first.state_dict())
    return made


def seconds(prior: AutoregressivePrior, images: int, seed: int) -> float:
    """Time the draw of codes, to the end of what it started on the device."""
    device = next(prior.parameters()).device
    generator = Generator(device).manual_seed(seed)
    start = time.perf_counter()
    prior.sample(images, generator)[0, 0, 0].item()  # waits for a GPU
    return time.perf_counter() - start


def compare(
    images: int,
    rounds: int,
    device: str = "cpu",
    side: int = SIDE,
    codes: int = CODES,
    width: int = WIDTH,
    depth: int = DEPTH,
) -> list[dict[str, object]]:
    """Time them in turn; return a row for each way without the cache."""
    made = [prior.to(device) for prior in priors(side, codes, width, depth).values()]
    for prior in made:
        seconds(prior, images, 0)
    times = [[seconds(prior, images, r) for prior in made] for r in range(rounds)]
    kept, *others = zip(*times, strict=True)
    return [
        {
            "images": images,
            "positions": side**2,
            "codes": codes,
            "width": width,
            "depth": depth,
            "without": way,
            **milliseconds(other, 1),
            **milliseconds(kept, 1, "cached_"),
            **dict(zip(SPEEDUP, (round(x, 2) for x in ratio(other, kept)), strict=True)),
            "rounds": rounds,
        }
        for way, other in zip(("prefix", "whole"), others, strict=True)
    ]


def main() -> None:
    """Run the comparison, print it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on CPU")
    parser.add_argument("--rounds", type=int, default=10, help="timed draws of each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    rows = [row for images in IMAGES for row in compare(images, args.rounds, args.device)]
    print("  ".join(f"{name:>15}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value!s:>15}" for value in row.values()))
    print(f"wrote {write_csv('sampling', rows, where=machine(args.device))}")


if __name__ == "__main__":
    main()
