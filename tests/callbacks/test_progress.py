"""The bar shows the bound of the step at hand, at steps that the loggers leave out too."""

import pytest
import pytorch_lightning as pl

from dvae.callbacks import ProgressBar
from dvae.models import IWAE
from tests.toy import toy_data, toy_model, toy_trainer


class Look(pl.Callback):
    def __init__(self, bar):
        self.bar, self.seen = bar, []
        self.validated, self.tested = False, True

    def on_train_batch_end(self, trainer, model, *args):
        shown = self.bar.get_metrics(trainer, model)["train/elbo"]
        self.seen.append((shown, model.last_terms))

    def on_validation_batch_end(self, trainer, model, *args):
        self.validated = True
        assert self.bar.get_metrics(trainer, model)["train/elbo"] == self.seen[-1][0]

    def on_test_batch_end(self, trainer, model, *args):
        self.tested = "train/elbo" in self.bar.get_metrics(trainer, model)


@pytest.mark.parametrize("iwae", [False, True])
def test_the_bar_has_the_bound_of_each_step(iwae, tmp_path):
    bar = ProgressBar()
    look = Look(bar)
    model = toy_model(**({"objective": IWAE(3)} if iwae else {}))
    trainer = toy_trainer(
        tmp_path,
        max_epochs=1,
        log_every_n_steps=50,
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
