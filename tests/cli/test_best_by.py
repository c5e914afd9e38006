"""The metric that `best.ckpt` goes by, as a key."""

import re

import torch
import yaml

from tests.watched import refuses

LOWEST_KL = ["--checkpoints.monitor=val/kl", "--checkpoints.mode=min"]


def test_the_summary_says_which_metric_chose_the_checkpoint(run):
    done = run(*LOWEST_KL, "--trainer.max_epochs=3", "--model.optimizer.lr=0.05")
    kl = [float(row["val/kl"]) for row in done.rows if row["val/kl"]]
    assert len(kl) == 3
    (best,) = done.files("best.ckpt")
    step = torch.load(best, weights_only=True)["global_step"]
    assert step == 4 * (1 + kl.index(min(kl)))
    (line,) = re.findall(r"^chosen by +(.*)$", done.text, re.M)
    assert line == f"the lowest val/kl, {min(kl):.5g}"
    (config,) = done.files("config.yaml")
    saved = yaml.safe_load(config.read_text())["checkpoints"]
    assert saved == {"every_n_steps": None, "monitor": "val/kl", "mode": "min"}


def test_by_default_it_is_the_bound(run):
    assert re.search(r"^chosen by +the highest val/elbo, -", run().text, re.M)


def test_a_wrong_name_is_one_line(run):
    flags = ["--checkpoints.monitor=val/recons", "--trainer.num_sanity_val_steps=1"]
    text = run(*flags, expect=2).text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "got val/recons; did you mean val/reconstruction? There are: val/dead_codes, " in line


def test_without_checkpoints_there_is_none_to_choose(run, tmp_path):
    message = "checkpoints.monitor needs trainer.enable_checkpointing; got val/kl and false"
    flags = "--trainer.enable_checkpointing=false --checkpoints.monitor=val/kl"
    refuses(run, tmp_path, flags, message)
