"""One file is enough for an estimator, a prior, a likelihood, a schedule or a data set."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dvae

ROOT = Path(dvae.__file__).parent.parent
PAGE = ROOT / "docs" / "add-an-estimator.md"
NEW = {
    # That of the page says nothing of a temperature; this one has one.
    "estimators/newest.py": """
from dvae.estimators.about import About
from dvae.estimators.straight_through import StraightThrough

class Newest(StraightThrough):
    about = About(2031, "3101.00001", "biased; but little")
""",
    "estimators/my_estimator.py": re.search(
        r"```python\n# dvae/estimators/my_estimator.py\n(.*?)```", PAGE.read_text(), re.DOTALL
    )[1],
    "likelihoods/newest_pixels.py": """
from dvae.likelihoods.laplace import Laplace

class NewestPixels(Laplace):
    pass
""",
    "data/newest_images.py": """
import torch
from dvae.data.base import ImageDataModule
from dvae.data.images import Images

class NewestImages(ImageDataModule):
    name, image_shape, num_classes = "newest images", (1, 28, 28), 2

    def load(self, split):
        images = torch.zeros(30, 1, 28, 28, dtype=torch.uint8)
        return Images(images, torch.zeros(30, dtype=torch.int64))
""",
    "priors/newest_prior.py": """
from dvae.priors.uniform import UniformPrior

class NewestPrior(UniformPrior):
    pass
""",
    "penalties/newest_penalty.py": """
from dvae.penalties.base import Penalty

class NewestPenalty(Penalty):
    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def forward(self, picture, image):
        return (picture - image).abs().flatten(1).sum(1)
""",
    "schedules/newest_ramp.py": """
from dvae.schedules.ramps import Linear

class NewestRamp(Linear):
    pass
""",
}
# Runs where the new files are.
LOOK = """
import json, sys
import dvae, dvae.data, dvae.estimators, dvae.likelihoods, dvae.penalties
import dvae.priors, dvae.schedules
from dvae.estimators import Newest
assert dvae.Newest is Newest and "Newest" in dvae.estimators.__all__
assert dvae.likelihoods.NewestPixels and dvae.priors.NewestPrior and dvae.schedules.NewestRamp
assert dvae.penalties.NewestPenalty
assert dvae.data.NewestImages and "NewestImages" in dvae.data.__all__

from dvae.lab.catalogue import catalogue
taus = [e.tau for e in catalogue(2, 3, (0.5, 1.0)).entries if e.name == "Newest"]
assert taus == [0.5, 1.0], taus
assert "MyEstimator" in [e.name for e in catalogue(2, 3, ()).entries]

from benchmarks.readme import estimators
row = "| [`Newest`](dvae/estimators/newest.py) | 2031 | 3101.00001 | biased; but little | not"
assert row in estimators()
assert "| [`MyEstimator`](dvae/estimators/my_estimator.py) | 2026 | your paper |" in estimators()

from benchmarks.estimators import compared
assert Newest in map(type, compared()[20, 10])

from benchmarks.fuzz.joint import AXES, BINARY
assert "Newest" in AXES["estimator"] and "Newest" not in BINARY
from benchmarks.gpu.steps import models
assert {"estimator Newest", "likelihood NewestPixels"} <= {what for what, _ in models()}

from tests.estimators.catalogue import pathwise
from tests.models.test_every_estimator import RECIPES
assert Newest in map(type, pathwise()) and type(RECIPES["Newest"]()) is Newest

from dvae.cli.training import DVAECLI
class Built(DVAECLI):
    def _run_subcommand(self, subcommand):
        config = self.config_init[subcommand]
        assert type(self.model.bottleneck.estimator) is Newest
        assert float(self.model.bottleneck.estimator.tau) == 0.25
        assert type(self.model.likelihood) is dvae.likelihoods.NewestPixels
        (term,) = self.model.objective.terms.values()
        assert type(term) is dvae.penalties.NewestPenalty and float(term.weight) == 0.5
        assert type(self.model.prior) is dvae.priors.NewestPrior
        assert type(config.anneal.beta) is dvae.schedules.NewestRamp
        assert type(self.datamodule) is dvae.data.NewestImages
        print("built")
Built([
    "fit", "--config", "configs/mnist_categorical.yaml", "--anneal.tau", "null",
    "--model.bottleneck.estimator", "Newest", "--model.bottleneck.estimator.tau", "0.25",
    "--model.likelihood", "NewestPixels", "--model.prior", "NewestPrior",
    "--anneal.beta", "NewestRamp",
    "--model.objective", "PenalisedELBO",
    '--model.objective.penalties=[{"class_path":"NewestPenalty","init_args":{"weight":0.5}}]',
    "--anneal.beta.start", "0", "--anneal.beta.end", "1",
    "--data", "NewestImages", "--data.val_size", "10", "--data.batch_size", "10",
])
"""


@pytest.mark.slow
def test_one_new_file_is_found_everywhere(tmp_path):
    for path in [*ROOT.iterdir(), *(ROOT / "dvae").iterdir()]:
        copy = tmp_path / path.relative_to(ROOT)
        if path.name in ("data", "estimators", "likelihoods", "penalties", "priors", "schedules"):
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns("*.gz"))
        elif path.name == "dvae":
            copy.mkdir()
        elif path != ROOT / "runs":
            copy.symlink_to(path)
    for path, text in NEW.items():
        (tmp_path / "dvae" / path).write_text(f'"""New."""\n{text}')
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", LOOK]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("built\n")
