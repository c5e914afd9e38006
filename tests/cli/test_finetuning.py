"""Fine-tuning on the command line: what is taken over, frozen or grown, and what is refused."""

import csv
from pathlib import Path

import pytest
import torch

from dvae.cli import main
from dvae.schedules import Cosine
from dvae.sharing import load
from dvae.sharing.__main__ import main as share

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_categorical.yaml")
SHORT = [
    "--trainer.max_steps=4",
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
    "--trainer.log_every_n_steps=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--model.evaluation.iwae_samples=2",
    "--reconstructions.every_n_epochs=0",
    "--latents.every_n_epochs=0",
]
BEST = "runs/first/version_0/checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Make a folder with one short run, which ends at a temperature of 0.3 and a bit."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("WANDB_MODE", "disabled")
        args = ["--experiment=first", "--anneal.tau.end=0.3"]
        assert main(["fit", "--config", CONFIG, *SHORT, *args]) == 0
    return home


@pytest.fixture
def fit(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def fit(name, *args, init_from=BEST):
        source = ["--init_from", init_from] if init_from else []
        return main(["fit", "--config", CONFIG, *SHORT, f"--experiment={name}", *source, *args])

    return fit


def state(path):
    return torch.load(path, weights_only=True)["state_dict"]


def taus(name):
    with Path(f"runs/{name}/version_0/metrics.csv").open() as file:
        values = [row["anneal/tau"] for row in csv.DictReader(file)]
    return [float(value) for value in values if value]


def test_a_prior_is_trained_after_the_model_and_makes_one_whole_model_with_it(fit):
    prior = [
        "--model.prior=MADEPrior",
        "--model.prior.width=4",
        "--model.objective=PriorLikelihood",
    ]
    frozen = ["--finetune.freeze", "[encoder, bottleneck, decoder, likelihood]"]
    # A run is given by its folder.
    assert fit("after", *prior, *frozen, "--anneal.tau=null", init_from="runs/first/version_0") == 0
    folder = Path("runs/first/version_0/checkpoints")
    old = state(folder / "best.ckpt")
    new = state("runs/after/version_0/checkpoints/last.ckpt")
    same = [name for name in new if name in old and not name.endswith("tau")]
    assert {name.split(".")[0] for name in same} == {"encoder", "decoder"}
    assert all(torch.equal(new[name], old[name]) for name in same)
    assert new["prior.skip.weight"].any()
    assert load("runs/after/version_0").sample(3).shape == (3, 1, 28, 28)


def test_a_model_that_was_shared_is_a_start_as_its_run_is(fit):
    assert share(["save", BEST, "--out", "shared"]) == 0
    for name, source in {"from_run": BEST, "from_shared": "shared"}.items():
        assert fit(name, init_from=source) == 0
    ends = [
        state(f"runs/{name}/version_0/checkpoints/last.ckpt")
        for name in ("from_run", "from_shared")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert fit("from_name", "--allow_mismatch=true", init_from="mnist") == 0
    listed = Path("runs/from_name/version_0/init_from.txt").read_text()
    assert listed.startswith("mnist: loaded ")


def test_freeze_rates_and_hold(fit, capsys):
    args = ["--finetune.freeze", "[encoder, bottleneck]", "--finetune.temperature", "hold"]
    assert fit("frozen", *args, "--finetune.lr_scale", "{decoder: 0.5, decoder.0: 0.1}") == 0
    old, new = state(BEST), state("runs/frozen/version_0/checkpoints/last.ckpt")
    out = capsys.readouterr().out
    assert "  loaded: encoder.* (" in out and "), decoder.* (" in out
    listed = Path("runs/frozen/version_0/init_from.txt").read_text()
    assert listed.startswith(f"{BEST}: loaded ") and listed.endswith(
        "tau of the checkpoint: 0.4025\n"
    )
    for name in old:
        scalar = name in ("bottleneck.estimator.tau", "objective.beta", "prior.table")
        assert (f"  loaded: {name}\n" in listed) != scalar
    for name, tensor in old.items():
        if name.startswith(("encoder.", "bottleneck.")):
            assert torch.equal(tensor, new[name]), name
        elif name.startswith("decoder.") and tensor.is_floating_point():
            assert not torch.equal(tensor, new[name]), name
    tau = old["bottleneck.estimator.tau"].item()
    assert tau == pytest.approx(Cosine(1.0, 0.3)(3, 4))
    assert taus("frozen") == pytest.approx([tau] * 4)


@pytest.mark.slow
def test_a_fine_tuned_run_resumes_with_its_own_config(fit, home, capsys):
    args = ["--finetune.temperature=continue", "--finetune.lr_scale", "{encoder: 0.1}"]
    assert fit("tuned", *args, "--anneal.tau.end=0.1", "--anneal.tau.steps=20") == 0
    tau = state(BEST)["bottleneck.estimator.tau"].item()
    assert taus("tuned") == pytest.approx([Cosine(tau, 0.1, 20)(step) for step in range(4)])
    run = "runs/tuned/version_0"
    resume = ["fit", "--config", f"{run}/config.yaml", "--trainer.max_steps=6"]
    resume += ["--ckpt_path", f"{run}/checkpoints/last.ckpt", "--experiment=resumed"]
    assert main(resume) == 2
    assert "--init_from null resumes a run that was itself fine-tuned" in capsys.readouterr().err
    assert main([*resume, "--init_from=null"]) == 0
    assert taus("resumed") == pytest.approx([Cosine(tau, 0.1, 20)(step) for step in (4, 5)])
    groups = torch.load("runs/resumed/version_0/checkpoints/last.ckpt", weights_only=True)
    groups = groups["optimizer_states"][0]["param_groups"]
    assert {group["name"]: group["lr_scale"] for group in groups} == {"encoder": 0.1, "": 1.0}


def test_grow(fit, capsys):
    sizes = ["--model.bottleneck.num_codes=20", "--model.bottleneck.num_latents=24"]
    assert fit("grown", *sizes, "--finetune.grow=true") == 0
    assert "grown: encoder.7.weight [200, 256] to [480, 256]" in capsys.readouterr().out
    assert state("runs/grown/version_0/checkpoints/last.ckpt")["encoder.7.bias"].shape == (480,)
    assert fit("small", *sizes) == 2
    assert "encoder.7.weight is [200, 256] there and [480, 256] here" in capsys.readouterr().err


CASES = {
    "a part that is not there": (
        ["--finetune.freeze=[encodr]"],
        "no part of the model is called 'encodr'; there are: encoder, bottleneck, prior, decoder",
    ),
    "a rate of no part": (
        ["--finetune.lr_scale={encodr: 0.1}"],
        "no part of the model is called 'encodr'; there are: encoder, decoder",
    ),
    "a rate for a frozen part": (
        ["--finetune.freeze=[encoder]", "--finetune.lr_scale={encoder: 0.1}"],
        "no part of the model is called 'encoder'; there are: decoder",
    ),
    "a negative rate": (["--finetune.lr_scale={encoder: -1}"], "must be a number > 0"),
    "a word for the temperature": (["--finetune.temperature=keep"], "restart"),
    "nowhere to continue to": (
        ["--finetune.temperature=continue", "--anneal.tau=null"],
        "needs anneal.tau",
    ),
    "a temperature for an estimator without": (
        [
            "--finetune.temperature=hold",
            "--model.bottleneck.estimator=RLOO",
            "--allow_mismatch=true",
        ],
        "there is no tau to carry over",
    ),
    "shrinking": (
        ["--finetune.grow=true", "--model.bottleneck.num_latents=10"],
        "it does not shrink",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line(name, fit, capsys, home):
    args, message = CASES[name]
    assert fit("refused", *args) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ") and message in line and len(line) < 500
    assert not (home / "runs" / "refused").exists()


def test_another_optimizer_cannot_resume(fit, capsys, home):
    sgd = "{class_path: torch.optim.SGD, init_args: {lr: 0.1}}"
    resumed = ["--ckpt_path", BEST, f"--model.optimizer={sgd}"]
    assert fit("refused", *resumed, init_from=None) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{BEST} cannot be resumed: it was trained with AdamW and this run has SGD" in line
    assert "--init_from takes over its weights" in line
    assert not (home / "runs" / "refused").exists()


@pytest.mark.parametrize("option", ["--finetune.grow=true", "--finetune.temperature=hold"])
def test_taking_over_needs_a_checkpoint(option, fit, capsys):
    assert fit("refused", option, init_from=None) == 2
    assert "give it with --init_from" in capsys.readouterr().err
