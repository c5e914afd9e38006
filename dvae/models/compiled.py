"""What of a training step goes through torch's compiler."""

import os
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Compile", "NetworkCalls", "check_compile", "compile_calls"]

Compile = bool | Literal["cuda-graphs"]


class NetworkCalls(NamedTuple):
    """The two calls of a training step into its networks.

    Attributes:
        encode: Images ``(B, C, H, W)`` to features.
        log_px: Codes ``(S, B, *code)`` and images to nats per example ``(S, B)``.
    """

    encode: Callable[[Tensor], Tensor]
    log_px: Callable[[Tensor, Tensor], Tensor]


def check_compile(how: Compile, device: torch.device, accumulates: bool) -> None:
    """Refuse what cannot be compiled here, before anything is written.

    Args:
        how: What was asked for.
        device: Device of the training.
        accumulates: Whether gradients of several batches are added up.

    Raises:
        ValueError: On a CPU, where there is no C++ compiler, or where CUDA graphs were asked for
            and there is no GPU, or gradients are added up.
    """
    tried = (os.environ.get("CXX", "g++"), "clang++")
    if how == "cuda-graphs" and device.type != "cuda":
        raise ValueError(
            f"model.compile cuda-graphs needs a GPU, and training is on {device.type}: use true"
        )
    if how == "cuda-graphs" and accumulates:
        # Captured kernels write each gradient to the same place, over the one to be added to.
        raise ValueError(
            "model.compile cuda-graphs and trainer.accumulate_grad_batches above 1 exclude each "
            "other: use true"
        )
    if how and device.type == "cpu" and not any(shutil.which(name) for name in tried):
        raise ValueError(
            f"model.compile needs a C++ compiler on a CPU, and there is none of {', '.join(tried)} "
            "(set CXX to one, or leave out model.compile)"
        )


def compile_calls(
    encoder: nn.Module, log_px: Callable[[Tensor, Tensor], Tensor], how: Compile = True
) -> NetworkCalls:
    """Compile both, each into one graph.

    The draw between them stays as it is: it costs little beside the networks, looks at numbers (a
    row without a finite maximum, a code that died), and is where the temperature is, which may
    therefore move without a new graph. Compiled on the first call.

    Args:
        encoder: Images to features.
        log_px: Codes and images to the log-likelihood.
        how: Other than False, and checked. With ``cuda-graphs`` the kernels of each graph are
            captured too and replayed as one launch, which is what a small network on a GPU waits
            for.
    """
    # Its tracer looks at the gradient of the code, which is none of the user's business.
    warnings.filterwarnings("ignore", r"The \.grad attribute of a Tensor", module=r"torch\._")
    capture = how == "cuda-graphs"
    # In a graph that breaks, the user would pay for the compiler and not see why it is slow.
    compile = partial(torch.compile, fullgraph=True, mode="reduce-overhead" if capture else None)
    encode, score = compile(encoder), compile(log_px)
    if not capture:
        return NetworkCalls(encode, score)

    def first(image: Tensor) -> Tensor:
        # The memory of the step before may be written over from here on.
        torch.compiler.cudagraph_mark_step_begin()
        return encode(image)  # type: ignore[no-any-return]

    return NetworkCalls(first, score)
