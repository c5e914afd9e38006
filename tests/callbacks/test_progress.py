"""The bar shows the bound of the step at hand, at steps that the loggers leave out too.

Where there is no terminal, lines say it, at least every 30 seconds.
"""

import io
import re
import time
from itertools import pairwise

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

from dvae.callbacks import ProgressBar, ProgressLines
from dvae.callbacks.progress_lines import Pace
from dvae.models import IWAE
from tests.toy import toy_data, toy_model, toy_trainer


class Look(pl.Callback):
    def __init__(self, bar):
        self.bar, self.seen = bar, []
        self.validated, self.tested = False, True

    def on_train_batch_end(self, trainer, model, *args):
        metrics = self.bar.get_metrics(trainer, model)
        assert "v_num" not in metrics
        shown = metrics["train/elbo"]
        self.seen.append((shown, model.last_terms))

    def on_validation_batch_end(self, trainer, model, *args):
        self.validated = True
        assert self.bar.get_metrics(trainer, model)["train/elbo"] == self.seen[-1][0]

    def on_test_batch_end(self, trainer, model, *args):
        self.tested = "train/elbo" in self.bar.get_metrics(trainer, model)


@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize("iwae", [False, True])
def test_the_bar_has_the_bound_of_each_step(iwae, tmp_path):
    bar = ProgressBar()
    look = Look(bar)
    model = toy_model(**({"objective": IWAE(3)} if iwae else {}))
    trainer = toy_trainer(
        tmp_path,
        max_epochs=1,
        log_every_n_steps=50,
        logger=CSVLogger(tmp_path),
        callbacks=[bar, look],
        enable_progress_bar=True,
    )
    trainer.fit(model, toy_data())
    trainer.test(model, toy_data(), verbose=False)
    assert look.validated and not look.tested
    assert len({shown for shown, _ in look.seen}) == len(look.seen) == 11
    for shown, terms in look.seen:
        assert shown == terms["bound"].mean().item()
        if not iwae:
            assert terms["bound"].equal(terms["reconstruction"] - terms["kl"])


class Clock(pl.Callback):
    """Seven seconds a batch, at the times of which something was said."""

    def __init__(self, monkeypatch, said):
        self.now, self.said, self.lines = 0.0, said, []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def tick(self, *_):
        self.now += 7.0

    def look(self, *_):
        self.lines += [(self.now, m) for m in self.said()[len(self.lines) :]]

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = tick
    on_train_batch_end = on_validation_batch_end = on_test_batch_end = look


def run_with_a_clock(tmp_path, monkeypatch, caplog, **settings):
    caplog.set_level("INFO", "dvae")
    clock = Clock(
        monkeypatch, lambda: [r.message for r in caplog.records if r.pathname.endswith("_lines.py")]
    )
    trainer = toy_trainer(tmp_path, callbacks=[ProgressLines(), clock], **settings)
    model = toy_model()
    trainer.fit(model, toy_data())
    trainer.test(model, toy_data(), verbose=False)
    return clock


def test_without_a_terminal_a_line_comes_every_half_minute(tmp_path, monkeypatch, caplog):
    ToyData = type(toy_data())
    monkeypatch.setattr(ToyData, "eval_batch_size", 10)
    clock = run_with_a_clock(tmp_path, monkeypatch, caplog, max_epochs=3)
    times = [0.0, *(now for now, _ in clock.lines), clock.now]
    assert max(b - a for a, b in pairwise(times)) <= 30
    lines = [line for _, line in clock.lines]
    assert any(line.startswith("validation: batch ") for line in lines)
    assert lines[-1].startswith("test: batch ") and lines[-1].endswith(" of 23")
    now, first = clock.lines[0]
    assert now <= 60 and re.fullmatch(r"step \d of 33, tau 0.7, ELBO -\d+.\d\d, \d min left", first)


def test_the_time_left_is_that_of_the_steps_to_come(tmp_path, monkeypatch, caplog):
    clock = run_with_a_clock(
        tmp_path, monkeypatch, caplog, max_steps=9, max_epochs=-1, limit_val_batches=0
    )
    trained = [line for _, line in clock.lines if line.startswith("step")]
    for line in trained:
        step = int(line.split()[1])
        assert line.endswith(f", {7 * (9 - step)} s left")
    assert len(trained) == 3


def test_a_run_without_an_end_has_no_time_left(monkeypatch):
    trainer = toy_trainer(None, max_steps=-1, max_epochs=-1)
    assert Pace().left(trainer) is None


def test_a_terminal_has_the_bar_and_no_lines(tmp_path, monkeypatch, caplog):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    assert not run_with_a_clock(tmp_path, monkeypatch, caplog, max_epochs=1).lines
