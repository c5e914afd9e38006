"""Broken configs at the command line: one line that says what is wrong, or a step of training."""

import contextlib
import copy
import io
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from matplotlib.figure import Figure

from benchmarks.fuzz.tally import Counts, Failure, TooLong, limit, tally
from dvae.cli import DVAECLI
from dvae.cli import main as train
from dvae.data import Images
from dvae.data.events import EventDataModule

__all__ = ["config_case", "fuzz_configs", "mutate"]

CONFIGS = Path(__file__).parents[2] / "configs"
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
        if not isinstance(self.datamodule, EventDataModule):  # those come with the package
            self._make_images()
        super().before_fit()
        # A run may be as long as its config says; the first steps are what is tried.
        loop = self.trainer.fit_loop.epoch_loop
        loop.max_steps = STEPS if loop.max_steps == -1 else min(loop.max_steps, STEPS)

    def _make_images(self) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (IMAGES, *self.datamodule.image_shape)

        def load(split: str) -> Images:
            images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
            return Images(images, torch.arange(IMAGES) % 2)

        self.datamodule.prepare_data = lambda: None  # type: ignore[method-assign]
        self.datamodule.load = load  # type: ignore[method-assign]


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
            limit(SLOW),
            contextlib.chdir(folder),
            mock.patch.dict(os.environ, WANDB_MODE="disabled"),
            mock.patch.object(Figure, "draw"),  # most of a run of one step
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            code = train(["fit", "--config", str(path)], _Step)
    except KeyboardInterrupt:
        raise
    except TooLong as error:
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
        seed: Seed of the first.
        show: Failures printed at most.
    """
    with tempfile.TemporaryDirectory() as folder:
        return tally(range(seed, seed + count), lambda n: config_case(n, Path(folder)), show)
