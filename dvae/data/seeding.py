"""Random generators that belong to one purpose each and leave the global one alone."""

import hashlib

import torch

__all__ = ["seeded_generator"]


def seeded_generator(
    purpose: str, *numbers: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Make a generator whose stream is a pure function of the arguments.

    The arguments are hashed because torch's CPU generator reads the low 32 bits of its seed only
    (`seed << 32 | epoch` would ignore the seed), and because sums collide: seed 0 in epoch 1 would
    be seed 1 in epoch 0.

    Args:
        purpose: What the numbers are for, so that two purposes never share a stream.
        numbers: Any integers, such as a seed and an epoch.
        device: Where it draws.

    Returns:
        A fresh generator.
    """
    key = "/".join([purpose, *map(str, numbers)])
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:4], "big"))
