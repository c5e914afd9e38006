"""A prior trained on tokens is the one trained on the images' arg-max codes, to the bit."""

from types import SimpleNamespace

import pytest
import torch

from dvae.bottlenecks import VQ, ResidualVQ
from dvae.cli import main
from dvae.data import TokenData, Tokens
from dvae.data.batch import CodeBatch
from dvae.likelihoods import Gaussian
from dvae.models import ELBO, CategoricalVAE, CodebookVAE, PriorLikelihood
from dvae.models.encoding import write_tokens
from dvae.models.given_codes import check_prior_alone
from dvae.networks import ResNet
from dvae.priors import AutoregressivePrior, MADEPrior
from dvae.runs.checkpoints import read_checkpoint
from tests.toy import toy_data, toy_model, toy_trainer

SMALL = {"width": 8, "depth": 1, "heads": 2}
MODE = {"objective": PriorLikelihood("mode")}


def categorical(prior, **kwargs):
    return toy_model(prior=prior, **kwargs)


def quantizer(prior, kind=VQ, **kwargs):
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    return CodebookVAE(network, kind(6, 4), Gaussian(0.2), prior=prior, **kwargs)


def residual(prior, **kwargs):
    return quantizer(prior, ResidualVQ, **kwargs)


def made():
    return MADEPrior(4)


def with_classes():
    return AutoregressivePrior(**SMALL, num_classes=6, label_dropout=0.0)


def model_of(kind, prior, **kwargs):
    torch.manual_seed(0)
    return kind(prior(), **(MODE | kwargs))


def written(folder, model, split="train", **data):
    data = toy_data(**data)
    write_tokens(model, data, folder, split, trainer=toy_trainer(folder.parent))
    return TokenData(str(folder), data)


@pytest.mark.parametrize("prior", [made, with_classes])
@pytest.mark.parametrize("kind", [categorical, quantizer, residual])
def test_it_is_the_prior_that_is_trained_on_the_images(tmp_path, kind, prior):
    from_images, from_tokens = model_of(kind, prior), model_of(kind, prior)
    data = written(tmp_path / "t", from_tokens)
    runs = {}
    for model, source in ((from_images, toy_data()), (from_tokens, data)):
        torch.manual_seed(1)
        trainer = toy_trainer(tmp_path, max_epochs=2)
        trainer.fit(model, datamodule=source)
        runs[model] = dict(trainer.callback_metrics)
    before = model_of(kind, prior).state_dict()
    changed = {n for n, t in from_tokens.state_dict().items() if not torch.equal(t, before[n])}
    assert changed and {name.split(".")[0] for name in changed} == {"prior"}
    for name, tensor in from_images.state_dict().items():
        assert torch.equal(tensor, from_tokens.state_dict()[name]), name
    assert runs[from_images].keys() == runs[from_tokens].keys()
    same = {n for n, v in runs[from_images].items() if torch.equal(v, runs[from_tokens][n])}
    assert {"val/elbo", "train/loss", "val/prior_bits_per_token_mode"} <= same


def test_the_metrics_name_the_codes_that_they_are_of(tmp_path):
    logged = {}
    for codes in ("draws", "mode"):
        model = model_of(categorical, made, objective=PriorLikelihood(codes))
        trainer = toy_trainer(tmp_path, max_epochs=1)
        trainer.fit(model, datamodule=toy_data())
        logged[codes] = trainer.callback_metrics
    per_token = "prior_bits_per_token"
    assert {f"train/{per_token}", f"val/{per_token}", "train/kl"} <= logged["draws"].keys()
    assert not any("mode" in name for name in logged["draws"])
    assert {f"train/{per_token}_mode", f"val/{per_token}_mode"} <= logged["mode"].keys()
    assert not {f"train/{per_token}", "train/kl"} & logged["mode"].keys()
    assert logged["mode"][f"val/{per_token}_mode"] < logged["mode"][f"val/{per_token}"]


def test_a_batch_is_codes_and_validation_is_images(tmp_path):
    model = model_of(categorical, made)
    data = written(tmp_path / "t", model)
    trainer = toy_trainer(tmp_path, max_steps=1)
    seen = []
    step = model.training_step
    model.training_step = lambda batch, batch_idx: seen.append(batch) or step(batch, batch_idx)
    trainer.fit(model, datamodule=data)
    assert isinstance(seen[0], CodeBatch) and seen[0].code.dtype == torch.int64
    codes = Tokens(tmp_path / "t").codes
    assert len(codes) == 180 == data.count("train") and data.count("val") == 50
    assert data.image_shape == (1, 6, 6) and next(iter(data.val_dataloader())).image.dim() == 4


def refused(tmp_path, model, data, message):
    with pytest.raises(ValueError, match=message) as error:
        toy_trainer(tmp_path, max_steps=1).fit(model, datamodule=data)
    assert "\n" not in str(error.value)


def test_what_cannot_be_trained_on_is_refused_in_one_line(tmp_path):
    model = model_of(categorical, made)
    data = written(tmp_path / "t", model)
    for objective in (ELBO(), PriorLikelihood()):
        other = model_of(categorical, made, objective=objective)
        refused(tmp_path, other, data, "set model.objective PriorLikelihood and .*codes mode")
    refused(
        tmp_path,
        categorical(made(), codes=4, **MODE),
        data,
        r"are \(3,\) integers of 3 codes each and the model has \(3,\) of 4",
    )
    torch.manual_seed(5)
    refused(tmp_path, categorical(made(), **MODE), data, "of another model or other images")
    leaking = TokenData(data.folder, toy_data(val_size=80))  # 30 of them are validated on now
    refused(tmp_path, model, leaking, "of 30 images that toy does not train on: data.images.val_s")
    test = written(tmp_path / "test", model, "test")
    refused(tmp_path, model, test, "tokens of the train split; .* has those of test")
    missing = TokenData(str(tmp_path / "none"), toy_data())
    with pytest.raises(FileNotFoundError, match="has no tokens"):
        missing.setup("fit")


def test_several_processes_train_the_prior_alone_where_the_rest_is_frozen(tmp_path):
    model = model_of(categorical, made)
    trainer = toy_trainer(tmp_path, max_steps=1)
    check_prior_alone(model, trainer)
    trainer = SimpleNamespace(world_size=2, datamodule=None)
    with pytest.raises(ValueError, match=r"2 processes .* --finetune\.freeze \[decoder, encoder\]"):
        check_prior_alone(model, trainer)
    model.encoder.requires_grad_(False)
    model.decoder.requires_grad_(False)
    check_prior_alone(model, trainer)
    check_prior_alone(categorical(made()), trainer)


@pytest.mark.slow
def test_from_the_command_line_one_checkpoint_comes_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    common = ["--data.batch_size=100", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    model = ["--model=CategoricalVAE", "--model.network=MLP", "--model.network.hidden=[16]"]
    model += ["--model.bottleneck=CategoricalBottleneck", "--model.bottleneck.num_latents=4"]
    model += ["--model.bottleneck.num_codes=5", "--model.evaluation.iwae_samples=2"]
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=3"]
    short += ["--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]
    assert main(["fit", "--data=MNIST", *common, *model, *short, "--experiment=a"]) == 0
    run = tmp_path / "runs" / "a" / "version_0"
    path = str(run / "checkpoints" / "best.ckpt")
    args = ["predict", "--data=MNIST", *common, *model, f"--ckpt_path={path}"]
    assert main([*args, "--tokens.split=train"]) == 0
    args = ["fit", "--data=TokenData", f"--data.folder={run / 'tokens' / 'best-train'}"]
    args += ["--data.images=MNIST", "--data.images.batch_size=100", *common[1:], *model, *short]
    args += ["--model.prior=MADEPrior", "--model.objective=PriorLikelihood"]
    args += ["--model.objective.codes=mode", f"--init_from={path}", "--experiment=b"]
    assert main(args) == 0
    last = tmp_path / "runs" / "b" / "version_0" / "checkpoints" / "last.ckpt"
    found = CategoricalVAE.load_from_checkpoint(last, map_location="cpu")
    assert type(found.prior) is MADEPrior and found.sample(3).shape == (3, 1, 28, 28)
    old, new = read_checkpoint(path)["state_dict"], read_checkpoint(last)["state_dict"]
    kept = [n for n in old if n.startswith(("encoder", "decoder"))]
    assert kept and all(torch.equal(new[n], old[n]) for n in kept)
    assert any(p.any() for n, p in new.items() if n.startswith("prior.leave"))
    # And it goes on.
    args = [a for a in args if "init_from" not in a and "max_epochs" not in a]
    assert main([*args, "--ckpt_path=last", "--trainer.max_epochs=2"]) == 0
