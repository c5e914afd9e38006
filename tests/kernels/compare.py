"""One run of the fused code book with its gradients, and how far it may be from exact ones."""

from collections import defaultdict

import torch

from dvae.kernels import gumbel_codebook, reinmax_codebook, straight_through_codebook

NAMES = ("code", "index", "kl", "h", "weight", "bias", "codebook", "log_prior")
TRITON_KINDS = ("soft", "hard", "straight_through")
KINDS = (*TRITON_KINDS, "reinmax")
SEED = 77
# Inputs and noise that errors are taken over: of one alone, plain torch's error may be 0 by luck.
REPEATS = 8
# Units in the last place of a result's norm that are as good as none: the sums of a running softmax
# are rounded once a block, and a row's KL is a single number. In float64 the reference itself has
# lost as many as its largest score over the temperature.
LOST = {torch.float64: 30, torch.float32: 4, torch.bfloat16: 1, torch.float16: 1}
# N, C, K, D: odd sizes, one row, one number a vector, fewer codes than a block and more.
SHAPES = ((7, 5, 33, 6), (1, 3, 50, 1), (40, 16, 7, 17), (19, 33, 130, 20))


def inputs(shape, dtype, bias=True, prior=True, seed=0):
    """Make leaf tensors, the same numbers whatever the dtype (rounded to bfloat16)."""
    n, c, k, d = shape
    generator = torch.Generator().manual_seed(n + k + 10**6 * seed)
    shapes = ((n, c), (k, c), (k,), (k, d), (k,))
    made = [torch.randn(s, generator=generator).to(torch.bfloat16).double() for s in shapes]
    made[4] = made[4].log_softmax(0).to(torch.bfloat16).double()
    if not bias:
        made[2] = None
    if not prior:
        made[4] = None
    return [x if x is None else x.to(dtype).requires_grad_() for x in made]


def run(backend, shape, dtype, kind="soft", tau=0.6, device="cpu", seed=0, **given):
    """Return values and gradients by name, in float64, with upstream gradients that are not 1."""
    made = inputs(shape, dtype, seed=seed, **given)
    leaves = [x if x is None else x.to(device).detach() for x in made]
    leaves = [x if x is None else x.requires_grad_() for x in leaves]
    h, weight, bias, codebook, log_prior = leaves
    if kind == "straight_through":
        call, extra = straight_through_codebook, {}
    elif kind == "reinmax":
        call, extra = reinmax_codebook, {}
    else:
        call, extra = gumbel_codebook, {"hard": kind == "hard"}
    code, index, kl = call(
        h, weight, bias, codebook, tau, SEED + seed, log_prior=log_prior, backend=backend, **extra
    )
    assert code.dtype == h.dtype and index.dtype == torch.int64
    generator = torch.Generator().manual_seed(1)
    of_code = torch.randn(code.shape, generator=generator).to(torch.bfloat16).to(device, dtype)
    of_kl = torch.randn(kl.shape, generator=generator).to(torch.bfloat16).to(device, kl.dtype)
    wanted = [x for x in leaves if x is not None]
    grads = iter(torch.autograd.grad([code, kl], wanted, [of_code, of_kl]))
    gradients = [None if x is None else next(grads) for x in leaves]
    found = zip(NAMES, [code, index, kl, *gradients], strict=True)
    return {name: x.detach().double().cpu() for name, x in found if x is not None}


def assert_as_good_as_plain(backend, shape, dtype, kind, device="cpu", repeats=REPEATS, **given):
    """Test that errors are at most twice those of plain torch in the same dtype.

    Error and norm are roots of the sums of squares over the repeats: where a single result happens
    to be near 0, so is its weight.
    """
    squares = defaultdict(lambda: torch.zeros(3, dtype=torch.float64))
    agreed = 0.0
    for seed in range(repeats):
        exact = run("reference", shape, torch.float64, kind, seed=seed, **given)
        plain = run("reference", shape, dtype, kind, device=device, seed=seed, **given)
        ours = run(backend, shape, dtype, kind, device=device, seed=seed, **given)
        share = float((ours["index"] == exact["index"]).double().mean())
        if dtype in (torch.float64, torch.float32):
            assert share == 1
        agreed += share / repeats
        same = torch.equal(ours["index"], exact["index"])
        same = same and torch.equal(plain["index"], exact["index"])
        for name in ours:
            if kind != "soft" and not same and name in ("code", "codebook"):
                continue
            deviations = [x[name] - exact[name] for x in (ours, plain)]
            sums = [x.square().sum() for x in (*deviations, exact[name])]
            squares[name] += torch.stack(sums)
    assert agreed > 0.8  # logits in half precision are others, and so are a few draws
    for name, (ours, plain, norm) in ((name, x.sqrt()) for name, x in squares.items()):
        error, of_plain = ours / norm, plain / norm
        allowed = max(2 * of_plain, LOST[dtype] * torch.finfo(dtype).eps)
        assert error <= allowed, f"{name}: {error:.2e} > {allowed:.2e} ({shape}, {dtype}, {kind})"
