"""Random values at the public functions: a result is finite, or a ValueError says why not."""

import random
from typing import Any

import torch
from torch import Tensor

import dvae.bottlenecks as bottlenecks
import dvae.functional as functional
import dvae.kernels as kernels
import dvae.metrics as metrics
import dvae.schedules as schedules
from benchmarks.fuzz.bits import any_file
from benchmarks.fuzz.inputs import DTYPES, SCALES, check_finite, usable_logits
from benchmarks.fuzz.inputs import logits as any_logits
from benchmarks.fuzz.tally import Counts, Failure, tally
from dvae.estimators import ESTIMATORS
from dvae.likelihoods import LIKELIHOODS

__all__ = ["call_of_functional", "case", "fuzz"]

_SETTINGS = ("sigma", "scale", "eps", "components")
_IN = {"ProjectedCodebook": {"in_features": 3}}


def case(seed: int) -> str:
    """Try one random call of something public; what that may be is the list of kinds below.

    Args:
        seed: Which.

    Returns:
        ``result`` or ``clear error``.

    Raises:
        Failure: Anything else.
    """
    draw = random.Random(seed)
    torch.manual_seed(seed)
    kinds = [_estimator, _estimator, call_of_functional, call_of_functional, _schedule, _likelihood]
    kind = draw.choice([*kinds, _kernel, _metric, _bottleneck, any_file])
    what: list[str] = [f"seed {seed}"]
    try:
        kind(draw, what)
    except ValueError as error:
        if "\n" in str(error) or not str(error):
            raise Failure(f"{what}: no line: {error!r}") from error
        return "clear error"
    except Failure as error:
        raise Failure(f"{what}: {error}") from error
    except Exception as error:
        raise Failure(f"{what}: {error!r}") from error
    return "result"


def _estimator(draw: random.Random, what: list[str]) -> None:
    name, cls = draw.choice([*ESTIMATORS.items()])
    what.append(name)
    logits = any_logits(
        draw, what, 2 if name in ("ARMS", "DisARM") and draw.random() < 0.8 else None
    )
    settings: dict[str, Any] = {}
    if "tau" in cls.__init__.__annotations__ and draw.random() < 0.8:
        # Half precision itself cannot hold the gradient at a temperature below 1e-2.
        tau = draw.choice([-1.0, 0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 100.0, float("nan")])
        settings["tau"] = tau
    if "samples" in cls.__init__.__annotations__ and draw.random() < 0.5:
        settings["samples"] = draw.choice([-1, 0, 1, 2, 3, 10, 2.5])
    what.append(str(settings))
    estimator = cls(**settings)
    weight = torch.randn(logits.shape[1:])

    def f(code: Tensor) -> Tensor:
        return (code.float() * weight).flatten(2).sum(-1).tanh()

    if draw.random() < 0.5 and hasattr(estimator, "sample"):
        result = estimator.train(draw.random() < 0.7)(logits)
        check_finite(result.code, None, logits.shape)
        check_finite((result.code.float() * weight).sum(), logits)
    else:
        check_finite(estimator.expectation(f, logits), logits, logits.shape[:1])


def call_of_functional(draw: random.Random, what: list[str]) -> None:
    """Call one function of `dvae.functional` with what is no error of the caller's.

    Args:
        draw: Randomness.
        what: Takes a description.

    Raises:
        Failure: A result is wrong.
    """
    names = "kl entropy log_prob softmax gumbel_softmax gumbel given_max iwae perplexity loo vimco"
    name = draw.choice([*names.split(), "kmeans", "bernoulli", "logistic"])
    what.append(name)
    logits = usable_logits(draw, what)
    noise = functional.gumbel_from_uniform(torch.rand(logits.shape))
    check_finite(noise)
    index = functional.gumbel_max(logits.detach(), noise)
    if name == "kl":
        check_finite(
            functional.categorical_kl(logits, torch.zeros_like(logits).log_softmax(-1)), logits
        )
    elif name == "entropy":
        check_finite(functional.categorical_entropy(logits), logits, logits.shape[:-1])
    elif name == "log_prob":
        check_finite(functional.categorical_log_prob(logits, index), logits, index.shape)
    elif name == "softmax":
        check_finite(functional.softmax(logits), logits, logits.shape)
    elif name == "gumbel_softmax":
        tau = draw.choice([1e-3, 0.1, 1.0, 10.0])
        check_finite(functional.gumbel_softmax(logits, noise, tau), logits, logits.shape)
    elif name == "given_max":
        perturbed = functional.gumbel_given_max(logits.detach(), index, noise)
        if not torch.equal(perturbed.argmax(-1), index):
            raise Failure("the given category does not win")
    elif name == "iwae":
        weights = logits.clamp_min(torch.finfo(logits.dtype).min / 2)
        check_finite(functional.iwae_bound(weights, -1), logits)
    elif name == "perplexity":
        counts = (logits.detach().double().clamp(-10, 1e6).abs()).long()
        perplexity = functional.perplexity_from_counts(counts)
        if not ((perplexity >= 0) & (perplexity <= counts.shape[-1] + 1e-6)).all():
            raise Failure("perplexity out of [0, K]")
        check_finite(functional.usage_from_counts(counts))
    elif name in ("loo", "vimco"):
        values = torch.randn(draw.choice([2, 3, 8]), 4) * draw.choice(SCALES)
        function = {"loo": functional.leave_one_out_advantage, "vimco": functional.vimco_advantage}
        check_finite(function[name](values), None, values.shape)
    elif name == "kmeans":
        points = logits.detach().clamp(-1e4, 1e4).flatten(0, -2)
        check_finite(functional.kmeans(points, points[:2].clone(), 3))
    elif name == "bernoulli":
        safe = logits.clamp_min(torch.finfo(logits.dtype).min / 2)
        check_finite(functional.bernoulli_log_prob(safe, torch.rand(logits.shape)), logits)
    elif name == "logistic":
        x = torch.randint(256, logits.shape) / 255
        scale = torch.full_like(logits, draw.uniform(-7, 3))
        mean = logits.clamp(-1e3, 1e3)
        check_finite(functional.discretized_logistic_log_prob(mean, scale, x, 256), logits)


def _schedule(draw: random.Random, what: list[str]) -> None:
    def number() -> Any:
        odd = (float("nan"), float("inf"), 10**400)
        return draw.choice([-1.0, 0.0, 1e-9, 0.1, 0.5, 1.0, 2.0, 1e30, 0, 1, 3, 1000, True, *odd])

    def steps() -> Any:
        return draw.choice([None, None, 0, -1, 1, 10, 1000, 0.1, 1.0, 1.5, float("nan"), 10**30])

    def make(depth: int = 0) -> Any:
        name = draw.choice([*schedules.SCHEDULES])
        if name == "Sequential":
            if depth > 1:
                name = "Constant"
            else:
                return schedules.Sequential([make(depth + 1) for _ in range(draw.randrange(4))])
        if name == "Rescaled":
            if depth > 1:
                name = "Constant"
            else:
                inner = number() if draw.random() < 0.1 else make(depth + 1)
                return schedules.Rescaled(inner, number())
        cls = getattr(schedules, name)
        keys = [
            k
            for k in cls.__dataclass_fields__
            if draw.random() < 0.8 or k in ("start", "end", "value")
        ]
        values = {k: steps() if k in ("steps", "every", "cycles") else number() for k in keys}
        what.append(f"{name}({values})".replace(str(10**400), "10**400"))
        return cls(**values)

    schedule = make()
    run = draw.choice([None, 0, 1, 10, 12345])
    what.append(f"run {run}")
    low, high = schedule.bounds()
    slack = 1e-6 * max(abs(low), abs(high))
    for step in (0, 1, 7, 500, 10**6):
        value = schedule(step, run)
        if not low - slack <= value <= high + slack:
            raise Failure(f"{value} at step {step} is outside {low} to {high}")


def _likelihood(draw: random.Random, what: list[str]) -> None:
    name, cls = draw.choice([pair for pair in LIKELIHOODS.items() if pair[1].pixels])
    setting = draw.choice([None, None, -1.0, 0.0, 1e-3, 0.1, 0.49, 1.0, float("nan"), 2])
    what.append(f"{name}({setting})")
    takes = [k for k in vars(cls).get("__init__", _schedule).__annotations__ if k in _SETTINGS]
    likelihood = cls(**{takes[0]: setting}) if takes and setting is not None else cls()
    channels, size = draw.choice([1, 3]), draw.choice([1, 2, 5])
    count = draw.choice([0, 1, 3])
    dtype, scale = draw.choice(DTYPES[:2]), draw.choice(SCALES)
    shape = (count, channels * likelihood.params_per_channel, size, size)
    params = (torch.randn(shape, dtype=dtype) * scale).requires_grad_()
    what.append(f"params {shape} {dtype} scale {scale:g}")
    x = torch.randint(256, (count, channels, size, size)) / 255
    if not count and name == "OptimalGaussian":
        likelihood.eval()
    check_finite(likelihood.log_prob(params, likelihood.dequantize(x)), params, (count,))
    mean = likelihood.mean(params)
    if mean.numel() and not (mean.min() >= 0 and mean.max() <= 1):
        raise Failure("the mean is outside [0, 1]")


def _kernel(draw: random.Random, what: list[str]) -> None:
    name = draw.choice(["gumbel_codebook", "straight_through_codebook", "reinmax_codebook"])
    n, c, k, d = (draw.choice(sizes) for sizes in ([0, 1, 2, 5], [1, 3], [1, 2, 7, 33], [1, 2, 5]))
    dtype, scale = draw.choice(DTYPES), draw.choice(SCALES[:5])
    wrong = draw.choice([0] * 15 + [1])
    tau = draw.choice([-1.0, 0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 100.0, float("nan")])
    backend = draw.choice(["auto", "reference", "blocked", "triton", "none"])
    what.append(f"{name} N {n} C {c} K {k} D {d} {dtype} {scale:g} {wrong} {tau} {backend}")
    h = (torch.randn(n, c) * scale).to(dtype).requires_grad_()
    weight = torch.randn(k, c + wrong).to(dtype)
    bias = torch.randn(k).to(dtype) if draw.random() < 0.5 else None
    codebook = torch.randn(k, d).to(dtype)
    function: Any = getattr(kernels, name)
    code, index, kl = function(h, weight, bias, codebook, tau, draw.randrange(99), backend=backend)
    check_finite(code, h, (n, d))
    check_finite(kl, None, (n,))
    if tuple(index.shape) != (n,) or (n and not 0 <= index.min() <= index.max() < k):
        raise Failure(f"index {index.tolist()}")


def _metric(draw: random.Random, what: list[str]) -> None:
    count = draw.choice([0, 1, 2, 5])
    if draw.random() < 0.5:
        shape = draw.choice([(1,), (7,), (2, 3), (5, 33)])
        what.append(f"CodebookUsage{shape} {count}")
        usage = metrics.CodebookUsage(shape)
        for _ in range(count):
            usage.update(torch.randint(10 ** draw.randrange(1, 10), shape))
        counts = usage.compute()
        check_finite(
            torch.stack([usage.perplexity(counts), usage.usage(counts)]).float(), None, (2,)
        )
        return
    size, channels, dtype = draw.choice([1, 5, 11, 16]), draw.choice([1, 3]), draw.choice(DTYPES)
    what.append(f"ImageQuality {count} of {channels}x{size}x{size} {dtype}")
    quality = metrics.ImageQuality()
    for _ in range(draw.choice([1, 2])):
        images = torch.rand(2, count + 1, channels, size, size).to(dtype)
        quality.update(images[0], images[draw.choice([0, 1])])
    found = quality.compute()
    # An image that is smaller than its window has no SSIM.
    check_finite(torch.stack([found[k] for k in ("mse", "psnr", "ssim")[: 3 if size >= 11 else 2]]))


def _bottleneck(draw: random.Random, what: list[str]) -> None:
    name = draw.choice(["CategoricalBottleneck", "ProjectedCodebook", "DistanceCodebook", "VQ"])
    k, size = draw.choice([-1, 0, 1, 2, 3, 7, 33]), draw.choice([0, 1, 2, 3])
    what.append(f"{name} K {k} size {size}")
    cls = getattr(bottlenecks, name)
    if name == "CategoricalBottleneck":
        module = cls(num_latents=size, num_codes=k)
        shape: tuple[int, ...] = (module.in_features,)
    else:
        module = cls(num_codes=k, code_dim=size, **_IN.get(name, {}))
        shape = (module.in_features, 2, 3)
        module.grid = shape[1:]
    # The module that VQ wraps computes in float32.
    dtype, scale = draw.choice(DTYPES[: 1 if name == "VQ" else 2]), draw.choice(SCALES[:6])
    features = (torch.randn(draw.choice([1, 2, 5]), *shape) * scale).to(dtype).requires_grad_()
    module.to(dtype).train(draw.random() < 0.7)
    what.append(f"features {list(features.shape)} {dtype} scale {scale:g}")
    q = module(features)
    value = q.expectation(lambda z, _: z.flatten(2).sum(-1).tanh())
    check_finite(value, features, (len(features),))
    check_finite(module(features).entropy(), features, (len(features),))


def fuzz(cases: int, seed: int = 0, show: int = 20) -> Counts:
    """Try many cases.

    Args:
        cases: How many.
        seed: Seed of the first.
        show: Failures printed at most.

    Returns:
        How many had a result, a clear error, or failed.
    """
    return tally(range(seed, seed + cases), case, show)
