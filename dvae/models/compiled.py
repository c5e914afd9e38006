"""What of a training step goes through torch's compiler."""

import os
import shutil
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["NetworkCalls", "compile_calls"]


class NetworkCalls(NamedTuple):
    """The two calls of a training step into its networks.

    Attributes:
        encode: Images ``(B, C, H, W)`` to features.
        log_px: Codes ``(S, B, *code)`` and images to nats per example ``(S, B)``.
    """

    encode: Callable[[Tensor], Tensor]
    log_px: Callable[[Tensor, Tensor], Tensor]


def compile_calls(encoder: nn.Module, log_px: Callable[[Tensor, Tensor], Tensor]) -> NetworkCalls:
    """Compile both, each into one graph.

    The draw between them stays as it is: it costs little beside the networks, looks at numbers (a
    row without a finite maximum, a code that died), and is where the temperature is, which may
    therefore move without a new graph. Compiled on the first call.

    Args:
        encoder: Images to features.
        log_px: Codes and images to the log-likelihood.

    Raises:
        ValueError: On a CPU, where there is no C++ compiler to do it.
    """
    device = next(encoder.parameters()).device
    tried = (os.environ.get("CXX", "g++"), "clang++")
    if device.type == "cpu" and not any(shutil.which(name) for name in tried):
        raise ValueError(
            f"model.compile needs a C++ compiler on a CPU, and there is none of {', '.join(tried)} "
            "(set CXX to one, or leave out model.compile)"
        )
    # Its tracer looks at the gradient of the code, which is none of the user's business.
    warnings.filterwarnings("ignore", r"The \.grad attribute of a Tensor", module=r"torch\._")
    # In a graph that breaks, the user would pay for the compiler and not see why it is slow.
    return NetworkCalls(
        torch.compile(encoder, fullgraph=True), torch.compile(log_px, fullgraph=True)
    )
