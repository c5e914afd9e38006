"""The state of torch's own generators: to save it, to restore it, and a stream for each process."""

import hashlib

import torch
from torch import Tensor

__all__ = ["random_state", "separate_stream", "set_random_state"]


def random_state() -> dict[str, Tensor]:
    """Return the state of the CPU generator and of the current accelerator's, if it is in use."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    """Go on from a state.

    Args:
        state: State of `random_state`; a generator that it does not name is left as it is.
    """
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def separate_stream(rank: int) -> None:
    """Give a process a stream of its own, where all were seeded alike.

    The first one goes on as it is, so that a single process knows nothing of this. The stream of
    another is a function of the rank and of where its generators stand: of the seed at the start of
    a run, of all that was drawn before later on, so that no noise comes twice.

    Args:
        rank: Number of this process, at least 0.
    """
    if rank == 0:
        return
    key = hashlib.sha256(f"rank {rank}".encode())
    for _, state in sorted(random_state().items()):
        key.update(state.cpu().numpy().tobytes())
    torch.manual_seed(int.from_bytes(key.digest()[:8], "big"))
