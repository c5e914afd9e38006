"""Bad input: one line that says what and what instead, exit code 2, nothing written."""

import gzip
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from dvae.callbacks import NonFiniteError
from dvae.cli import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_categorical.yaml")

SHORT = (
    *("--trainer.limit_train_batches=2", "--trainer.max_epochs=1"),
    *("--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"),
    *("--trainer.log_every_n_steps=1", "--model.evaluation.iwae_samples=2"),
    *("--latents.every_n_epochs=0", "--reconstructions.every_n_epochs=0"),
)
ESTIMATOR = "--model.bottleneck.estimator"
CASES = {
    "a misspelt setting": (
        ["--model.bottleneck.num_latent", "5"],
        "no setting 'num_latent'; did you mean 'num_latents'?",
    ),
    "a former setting of a folder of images": (
        ["--data", "ImageFolder", "--data.data_dir", ".", "--data.skip_unreadable", "true"],
        "ImageFolder.skip_unreadable is now pixels.skip_unreadable",
    ),
    "a class that is not there": (
        [ESTIMATOR, "GumbelSoftmx"],
        "no Estimator called 'GumbelSoftmx'; did you mean 'GumbelSoftmax'?",
    ),
    "a schedule that is not there": (
        ["--anneal.tau", "Cosin"],
        "no Schedule called 'Cosin'; did you mean 'Cosine'?",
    ),
    "a model that is not there": (["--model", "VAE2"], "CategoricalVAE"),
    "a negative temperature": ([f"{ESTIMATOR}.tau", "-1"], "tau must be a number > 0; got -1"),
    "a temperature of zero": ([f"{ESTIMATOR}.tau", "0"], "tau must be a number > 0; got 0"),
    "settings of an objective without its class": (
        ["--model.objective.samples", "3"],
        "model.objective: its class comes before its settings, one of ELBO, IWAE, PenalisedELBO, "
        "PriorLikelihood",
    ),
    "one category": (["--model.bottleneck.num_codes", "1"], "num_codes must be an integer >= 2"),
    "a word for a number": (["--model.bottleneck.num_codes", "many"], "num_codes"),
    "settings for a number": (
        ["--model.optimizer", '{"class_path": "torch.optim.AdamW", "init_args": {"lr": {"a": 1}}}'],
        "model.optimizer.lr: a number was expected; got settings (a)",
    ),
    "a decay that does not decay": (["--anneal.tau.end", "1.0"], "ends where it starts"),
    "annealing below zero": (["--anneal.tau.end", "-1"], "anneal.tau must be a number > 0"),
    "images of another size": (
        ["--model.network", "MLP", "--model.network.image_shape", "[1, 32, 32]"],
        "data has images of 1x28x28 and the network was built for 1x32x32",
    ),
    "more samples than a size can be": (
        [ESTIMATOR, "RLOO", f"{ESTIMATOR}.samples", "1000000000000000000000"],
        "RLOO.samples must be below 2^63; got 1000000000000000000000",
    ),
    "more samples than there is memory for": (
        [ESTIMATOR, "RLOO", f"{ESTIMATOR}.samples", "1000000000000000"],
        "bytes were asked for at once; a smaller batch, fewer samples or fewer codes take less",
    ),
    "more codes than there is memory for": (
        ["--model.bottleneck.num_codes", "1000000000000"],
        "bytes were asked for at once; a smaller batch, fewer samples or fewer codes take less",
    ),
    "a folder without data": (["--data.data_dir", "nowhere"], "is missing"),
    "no such checkpoint": (["--ckpt_path", "no.ckpt"], "there is no checkpoint no.ckpt"),
    "no such weights": (["--init_from", "no.ckpt"], "there is no checkpoint no.ckpt"),
    "a batch size of zero": (
        ["--data.batch_size", "0"],
        "batch_size must be an integer >= 1; got 0",
    ),
    "nothing accumulated": (
        ["--trainer.accumulate_grad_batches", "0"],
        "trainer.accumulate_grad_batches must be >= 1; got 0",
    ),
    "more accumulated than can be counted": (
        ["--trainer.accumulate_grad_batches", "10000000000000000000"],
        "trainer.accumulate_grad_batches must be >= 1 and < 2^31; got 1",
    ),
    "gradients clipped at no number": (
        ["--trainer.gradient_clip_val", ".nan"],
        "trainer.gradient_clip_val must be >= 0, or null for none; got nan",
    ),
    "a weight that float32 does not hold": (
        ["--anneal.beta", "Linear", "--anneal.beta.start", "0", "--anneal.beta.end", "1.0e+60"],
        "anneal.beta must be within 3.4",
    ),
    "more pictures than can be counted": (
        ["--reconstructions.count", "10000000000000000000"],
        "reconstructions.count must be >= 1 and <= 2147483647",
    ),
    "a validation every no epochs": (
        ["--trainer.check_val_every_n_epoch", "0"],
        "trainer.check_val_every_n_epoch must be >= 1; got 0",
    ),
    "a log every no steps": (
        ["--trainer.log_every_n_steps", "0"],
        "trainer.log_every_n_steps must be >= 1; got 0",
    ),
    "a validation every no batches": (
        ["--trainer.val_check_interval", "0"],
        "trainer.val_check_interval must be > 0; got 0",
    ),
    "more batches than can be counted": (
        ["--trainer.overfit_batches", "1.0e+308"],
        "trainer.overfit_batches must be a fraction, or a count of batches; got 1e+308",
    ),
    "five and a half batches": (["--trainer.overfit_batches", "5.5"], "overfit_batches must be"),
    "fewer than no devices": (["--trainer.devices", "-3"], "trainer.devices must be >= 1"),
    "weights in half precision": (
        ["--trainer.precision", "bf16-true"],
        "trainer.precision must be one of auto, 32-true, bf16-mixed, 16-mixed; got bf16-true",
    ),
    "weights in double precision": (["--trainer.precision", "64"], "trainer.precision must be one"),
    "a word for the devices": (
        ["--trainer.devices", "abc", "--trainer.accelerator", "cpu"],
        "a value of the config cannot be used: `devices` selected with `CPUAccelerator`",
    ),
    "a number for settings": (["--reconstructions", "1"], "reconstructions"),
    "a run without an end": (["--trainer.max_epochs", "-1"], "the training would never end: set"),
    "no step": (["--trainer.max_steps", "0"], "trainer.max_steps must be above 0"),
    "no epoch": (["--trainer.max_epochs", "0"], "trainer.max_epochs must be above 0"),
    "no batch": (
        ["--trainer.limit_train_batches", "0"],
        "trainer.limit_train_batches must be above 0, or nothing is trained; got 0",
    ),
    "less than a batch": (
        ["--trainer.limit_train_batches", "0.001"],
        "trainer.limit_train_batches must be an integer, or a fraction of at least 1 / 275",
    ),
    "a negative learning rate": (
        ["--model.optimizer.lr", "-1"],
        "model.optimizer cannot be made: Invalid learning rate: -1.0",
    ),
    "one image to normalise": (["--data.batch_size", "1"], "one image has no variance"),
    "a schedule along no length": (
        ["--trainer.max_epochs", "-1", "--trainer.max_time", "00:00:01:00"],
        "follows the length of the run, which has none",
    ),
    "more codes than can be visited": (
        ["--model.bottleneck.estimator", "ExactEnumeration"],
        "states, above max_states=4096",
    ),
    "an estimator built for other codes": (
        ["--model.bottleneck.estimator", "RELAX", f"{ESTIMATOR}.num_codes", "7"],
        "RELAX was built for 20 latents of 7 codes",
    ),
    "a bound that the estimator cannot give": (
        ["--model.bottleneck.estimator", "RLOO", "--model.objective", "IWAE"],
        "RLOO estimates single-sample expectations only",
    ),
    "a probe of what is frozen": (
        ["--trainer.callbacks+", "GradientProbe", "--finetune.freeze", "[encoder]"],
        "GradientProbe measures the gradient in the encoder's parameters; all are frozen",
    ),
    "an unknown key": (["--modell", "x"], "modell"),
}


def run(args, capsys):
    code = main(args)
    return code, capsys.readouterr().err.strip()


def check(code, err, message, tmp_path):
    assert code == 2
    line = err.splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert "Traceback" not in err
    assert len(line) < 500
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", CASES)
def test_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args, message = CASES[name]
    code, err = run(["fit", "--config", CONFIG, *args], capsys)
    check(code, err, message, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  class_path: CategoricalVAE\n  init_argz: {}\n", "init_argz"),
        ("modell:\n  class_path: CategoricalVAE\n", "modell"),
        ("model: [", "parsing"),
        (f"{Path(CONFIG).read_text()}latents: 1\n", "latents: settings were expected; got a int"),
        ("model:\n  class_path: CategoricalVAE\n", "data"),
    ],
)
def test_broken_configs(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(text)
    code, err = run(["fit", "--config", "bad.yaml"], capsys)
    check(code, err, message, tmp_path)


def test_a_missing_config(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, err = run(["fit", "--config", "none.yaml"], capsys)
    check(code, err, "none.yaml", tmp_path)


def bundled(tmp_path):
    for source in files("dvae.data").joinpath("files/mnist").iterdir():
        if source.name.endswith(".gz"):
            (tmp_path / source.name).write_bytes(source.read_bytes())
    return tmp_path / "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize("damage", ["flip", "cut"])
@pytest.mark.parametrize("split", ["train", "t10k"])
def test_damaged_data(split, damage, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = bundled(tmp_path).with_name(f"{split}-images-idx3-ubyte.gz")
    if damage == "flip":
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[5000] ^= 1
        path.write_bytes(gzip.compress(bytes(content), 1))
    else:
        path.write_bytes(path.read_bytes()[:100_000])
    args = ["fit", "--config", CONFIG, "--data.data_dir", str(tmp_path)]
    code, err = run(args, capsys)
    check(code, err, path.name, tmp_path)


@pytest.mark.parametrize("option", ["--ckpt_path", "--init_from"])
def test_a_checkpoint_of_another_model(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"net.weight": torch.zeros(2)}}, "other.ckpt")
    code, err = run(["fit", "--config", CONFIG, option, "other.ckpt"], capsys)
    check(code, err, "net.weight is not in this model", tmp_path)


def test_a_checkpoint_cut_short(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"net.weight": torch.zeros(2000)}}, "cut.ckpt")
    Path("cut.ckpt").write_bytes(Path("cut.ckpt").read_bytes()[:3000])
    code, err = run(["test", "--config", CONFIG, "--ckpt_path", "cut.ckpt"], capsys)
    check(code, err, "cut.ckpt is cut short or damaged", tmp_path)


def test_a_run_that_breaks_in_a_draw_has_the_code_of_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    rate = '{"class_path": "torch.optim.SGD", "init_args": {"lr": 1e30}}'
    words = ["fit", "--config", CONFIG, "--model.optimizer", rate, "--model.lr_schedule", "null"]
    code, err = run([*words, "--trainer.max_epochs=1", "--trainer.limit_train_batches=3"], capsys)
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "a draw (logits must have a finite maximum" in line and "the batch is in" in line


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, IndexError])
def test_what_a_nan_has_led_to_is_said_in_one_line(kind, capsys):
    # A quantizer's index of a NaN is no place in a code book, on which torch has its own opinion.
    def break_down(args):
        raise kind("a draw\n(index -1) is not finite") from NonFiniteError()

    def fail(args):
        raise RuntimeError("of our own making")

    assert main(["fit"], break_down) == 1
    assert capsys.readouterr().err == "error: a draw (index -1) is not finite\n"
    with pytest.raises(RuntimeError, match="of our own making"):
        main(["fit"], fail)


def test_a_run_without_a_config_file_is_called_after_its_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(["fit", "--model", "CategoricalVAE", "--data", "MNIST", *SHORT]) == 0
    assert (tmp_path / "runs/CategoricalVAE/version_0/checkpoints/best.ckpt").exists()


def test_an_estimator_without_a_temperature_is_a_change_of_one_key(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(["fit", "--config", CONFIG, ESTIMATOR, "RLOO", *SHORT]) == 0
    assert "anneal.tau is not used: this model has no tau" in caplog.text
