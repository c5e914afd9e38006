"""What Triton's interpreter is asked to do, in a process of its own: it is chosen by a variable.

TRITON_INTERPRET=1 python -m tests.kernels.interpret
"""

import torch
import triton
import triton.language as tl

from dvae.kernels import gumbel_noise, triton_parts
from tests.kernels.compare import REPEATS, SHAPES, TRITON_KINDS, assert_as_good_as_plain


@triton.jit
def write_noise(out, seed_ptr, N: tl.constexpr, K: tl.constexpr):
    rows, codes = tl.arange(0, N), tl.arange(0, K)
    first, second = triton_parts.row_keys(tl.load(seed_ptr), rows)
    tile = triton_parts.gumbel(first[:, None], second[:, None], codes[None, :])
    tl.store(out + rows[:, None] * K + codes[None, :], tile)


def check_noise():
    """Compare the noise of both, to the rounding of two logarithms."""
    for seed in (5, 2**63 - 10**9):
        found = torch.empty(64, 2048)
        write_noise[(1,)](found, torch.tensor([seed]), 64, 2048)
        torch.testing.assert_close(found, gumbel_noise(seed, 64, 2048), rtol=2e-6, atol=2e-6)


def check_results():
    """Compare values and gradients over kinds, sizes and dtypes."""
    for kind in TRITON_KINDS:
        for shape in SHAPES:
            # The largest takes a second each time, and many numbers are less a matter of luck.
            repeats = {1: REPEATS, 19: 2}.get(shape[0], REPEATS // 2)
            assert_as_good_as_plain("triton", shape, torch.float32, kind, repeats=repeats)
    for shape in SHAPES[1:3]:
        assert_as_good_as_plain("triton", shape, torch.float32, "soft", prior=False)
    assert_as_good_as_plain("triton", SHAPES[0], torch.float16, "soft")
    assert_as_good_as_plain("triton", SHAPES[0], torch.float32, "hard", bias=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    check_noise()
    check_results()
    print("ok")
