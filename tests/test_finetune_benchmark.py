"""The fine-tuning benchmark runs small, and chooses learning rates by the mean over the seeds."""

import csv
from dataclasses import replace

import pytest

from benchmarks import finetune, measure
from dvae.data import FashionMNIST
from tests.test_configs import fake_fashion


@pytest.mark.filterwarnings("ignore")
def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "files", replace(FashionMNIST.files, md5=None))
    for module in (finetune, measure):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    fake_fashion(tmp_path / "fashion")
    args = ["--steps", "2", "--rates", "1e-3", "--seeds", "0", "--pretraining", "2"]
    finetune.main([*args, "--data_dir", str(tmp_path / "fashion")])
    with (tmp_path / "finetune.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["way"] for row in rows] == list(finetune.WAYS)
    assert len({row["val_elbo"] for row in rows}) == 2
    assert (tmp_path / "finetune.png").stat().st_size > 1000


def test_the_better_rate_is_that_of_the_best_mean():
    values = {1e-3: (-10, -11), 1e-2: (-9, -13)}
    rows = [
        {"way": "fine-tuned", "steps": 5, "learning_rate": rate, "seed": seed, "val_elbo": elbo}
        for rate, elbos in values.items()
        for seed, elbo in enumerate(elbos)
    ]
    assert finetune.best(rows) == {("fine-tuned", 5): (1e-3, [-10.0, -11.0])}
