"""Published tables: their files are checked, and no run is done twice or taken for another."""

import csv
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from benchmarks.measure import RESULTS, read_csv
from benchmarks.tables import __main__ as command
from benchmarks.tables import train as training
from benchmarks.tables.page import averages, of_cell, page
from benchmarks.tables.radam import RAdam
from benchmarks.tables.runs import Group, Run, anneals, data, model, shortened
from benchmarks.tables.spec import FOLDER, METRICS, load, tables

ROOT = Path(__file__).parent.parent
OURS = [
    pytest.param(name, cell, id=f"{name}-{cell}")
    for name in tables()
    for cell, content in load(name).cells.items()
    if content.estimator is not None
]
# Three steps an epoch of a network of one unit.
TOY = """
title: Toy
source: nobody, 2026
read: recalled
protocol: two epochs of three steps
metric: train_negative_elbo
text: "2x2: GS 1.50, ST 2.50±.10, Lost 3.50"
epochs: 2
iwae_samples: 2
network: {hidden: [1], norm: none, negative_slope: 0.0}
data: {batch_size: 20000, val_size: 0, binarization: none}
optimizer: {class: Adam, lr: 1.0e-2}
rows: {2x2: {codes: 2, latents: 2}}
columns:
  GS: {estimator: {class: GumbelSoftmax, tau: 1.0}}
  ST: {estimator: {class: StraightThrough}}
  Lost: {estimator: null}
cells:
  2x2: {GS: {published: 1.5}, ST: {published: 2.5, spread: 0.1}, Lost: {published: 3.5}}
"""


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    return path


def widths(network):
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]


def fake(run, seed=None, **changes):
    row = {
        "table": run.table.name,
        "row": run.cell.row,
        "column": run.cell.column,
        "seed": str(run.seed if seed is None else seed),
        **dict.fromkeys(METRICS, "2.0"),
        "training_seconds": "10",
        "settings": run.settings,
        "commit": "abc",
        "device": "a machine",
        "threads": "1",
        "torch": "2",
        "date": "2026-01-01",
    }
    return row | changes


# The files.


def test_there_are_tables():
    assert {"gumbel_rao2021", "jang2017", "mve2026", "reinmax2023"} <= set(tables())
    assert all(path.stem in tables() for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("iwae_samples: 2", "iwae_sample: 2", "did you mean iwae_samples?"),
        ("class: StraightThrough", "class: StraightTrough", "did you mean StraightThrough?"),
        ("tau: 1.0", "taw: 1.0", "taw"),
        ("tau: 1.0", "tau: -1.0", "-1"),
        ("lr: 1.0e-2", "lr: 1e-2", "3.0e-4, not 3e-4"),
        ("lr: 1.0e-2", "rate: 1.0e-2", "rate"),
        ("class: Adam", "class: Adan", "did you mean Adam?"),
        ("published: 1.5}", "published: 1.6}", "2x2 GS"),
        ("GS 1.50, ", "", "2x2 GS"),
        ("GS 1.50, ", "GS 1.50, GS 1.50, ", "twice"),
        ("spread: 0.1}", "spread: 0.2}", "2x2 ST"),
        ("  2x2: {GS", "  2x3: {GS", "did you mean 2x2?"),
        ("metric: train", "metric: trian", "metric"),
        ("read: recalled", "read: perhaps", "perhaps"),
        ("epochs: 2", "epochs: 0", "epochs"),
        ("norm: none", "norms: none", "norms"),
        ("binarization: none", "binarization: some", "some"),
        ("title: Toy", "title: [", "not YAML"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(toy, capsys, monkeypatch, old, new, message):
    assert old in TOY
    monkeypatch.setattr(command, "run_all", None)  # nothing is to be run
    toy.write_text(TOY.replace(old, new))
    assert command.main([str(toy)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: toy.yaml") and message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toys"], "jang2017"),
        (["reinmax2023", "--rows", "8x5"], "8x5"),
        (["reinmax2023", "--estimators", "Reinmax"], "did you mean ReinMax?"),
        (["reinmax2023", "--estimators", "ST,Reinmax"], "table 'Reinmax' (did you mean ReinMax?"),
        (["jang2017", "--estimators", "DARN"], "no such estimator"),
        (["reinmax2023", "--epochs", "0"], "--epochs"),
        (["reinmax2023", "--seeds", "0"], "--seeds"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, message, capsys):
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize("name", tables())
def test_each_published_figure_is_in_the_text_once(name):
    text = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["text"]
    lines = dict(line.split(": ", 1) for line in text.strip().splitlines())
    cells = load(name).cells.values()
    for cell in cells:
        found = re.findall(rf"(?:^|, ){re.escape(cell.column)} ([\d.]+)", lines[cell.row])
        assert [float(value) for value in found] == [cell.published]
    assert len(re.findall(r"\d+\.\d+(?=[,±\n]|$)", re.sub(r"±\.?\d+", "±", text))) == len(cells)


# What is built.


@pytest.mark.parametrize(("name", "cell"), OURS)
def test_the_layers_are_those_of_the_paper(name, cell):
    table = load(name)
    content = table.cells[cell]
    run = Run(table, content, 0)
    code = content.codes * content.latents
    vae = model(run)
    jang = name in ("jang2017", "recipe_jang")
    binarized = jang or name == "gumbel_rao2021"
    if jang:
        assert widths(vae.encoder) == [784, 200] and widths(vae.decoder) == [200, 200, 784]
    else:
        assert widths(vae.encoder) == [784, 512, 256, code]
        assert widths(vae.decoder) == [code, 256, 512, 784]
    layers = list(vae.modules())
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in layers)
    slope = 0.2 if name in ("gumbel_rao2021", "mve2026", "recipe_mve") else 0.0
    rectifiers = [layer for layer in layers if isinstance(layer, nn.LeakyReLU)]
    assert rectifiers and all(layer.negative_slope == slope for layer in rectifiers)
    assert isinstance(vae.encoder[-1], nn.Linear)  # no activation on the logits
    optimizer = vae._make_optimizer(vae.parameters())
    assert type(optimizer).__name__ == content.optimizer["class"]
    assert optimizer.param_groups[0]["lr"] == content.optimizer["lr"]
    assert len(anneals(run)) == len(content.anneal)
    protocol = data(run).hparams
    assert protocol["binarization"] == ("fixed" if binarized else "none")
    assert protocol["val_size"] == (10_000 if binarized else 0)
    features = vae.encoder(torch.rand(2, 1, 28, 28))
    q = vae.bottleneck(features)
    value = q.expectation(lambda z, _: vae.log_px(z, torch.rand(2, 1, 28, 28)))
    value.sum().backward()
    assert vae.encoder[-1].weight.grad.isfinite().all()


def test_the_best_settings_of_reinmax_are_the_papers():
    run = Run(load("reinmax2023"), load("reinmax2023").cells["8x16 ReinMax"], 0)
    assert float(model(run).bottleneck.estimator.tau) == 1.5
    assert run.cell.optimizer == {"class": "RAdam", "lr": 7e-4}
    assert (run.table.epochs, run.table.data["batch_size"]) == (160, 100)


def test_the_quick_radam_takes_the_steps_of_torchs_and_goes_on_with_them():
    theirs = torch.randn(50, 30, dtype=torch.float64, requires_grad=True)
    ours = theirs.detach().clone().requires_grad_()
    settings = {"lr": 1e-2, "weight_decay": 0.1}
    made = [(theirs, torch.optim.RAdam([theirs], **settings)), (ours, RAdam([ours], **settings))]
    for step in range(60):  # the sixth is the first to be rectified
        target = torch.randn(50, 30)
        for parameter, optimizer in made:
            optimizer.zero_grad()
            (parameter - target).pow(4).sum().mul(1e-4 if step < 30 else 1).backward()
            optimizer.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
        assert made[1][1].param_groups[0]["lr"] == settings["lr"]
        if step in (2, 40):  # resumed
            again = RAdam([ours], lr=1.0)
            again.load_state_dict(made[1][1].state_dict())
            made[1] = (ours, again)


@pytest.mark.parametrize(
    ("name", "config", "size"),
    [("recipe_mve", "mnist_mve2026", "16x32"), ("tuned", "mnist_tuned", "10x30")],
)
def test_a_shipped_config_is_the_recipe_of_its_table(name, config, size):
    table = load(name)
    content = yaml.safe_load((ROOT / "configs" / f"{config}.yaml").read_text())
    parts, trainer = content["model"]["init_args"], content["trainer"]
    bottleneck = parts["bottleneck"]["init_args"]
    cell = next(cell for cell in table.cells.values() if cell.row == size)

    def called(recipe):
        return {"class": recipe["class_path"].split(".")[-1], **recipe.get("init_args", {})}

    assert called(parts["network"]) == {"class": "MLP", **table.network}
    assert (bottleneck["num_latents"], bottleneck["num_codes"]) == (cell.latents, cell.codes)
    assert called(bottleneck["estimator"]) == cell.estimator
    objective = called(parts.get("objective", {"class_path": "ELBO"}))
    assert {"samples": 1, **objective} == {"class": "ELBO", "samples": table.draws}
    assert called(parts["optimizer"]) == {**cell.optimizer, "fused": True}
    schedules = parts["lr_schedule"]["init_args"]["parts"]
    assert [called(part) for part in schedules] == list(table.lr_schedule)
    moved = {name: called(mover) for name, mover in content.get("anneal", {}).items()}
    assert moved == dict(cell.anneal)
    callbacks = [called(callback) for callback in trainer.get("callbacks", [])]
    assert callbacks == [{"class": "StartAtMean"}] * table.start_at_mean
    assert content["data"]["init_args"]["batch_size"] == table.data["batch_size"]
    assert trainer["max_epochs"] == table.epochs


def test_a_table_trains_with_its_draws_and_its_runs_are_others_for_it(toy):
    one = load(str(toy))
    toy.write_text(toy.read_text() + "draws: 3\n")
    three = load(str(toy))
    runs = [Run(table, next(iter(one.cells.values())), 0) for table in (one, three)]
    assert [model(run).objective.samples for run in runs] == [1, 3]
    assert runs[0].settings != runs[1].settings and "3 draws" in runs[1].settings


# The page.


def test_the_page_is_a_function_of_the_rows_and_names_what_is_missing(toy):
    table = load(str(toy))
    gs = Run(table, table.cells["2x2 GS"], 0)
    rows = [fake(gs), fake(gs, 1, train_negative_elbo="3.0")]
    text = page(table, rows)
    assert text == page(table, list(rows))
    assert "| GS | 1.5 | 2.50 ± 0.71 | +1.00 |" in text
    assert "| ST | 2.5 ± 0.10 |  |" in text
    assert "Missing: 2x2 ST." in text and "no estimator for: 2x2 Lost." in text
    assert "recalled" in text and "TRIAL" not in text
    assert "Missing: 2x2 GS, 2x2 ST." in page(table, [])


def test_the_average_over_the_sizes_is_there_once_all_have_been_run():
    table = load("recipe")
    runs = [Run(table, cell, 0) for cell in table.cells.values()]
    rows = [fake(run, train_negative_elbo=ours) for run, ours in zip(runs, "24", strict=True)]
    assert averages(table, rows) == {"ReinMax": (pytest.approx((97.7 + 98.37) / 2), 3.0)}
    assert "ReinMax: published 98.0" in page(table, rows) and "ours 3.00." in page(table, rows)
    assert not averages(table, rows[:1])


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.md")), ids=lambda path: path.stem)
def test_the_pages_in_the_repository_are_those_of_their_rows(path):
    assert path.read_text() == page(load(path.stem), read_csv(path.stem))


def test_a_row_of_other_settings_counts_for_nothing(toy):
    table = load(str(toy))
    cell = table.cells["2x2 GS"]
    trial = Run(shortened(table, 1, None), cell, 0)
    fewer = Run(shortened(table, None, 1), cell, 0)
    assert of_cell(table, cell, [fake(Run(table, cell, 0))])
    assert not of_cell(table, cell, [fake(trial), fake(fewer)])
    assert len({Run(t, cell, 0).folder(Path()) for t in (table, trial.table, fewer.table)}) == 3


# Runs.


def trained(run, root):
    (row,) = training.train(Group((run,)), root, lambda _: "command")
    return row


def stop_at(step):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == step:
            raise RuntimeError("killed")

    return on_train_batch_end


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_run_goes_on_and_ends_where_it_would_have(toy, tmp_path, monkeypatch):
    table = load(str(toy))
    run = Run(table, table.cells["2x2 GS"], 3)
    straight = trained(run, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(training.Progress, "on_train_batch_end", stop_at(5))
        with pytest.raises(RuntimeError, match="killed"):
            trained(run, tmp_path / "killed")
    assert training.result_of(run, tmp_path / "killed") is None
    steps = []
    monkeypatch.setattr(
        training.Progress,
        "on_train_batch_end",
        lambda self, trainer, *args: steps.append(trainer.global_step),
    )
    resumed = trained(run, tmp_path / "killed")
    assert steps == [4, 5, 6]  # the first epoch, of three steps, is not done again
    assert {key: resumed[key] for key in METRICS} == {key: straight[key] for key in METRICS}
    # The loss of the last epoch, and not of both: the first begins near 784 log 2.
    assert resumed["train_negative_elbo"] < 570
    steps.clear()
    assert trained(run, tmp_path / "killed") == resumed
    assert steps == []


def test_two_processes_do_not_train_the_same_run(toy, tmp_path):
    table = load(str(toy))
    run = Run(table, table.cells["2x2 GS"], 0)
    folder = run.folder(tmp_path)
    folder.mkdir(parents=True)
    with training._locked(folder / "lock"), pytest.raises(training.Busy, match="another process"):
        trained(run, tmp_path)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_command_from_end_to_end(toy, tmp_path, capsys):
    results, runs = tmp_path / "results", tmp_path / "runs"
    folders = ["--results", str(results), "--runs", str(runs)]
    arguments = [str(toy), "--seeds", "1", "--estimators", "GS", *folders]
    # A trial first: it leaves nothing among the results and saves the full run nothing.
    assert command.main([*arguments, "--epochs", "1"]) == 0
    assert "A TRIAL" in capsys.readouterr().out
    assert not results.exists()
    (trial,) = runs.rglob("toy.md")
    assert trial.read_text().startswith("# TRIAL, not the protocol")
    assert command.main(arguments) == 0
    out = capsys.readouterr().out
    assert "0 of 1 runs are finished" in out and "missing of what was asked for: nothing" in out
    (row,) = rows_of(results / "toy.csv")
    assert row["epochs"] == "2" and row["threads"] == "1"
    assert "--rows 2x2 --estimators GS --seeds 1" in row["command"]
    assert float(row["test_negative_iwae"]) <= float(row["test_negative_elbo"])
    text = (results / "toy.md").read_text()
    assert text == page(load(str(toy)), [row])
    assert f"{float(row['train_negative_elbo']):.2f}" in text and "Missing: 2x2 ST." in text
    # The CSV alone, as it comes with the project, says what is finished.
    shutil.rmtree(runs)
    assert command.main(arguments) == 0
    assert "1 of 1 runs are finished" in capsys.readouterr().out
    assert rows_of(results / "toy.csv") == [row]


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_makes_the_exit_status_one(toy, tmp_path, capsys):
    toy.write_text(TOY.replace("val_size: 0", "val_size: 60000"))
    folders = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert command.main([str(toy), "--seeds", "1", "--estimators", "GS", *folders]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "FAILED: 2x2 GS seed 0" in out and "val_size" in out
    assert "missing of what was asked for: 2x2 GS seed 0" in out


@pytest.mark.slow
def test_a_command_that_is_killed_takes_its_runs_with_it(toy, tmp_path):
    toy.write_text(TOY.replace("epochs: 2", "epochs: 100000"))
    runs = tmp_path / "runs"
    arguments = [str(toy), "--seeds", "1", "--estimators", "GS", "--runs", str(runs)]
    arguments += ["--results", str(tmp_path / "results")]
    parent = subprocess.Popen([sys.executable, "-m", "benchmarks.tables", *arguments], cwd=ROOT)
    try:
        until(lambda: list(runs.rglob("last.ckpt")))
    finally:
        parent.kill()  # it has no time to say anything to its child
        parent.wait()
    (lock,) = runs.rglob("lock")

    def is_free():
        try:
            with training._locked(lock):
                return True
        except training.Busy:
            return False

    until(is_free)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
