"""A command line that is watched."""

import os
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import wandb

from dvae.cli import DVAECLI, main
from tests.watched import BASE, Run, Witness


class Planned(ValueError):
    """Raised where a run is to be looked at before it starts."""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, caplog):
    """Run the command line in a folder of its own; torch and the process are left as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    environment = dict(os.environ)

    def go(*args: str, command: str = "fit", plan: bool = False, expect: int = 0) -> Run:
        kept: list[tuple[pl.Trainer, Witness]] = []

        class Watched(DVAECLI):
            def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
                trainer = super().instantiate_trainer(**kwargs)
                kept.append((trainer, Witness()))
                trainer.callbacks.append(kept[0][1])
                return trainer

            def before_fit(self) -> None:
                if plan:
                    raise Planned("as planned")
                super().before_fit()

        assert main([command, *BASE, *args], Watched) == (2 if plan else expect)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        trainer, seen = kept[0] if kept else (None, None)
        return Run(trainer, seen, out + err + caplog.text, tmp_path)

    yield go
    wandb.finish()  # the next run would go on with it
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
