"""Throw random values at the public functions, and broken configs at the command line.

python -m benchmarks.fuzz --cases 100000
python -m benchmarks.fuzz --configs 10000

A case is good where the result and its gradients are finite and of the right shape, or where a
ValueError says in one line what is wrong. A config is good where the command line takes a training
and a validation step with it, on a few random images, or reports one line and leaves no folder of a
run. Anything else is a failure, and its input is printed.
"""

import argparse
import collections
import contextlib
import copy
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
import yaml
from matplotlib.figure import Figure
from torch import Tensor

import dvae.bottlenecks as bottlenecks
import dvae.estimators as estimators
import dvae.functional as functional
import dvae.kernels as kernels
import dvae.likelihoods as likelihoods
import dvae.metrics as metrics
import dvae.schedules as schedules
from dvae.cli import DVAECLI
from dvae.cli import main as train
from dvae.data import Images

__all__ = ["Counts", "case", "config_case", "fuzz", "fuzz_configs", "main"]

CONFIGS = Path(__file__).parents[1] / "configs"
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SCALES = (0.0, 1e-30, 1e-3, 1.0, 30.0, 1e3, 3e4)
SLOW = 300.0  # seconds: a network may be as wide as it was published, on one busy core
IMAGES = 40
STEPS = 3
# Of the networks of our configs, so that a step takes no time.
SMALL: dict[str, dict[str, Any]] = {
    "ResNet": {"width": 8, "blocks": 1},
    "VQVAENet": {"width": 8},
    "DALLENet": {"width": 8},
    "MLP": {"hidden": [16]},
}
# One step of everything, and the keys of the trainer that people set.
TRAINER: dict[str, Any] = {
    "max_epochs": 1,
    "max_steps": -1,
    "max_time": None,
    "limit_train_batches": 1,
    "limit_val_batches": 1,
    "limit_test_batches": 1,
    "overfit_batches": 0.0,
    "val_check_interval": 1.0,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "precision": "32-true",
    "accelerator": "cpu",
    "devices": 1,
    "deterministic": False,
    "enable_checkpointing": True,
    "enable_progress_bar": False,
}
_SETTINGS = ("sigma", "scale", "eps", "components")
_IN = {"ProjectedCodebook": {"in_features": 3}}
Counts = collections.Counter[str]


class Failure(Exception):
    """A result that is wrong, or an error of the wrong kind."""


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
    kinds = [_estimator, _estimator, _functional, _functional, _schedule, _likelihood]
    kind = draw.choice([*kinds, _kernel, _metric, _bottleneck])
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


def _logits(draw: random.Random, what: list[str], num_codes: int | None = None) -> Tensor:
    k = draw.choice([1, 2, 2, 3, 5, 10, 33]) if num_codes is None else num_codes
    shape = [draw.choice([0, 1, 2, 5]), *(draw.choice([1, 2, 3]) for _ in range(draw.randrange(3)))]
    dtype, scale = draw.choice(DTYPES), draw.choice(SCALES)
    logits = (torch.randn(*shape, k, dtype=torch.float64) * scale).to(dtype)
    special = draw.choice(["none"] * 6 + ["-inf", "nan", "inf", "row", "equal"])
    if logits.numel():
        if special == "-inf" and k > 1:
            logits[..., 0] = -torch.inf
        elif special in ("nan", "inf"):
            logits.view(-1)[0] = float(special)
        elif special == "row":
            logits[0] = -torch.inf
        elif special == "equal":
            logits.fill_(logits.view(-1)[0].item())
    what.append(f"logits {list(logits.shape)} {dtype} scale {scale:g} {special}")
    return logits.requires_grad_()


def _usable_logits(draw: random.Random, what: list[str]) -> Tensor:
    # An infinite logit or a row that forbids everything is the caller's: the layers refuse it.
    # Such a draw would be no call, so another takes its place.
    while True:
        tried: list[str] = []
        logits = _logits(draw, tried)
        if logits.numel() and logits.detach().amax(-1).isfinite().all():
            what += tried
            return logits


def _finite(value: Tensor, leaf: Tensor | None = None, shape: Sequence[int] | None = None) -> None:
    if shape is not None and tuple(value.shape) != tuple(shape):
        raise Failure(f"shape {tuple(value.shape)} instead of {tuple(shape)}")
    if not value.detach().isfinite().all():
        raise Failure("the result is not finite")
    if leaf is None or not value.requires_grad:
        return
    (grad,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    if grad is not None and (grad.shape != leaf.shape or not grad.isfinite().all()):
        raise Failure("the gradient is not finite")


def _estimator(draw: random.Random, what: list[str]) -> None:
    names = [n for n in estimators.__all__ if n not in ("Draw", "Estimator", "PathwiseEstimator")]
    name = draw.choice(names)
    what.append(name)
    cls = getattr(estimators, name)
    logits = _logits(draw, what, 2 if name in ("ARMS", "DisARM") and draw.random() < 0.8 else None)
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
        _finite(result.code, None, logits.shape)
        _finite((result.code.float() * weight).sum(), logits)
    else:
        _finite(estimator.expectation(f, logits), logits, logits.shape[:1])


def _functional(draw: random.Random, what: list[str]) -> None:
    names = "kl entropy log_prob softmax gumbel_softmax gumbel given_max iwae perplexity loo vimco"
    name = draw.choice([*names.split(), "kmeans", "bernoulli", "logistic"])
    what.append(name)
    logits = _usable_logits(draw, what)
    noise = functional.gumbel_from_uniform(torch.rand(logits.shape))
    _finite(noise)
    index = functional.gumbel_max(logits.detach(), noise)
    if name == "kl":
        _finite(functional.categorical_kl(logits, torch.zeros_like(logits).log_softmax(-1)), logits)
    elif name == "entropy":
        _finite(functional.categorical_entropy(logits), logits, logits.shape[:-1])
    elif name == "log_prob":
        _finite(functional.categorical_log_prob(logits, index), logits, index.shape)
    elif name == "softmax":
        _finite(functional.softmax(logits), logits, logits.shape)
    elif name == "gumbel_softmax":
        tau = draw.choice([1e-3, 0.1, 1.0, 10.0])
        _finite(functional.gumbel_softmax(logits, noise, tau), logits, logits.shape)
    elif name == "given_max":
        perturbed = functional.gumbel_given_max(logits.detach(), index, noise)
        if not torch.equal(perturbed.argmax(-1), index):
            raise Failure("the given category does not win")
    elif name == "iwae":
        weights = logits.clamp_min(torch.finfo(logits.dtype).min / 2)
        _finite(functional.iwae_bound(weights, -1), logits)
    elif name == "perplexity":
        counts = (logits.detach().double().clamp(-10, 1e6).abs()).long()
        perplexity = functional.perplexity_from_counts(counts)
        if not ((perplexity >= 0) & (perplexity <= counts.shape[-1] + 1e-6)).all():
            raise Failure("perplexity out of [0, K]")
        _finite(functional.usage_from_counts(counts))
    elif name in ("loo", "vimco"):
        values = torch.randn(draw.choice([2, 3, 8]), 4) * draw.choice(SCALES)
        function = {"loo": functional.leave_one_out_advantage, "vimco": functional.vimco_advantage}
        _finite(function[name](values), None, values.shape)
    elif name == "kmeans":
        points = logits.detach().clamp(-1e4, 1e4).flatten(0, -2)
        _finite(functional.kmeans(points, points[:2].clone(), 3))
    elif name == "bernoulli":
        safe = logits.clamp_min(torch.finfo(logits.dtype).min / 2)
        _finite(functional.bernoulli_log_prob(safe, torch.rand(logits.shape)), logits)
    elif name == "logistic":
        x = torch.randint(256, logits.shape) / 255
        scale = torch.full_like(logits, draw.uniform(-7, 3))
        mean = logits.clamp(-1e3, 1e3)
        _finite(functional.discretized_logistic_log_prob(mean, scale, x, 256), logits)


def _schedule(draw: random.Random, what: list[str]) -> None:
    def number() -> Any:
        odd = (float("nan"), float("inf"), 10**400)
        return draw.choice([-1.0, 0.0, 1e-9, 0.1, 0.5, 1.0, 2.0, 1e30, 0, 1, 3, 1000, True, *odd])

    def steps() -> Any:
        return draw.choice([None, None, 0, -1, 1, 10, 1000, 0.1, 1.0, 1.5, float("nan"), 10**30])

    def make(depth: int = 0) -> Any:
        name = draw.choice(schedules.__all__)
        if name == "Schedule":
            name = "Linear"
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
    names = [n for n in likelihoods.__all__ if n not in ("Likelihood", "LEVELS")]
    name = draw.choice(names)
    setting = draw.choice([None, None, -1.0, 0.0, 1e-3, 0.1, 0.49, 1.0, float("nan"), 2])
    what.append(f"{name}({setting})")
    cls = getattr(likelihoods, name)
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
    _finite(likelihood.log_prob(params, likelihood.dequantize(x)), params, (count,))
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
    _finite(code, h, (n, d))
    _finite(kl, None, (n,))
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
        _finite(torch.stack([usage.perplexity(counts), usage.usage(counts)]).float(), None, (2,))
        return
    size, channels, dtype = draw.choice([1, 5, 11, 16]), draw.choice([1, 3]), draw.choice(DTYPES)
    what.append(f"ImageQuality {count} of {channels}x{size}x{size} {dtype}")
    quality = metrics.ImageQuality()
    for _ in range(draw.choice([1, 2])):
        images = torch.rand(2, count + 1, channels, size, size).to(dtype)
        quality.update(images[0], images[draw.choice([0, 1])])
    found = quality.compute()
    # An image that is smaller than its window has no SSIM.
    _finite(torch.stack([found[k] for k in ("mse", "psnr", "ssim")[: 3 if size >= 11 else 2]]))


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
    found = module.expectation(lambda z: z.flatten(2).sum(-1).tanh(), features)
    _finite(found.value, features, (len(features),))
    _finite(module.kl(features), features, (len(features),))


def fuzz(cases: int, seed: int = 0, show: int = 20) -> Counts:
    """Try many cases.

    Args:
        cases: How many.
        seed: Of the first.
        show: Failures printed at most.

    Returns:
        How many had a result, a clear error, or failed.
    """
    return _count(range(seed, seed + cases), case, show)


def _count(seeds: Sequence[int], attempt: Callable[[int], str], show: int) -> Counts:
    counts: Counts = collections.Counter()
    for number in seeds:
        try:
            counts[attempt(number)] += 1
        except Failure as error:
            counts["failure"] += 1
            if counts["failure"] <= show:
                print(str(error)[:600], flush=True)
    return counts


def _mutations(draw: random.Random) -> list[Any]:
    values: list[Any] = [None, -1, 0, 1, -0.5, 1e-300, 1e308, 10**30, float("nan"), float("inf")]
    values += ["", "abc", "é\n", [], [1, [2]], {}, {"a": 1}, True, "null", "GumbelSoftmax", "../x"]
    values += ["os.system", "torch.nn.Linear", {"class_path": "Linear"}, {"class_path": 3}]
    return [draw.choice(values)]


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(node, (dict, list)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            found += _paths(child, (*path, key))
    return found


def mutate(config: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Change one to three things of a config.

    Args:
        config: The config.
        draw: Randomness.
    """
    config = copy.deepcopy(config)
    for _ in range(draw.randint(1, 3)):
        paths = _paths(config)
        if not paths:
            break
        *parents, key = draw.choice(paths)
        node: Any = config
        for parent in parents:
            node = node[parent]
        action = draw.random()
        if action < 0.7:
            node[key] = _mutations(draw)[0]
        elif action < 0.8:
            del node[key]
        elif isinstance(node, dict):
            node[draw.choice(["tua", "extra", "", "class_path", "init_args", "1"])] = node[key]
    return config


class _Step(DVAECLI):
    """The command line, with a few random images for those of the data set."""

    def before_fit(self) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (IMAGES, *self.datamodule.image_shape)

        def load(split: str) -> Images:
            images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
            return Images(images, torch.arange(IMAGES) % 2)

        self.datamodule.prepare_data = lambda: None  # type: ignore[method-assign]
        self.datamodule.load = load  # type: ignore[method-assign]
        super().before_fit()
        # A run may be as long as its config says; the first steps are what is tried.
        loop = self.trainer.fit_loop.epoch_loop
        loop.max_steps = STEPS if loop.max_steps == -1 else min(loop.max_steps, STEPS)


def _small(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make a config of one step on a few images in a folder, with all keys that may be mutated."""
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    network = model.get("network", {"class_path": "MLP", "init_args": {}})
    sizes = SMALL.get(network["class_path"], {})
    network["init_args"] = {**network.get("init_args", {}), **sizes}
    model["network"] = network
    model["evaluation"] = {"iwae_samples": 2, "chunk": 2, "max_states": 100, "seed": 0}
    data.update(batch_size=4, val_size=8, seed=0)
    if "data_dir" in data:
        data["data_dir"] = str(CONFIGS)  # a folder that is there; what is in it is not read
    config["trainer"] = {
        **config.get("trainer", {}),
        **copy.deepcopy(TRAINER),
        "default_root_dir": str(folder / "runs"),
    }
    config["checkpoints"] = {"every_n_steps": 1}
    config["reconstructions"] = {"every_n_epochs": 1, "count": 2}
    return {**config, "nonfinite": "stop", "seed_everything": 0, "experiment": "fuzz"}


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _TooLong(BaseException):
    """Not caught by what is tried."""


def config_case(seed: int, folder: Path) -> str:
    """Put one broken config through the command line: a step of training and one of validation.

    Args:
        seed: Which.
        folder: Where to write it, and the run; nothing else is to be in it.

    Returns:
        ``ran``, ``stopped`` (at a loss that is not finite) or ``clear error``.

    Raises:
        Failure: An exception, several lines, a folder of a run that never began, or too much time.
    """
    draw = random.Random(seed)
    files = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name != "sweeps")
    source = files[seed % len(files)]
    config = mutate(_small(yaml.safe_load(source.read_text()), folder), draw)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    output, errors = io.StringIO(), io.StringIO()
    what = f"seed {seed}, {source.name}"
    try:
        with (
            _limit(SLOW),
            contextlib.chdir(folder),
            mock.patch.dict(os.environ, WANDB_MODE="disabled"),
            mock.patch.object(Figure, "draw"),  # most of a run of one step
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            code = train(["fit", "--config", str(path)], _Step)
    except KeyboardInterrupt:
        raise
    except _TooLong as error:
        raise Failure(f"{what}: took more than {SLOW:.0f} s: {config}") from error
    except BaseException as error:
        raise Failure(f"{what}: {error!r}: {config}") from error
    finally:
        left = [found for found in folder.iterdir() if found != path]
        for found in left:
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    if code == 0:
        return "ran"
    lines = [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]
    if len(lines) != 1 or "Traceback" in errors.getvalue() or len(lines[0]) > 1000:
        raise Failure(f"{what}: {errors.getvalue()[-500:]}: {config}")
    if code == 1:
        return "stopped"
    if left:
        raise Failure(f"{what}: left {left[0].name} after {lines[0]}: {config}")
    return "clear error"


def fuzz_configs(count: int, seed: int = 0, show: int = 20) -> Counts:
    """Try many broken configs.

    Args:
        count: How many.
        seed: Of the first.
        show: Failures printed at most.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _count(range(seed, seed + count), lambda n: config_case(n, Path(folder)), show)


def main(args: Sequence[str] | None = None) -> int:
    """Run, and print how many were tried and what became of them.

    Args:
        args: Arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--configs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    failures = 0
    runs = (("cases", options.cases, fuzz), ("configs", options.configs, fuzz_configs))
    for name, count, function in runs:
        if count:
            began = time.perf_counter()
            counts = function(count, options.seed)
            failures += counts["failure"]
            good = ", ".join(f"{n} {k}" for k, n in sorted(counts.items()) if k != "failure")
            seconds = time.perf_counter() - began
            failed = counts["failure"]
            print(
                f"{count} {name}, seed {options.seed}: {good}; {failed} failures, {seconds:.0f} s"
            )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
