"""Time and memory of the Gumbel-softmax layer beside `torch.nn.functional.gumbel_softmax`.

Forward and backward pass, one-hot code. The two are timed in turn, so that what else the machine
does falls on both, and what is reported of their ratio is its median and 20th and 80th percentile
over the pairs.

    python benchmarks/layer.py --threads 1
"""

import argparse
import csv
import datetime
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from dvae.estimators import GumbelSoftmax

__all__ = ["main"]

SHAPES = ((4096, 512), (200, 20, 10))
TAU = 0.5
MIB = 2**20

Step = Callable[[], None]


def make_step(layer: Callable[[Tensor], Tensor], logits: Tensor, grad: Tensor) -> Step:
    """Build one forward and backward pass."""

    def step() -> None:
        logits.grad = None
        layer(logits).backward(grad)

    return step


def seconds(step: Step, device: torch.device) -> float:
    """Time one step, to the end of what it started on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def saved_bytes(layer: Callable[[Tensor], Tensor], logits: Tensor) -> int:
    """Count what the forward pass keeps for the backward pass, each storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(logits)
    return sum(storages.values())


def peak_bytes(step: Step, device: torch.device) -> int:
    """Return the most memory that a step holds at once beyond what was there before it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # The CPU allocator keeps no peak: add up the profiler's record of every allocation.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    held = highest = 0
    kineto = recorded.profiler.kineto_results  # type: ignore[union-attr]
    memory = [event for event in kineto.events() if event.name() == "[memory]"]
    for event in sorted(memory, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def compare(shape: tuple[int, ...], pairs: int, device: torch.device) -> dict[str, object]:
    """Time both layers in turn and measure the memory of each."""
    logits = torch.randn(shape, device=device, requires_grad=True)
    grad = torch.randn(shape, device=device)
    ours = GumbelSoftmax(TAU, hard=True).to(device)

    def torch_layer(x: Tensor) -> Tensor:
        return F.gumbel_softmax(x, TAU, hard=True)

    def our_layer(x: Tensor) -> Tensor:
        return ours(x).code  # type: ignore[no-any-return]

    steps = [make_step(layer, logits, grad) for layer in (torch_layer, our_layer)]
    for step in steps * 3:
        step()
    times = [[seconds(step, device) for step in steps] for _ in range(pairs)]
    ratios = [theirs / mine for theirs, mine in times]
    fifths = statistics.quantiles(ratios, n=5)
    return {
        "shape": "x".join(str(n) for n in shape),
        "torch_ms": round(1e3 * statistics.median(t[0] for t in times), 3),
        "dvae_ms": round(1e3 * statistics.median(t[1] for t in times), 3),
        "speedup_median": round(statistics.median(ratios), 2),
        "speedup_p20": round(fifths[0], 2),
        "speedup_p80": round(fifths[3], 2),
        "torch_saved_mib": round(saved_bytes(torch_layer, logits) / MIB, 2),
        "dvae_saved_mib": round(saved_bytes(our_layer, logits) / MIB, 2),
        "torch_peak_mib": round(peak_bytes(steps[0], device) / MIB, 2),
        "dvae_peak_mib": round(peak_bytes(steps[1], device) / MIB, 2),
        "pairs": pairs,
    }


def machine(device: torch.device) -> dict[str, object]:
    """Describe where the numbers come from."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def write(rows: list[dict[str, object]], path: Path) -> None:
    """Write the rows as CSV, after those of other machines and thread counts there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as file:
            new = {(str(row["device"]), str(row["threads"])) for row in rows}
            kept.extend(r for r in csv.DictReader(file) if (r["device"], r["threads"]) not in new)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([*kept, *rows])


def main() -> None:
    """Run the comparison, print it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on CPU")
    parser.add_argument("--pairs", type=int, default=50, help="timed pairs for each shape")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    here = Path(__file__).parent
    parser.add_argument("--output", type=Path, default=here / "results" / "layer.csv")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    rows = [compare(shape, args.pairs, device) | machine(device) for shape in SHAPES]
    columns = [name for name in rows[0] if name not in machine(device)]
    print("  ".join(f"{name:>15}" for name in columns))
    for row in rows:
        print("  ".join(f"{row[name]!s:>15}" for name in columns))
    write(rows, args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
