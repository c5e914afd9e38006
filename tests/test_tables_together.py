"""Runs trained together as one batched model are the runs that they are alone."""

import copy
from dataclasses import replace

import pytest
import torch

from benchmarks.tables import __main__ as command
from benchmarks.tables import train as training
from benchmarks.tables.runs import Group, Run, anneals, grouped, model
from benchmarks.tables.spec import METRICS, load
from benchmarks.tables.together import Together, _batched, together
from tests.posteriors import objective_of
from tests.test_tables import rows_of, stop_at

# MeanField draws nothing: alone and together it meets the same codes.
TABLE = """
title: Toy
source: nobody, 2026
read: recalled
protocol: three epochs of three steps
metric: train_negative_elbo
text: "2x3: quick 1.00, slow 2.00, relaxed 3.00, annealed 4.00, SF 5.00, plain 6.00"
epochs: 3
iwae_samples: 2
network: {hidden: [3, 2], norm: none, negative_slope: 0.2}
data: {batch_size: 200, val_size: 59400, binarization: none}
optimizer: {class: Adam, lr: 1.0e-2}
lr_schedule:
  - {class: Linear, start: 0.0, end: 1.0, steps: 0.2}
  - {class: Cosine, start: 1.0, end: 0.0}
rows: {2x3: {codes: 2, latents: 3}}
columns:
  quick: {estimator: {class: MeanField}}
  slow: {estimator: {class: MeanField}}
  relaxed: {estimator: {class: GumbelSoftmax, tau: 0.5}}
  annealed:
    estimator: {class: ReinMax, tau: 1.5}
    anneal: {tau: {class: Linear, start: 2.0, end: 1.0}}
  SF: {estimator: {class: Reinforce}}
  plain: {estimator: {class: MeanField}}
cells:
  2x3:
    quick: {published: 1.0}
    slow: {published: 2.0, optimizer: {class: Adam, lr: 1.0e-3}}
    relaxed: {published: 3.0}
    annealed: {published: 4.0}
    SF: {published: 5.0}
    plain: {published: 6.0, optimizer: {class: SGD, lr: 1.0e-3}}
"""


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "toy.yaml"
    made.write_text(TABLE)
    return made


@pytest.fixture
def table(path):
    return load(str(path))


def runs_of(table, *columns, seeds=1):
    return [Run(table, table.cells[f"2x3 {c}"], seed) for seed in range(seeds) for c in columns]


@pytest.mark.parametrize("draws", [1, 3])
def test_each_gets_the_loss_and_the_gradient_that_it_has_alone(table, draws):
    table = replace(table, draws=draws)
    torch.manual_seed(0)
    models = [model(run).double() for run in runs_of(table, "quick", "relaxed", "annealed")]
    images = torch.rand(3, 5, 1, 28, 28, dtype=torch.float64)
    alone = copy.deepcopy(models)
    torch.manual_seed(1)  # drawn in the order of the models, either way
    losses = [objective_of(vae, x).loss for vae, x in zip(alone, images, strict=True)]
    sum(losses).backward()
    torch.manual_seed(1)
    out = Together(models).training_step(images, 0)
    out["loss"].backward()
    torch.testing.assert_close(out["each"], torch.stack(losses).detach())
    for ours, theirs in zip(models, alone, strict=True):
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad)


def test_the_layers_are_batched_products(table):
    networks = [model(run).encoder for run in runs_of(table, "quick", seeds=4)]
    with torch.profiler.profile() as profile:
        _batched(networks, torch.rand(4, 5, 1, 28, 28))
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["aten::bmm"] == 3  # one a layer, for all four


def test_what_cannot_be_batched_stays_alone(table):
    runs = runs_of(table, "quick", "SF", "plain", "slow", seeds=2)
    names = [[(run.cell.column, run.seed) for run in group.runs] for group in grouped(runs)]
    assert names == [
        [("quick", 0), ("slow", 0), ("quick", 1), ("slow", 1)],
        [("SF", 0)],
        [("plain", 0), ("plain", 1)],
        [("SF", 1)],
    ]
    for changed in ({"norm": "batch"}, {"center": True}):
        averaged = replace(table, network={**table.network, **changed})
        groups = grouped(runs_of(averaged, "quick", "slow"))
        assert [len(group.runs) for group in groups] == [1, 1]
    started = replace(table, start_at_mean=True)
    assert len(grouped(runs_of(started, "quick", "slow"))) == 2


def test_the_temperature_of_each_moves_by_its_own_schedule(table):
    runs = runs_of(table, "quick", "annealed", "relaxed", seeds=2)
    models = [model(run) for run in runs]
    targets = [
        [one.target for one in together(number, vae, anneals(run))]
        for number, (vae, run) in enumerate(zip(models, runs, strict=True))
    ]
    moved = "models.{}.bottleneck.estimator.tau"
    assert targets == [[], [moved.format(1)], [], [], [moved.format(4)], []]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_whole_training_is_the_one_that_each_has_alone(table, tmp_path):
    runs = runs_of(table, "quick", "slow", seeds=2)
    rows = training.train(Group(tuple(runs)), tmp_path / "together", lambda run: run.name)
    for run, row in zip(runs, rows, strict=True):
        (alone,) = training.train(Group((run,)), tmp_path / "alone", lambda run: run.name)
        assert row.keys() == alone.keys() and row["command"] == run.name
        for key in ("row", "column", "seed", "settings"):
            assert row[key] == alone[key]
        for metric in METRICS:
            assert row[metric] == pytest.approx(alone[metric], rel=1e-5)
    # Four results and not one, of two rates and two seeds.
    assert len({row["train_negative_elbo"] for row in rows}) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_group_goes_on_and_ends_where_it_would_have(table, tmp_path, monkeypatch):
    group = Group(tuple(runs_of(table, "relaxed", "annealed", "quick")))
    straight = training.train(group, tmp_path / "straight", lambda _: "")
    with monkeypatch.context() as patch:
        patch.setattr(training.Progress, "on_train_batch_end", stop_at(5))
        with pytest.raises(RuntimeError, match="killed"):
            training.train(group, tmp_path / "killed", lambda _: "")
    steps = []
    monkeypatch.setattr(
        training.Progress,
        "on_train_batch_end",
        lambda self, trainer, *args: steps.append(trainer.global_step),
    )
    resumed = training.train(group, tmp_path / "killed", lambda _: "")
    assert steps == [4, 5, 6, 7, 8, 9]  # the first epoch, of three steps, is not done again
    for before, after in zip(straight, resumed, strict=True):
        assert {key: before[key] for key in METRICS} == {key: after[key] for key in METRICS}


@pytest.mark.slow
def test_the_command_from_end_to_end(path, tmp_path, capsys):
    folders = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    asked = [str(path), "--seeds", "2", "--estimators", "quick", "relaxed", "SF", "--together"]
    assert command.main([*asked, *folders]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "0 of 6 runs are finished" in out and "missing of what was asked for: nothing" in out
    assert "done: 2x3 quick seed 0, 2x3 relaxed seed 0, 2x3 quick seed 1, 2x3 relaxed seed 1" in out
    rows = rows_of(tmp_path / "results" / "toy.csv")
    assert {(row["column"], row["seed"]) for row in rows} == {
        (column, seed) for column in ("quick", "relaxed", "SF") for seed in ("0", "1")
    }
    for row in rows:
        alone = row["column"] == "SF"
        assert row["command"].endswith("--together") != alone
        assert ("--estimators quick relaxed --seeds 2" in row["command"]) != alone
