"""Time and memory of the Gumbel-softmax layer beside `torch.nn.functional.gumbel_softmax`.

Forward and backward pass, one-hot code. The two are timed in turn, so that what else the machine
does falls on both, and what is reported of their ratio is its median and 20th and 80th percentile
over the pairs.

    python -m benchmarks.layer --threads 1
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import machine, milliseconds, spread, write_csv
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


def peak_bytes(step: Step, logits: Tensor, device: torch.device) -> int:
    """Return the most memory that a step holds at once beyond what was there before it."""
    logits.grad = None
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
    speedup, low, high = spread(ratios)
    return {
        "shape": "x".join(str(n) for n in shape),
        **milliseconds([t[0] for t in times], 3, "torch_"),
        **milliseconds([t[1] for t in times], 3, "dvae_"),
        "speedup_median": round(speedup, 2),
        "speedup_p20": round(low, 2),
        "speedup_p80": round(high, 2),
        "torch_saved_mib": round(saved_bytes(torch_layer, logits) / MIB, 2),
        "dvae_saved_mib": round(saved_bytes(our_layer, logits) / MIB, 2),
        "torch_peak_mib": round(peak_bytes(steps[0], logits, device) / MIB, 2),
        "dvae_peak_mib": round(peak_bytes(steps[1], logits, device) / MIB, 2),
        "pairs": pairs,
    }


def main() -> None:
    """Run the comparison, print it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on CPU")
    parser.add_argument("--pairs", type=int, default=50, help="timed pairs for each shape")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    rows = [compare(shape, args.pairs, torch.device(args.device)) for shape in SHAPES]
    print("  ".join(f"{name:>16}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value!s:>16}" for value in row.values()))
    print(f"wrote {write_csv('layer', rows, where=machine(args.device))}")


if __name__ == "__main__":
    main()
