"""The gradient at a VAE is that of its reconstruction term, image by image."""

from pathlib import Path

import pytest
import torch

from dvae.bottlenecks import CategoricalBottleneck
from dvae.cli import main
from dvae.lab import exact_gradient
from dvae.lab.problem import first_images, fresh_vae, vae_problem
from dvae.models import CategoricalVAE
from dvae.sharing.load import load
from tests.laws import all_tuples
from tests.toy import toy_model

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_categorical.yaml")


def test_the_exact_gradient_is_that_of_the_enumerated_reconstruction_term():
    model, images = toy_model().eval(), torch.rand(5, 1, 6, 6)
    problem = vae_problem(model, images, "toy")
    logits = problem.logits.clone().requires_grad_()
    index = all_tuples(3, 3).unsqueeze(1).expand(-1, 5, -1)
    q = logits.softmax(-1).expand(27, -1, -1, -1).gather(-1, index.unsqueeze(-1)).prod(-2)[..., 0]
    params = model.decoder(model.bottleneck.embed(index).flatten(0, 1)).unflatten(0, (27, 5))
    log_px = model.likelihood.log_prob(params, images)
    (expected,) = torch.autograd.grad((q * log_px).sum(), logits)
    torch.testing.assert_close(exact_gradient(problem.f, problem.logits), expected)


def test_an_image_does_not_depend_on_its_neighbours():
    model, images = toy_model(), torch.rand(5, 1, 6, 6)
    together = vae_problem(model, images, "toy")
    alone = vae_problem(model, images[:1], "toy")
    torch.testing.assert_close(
        exact_gradient(together.f, together.logits)[:1], exact_gradient(alone.f, alone.logits)
    )


def test_a_seed_gives_the_same_fresh_model_and_leaves_the_global_one():
    torch.manual_seed(5)
    first = fresh_vae(2, 3, seed=1).state_dict()
    after = torch.rand(1)
    second = fresh_vae(2, 3, seed=1).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


def test_the_first_images_are_those_of_training():
    images = first_images(3)
    assert images.shape == (3, 1, 28, 28)
    assert images.min() == 0 and 0.9 < images.max() <= 1
    assert torch.equal(images, first_images(3))


def test_other_images_and_other_bottlenecks_are_refused():
    with pytest.raises(ValueError, match="data has images of 1x28x28"):
        vae_problem(toy_model(), torch.rand(2, 1, 28, 28), "toy")
    with pytest.raises(ValueError, match=r"10\^20 of them are above the limit"):
        fresh_vae(20, 10)


def test_a_model_with_more_codes_than_can_be_visited_is_a_problem_too():
    model = CategoricalVAE(bottleneck=CategoricalBottleneck(20, 10))
    assert vae_problem(model, torch.rand(2, 1, 28, 28), "large").logits.shape == (2, 20, 10)


@pytest.mark.slow
def test_a_model_of_the_command_line_is_loaded_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    size = [f"--model.bottleneck.{key}" for key in ("num_latents=3", "num_codes=2")]
    short = ["max_steps=2", "limit_val_batches=0", "limit_test_batches=0", "logger=false"]
    args = [*size, *(f"--trainer.{key}" for key in [*short, "enable_progress_bar=false"])]
    assert main(["fit", "--config", CONFIG, *args]) == 0
    (path, *_) = Path("runs").rglob("last.ckpt")
    problem = vae_problem(load(path), first_images(2), "trained")
    assert problem.logits.shape == (2, 3, 2)
    assert exact_gradient(problem.f, problem.logits).isfinite().all()

    content = torch.load(path, weights_only=True)
    del content["state_dict"]["prior.table"]
    torch.save(content, "damaged.ckpt")
    with pytest.raises(
        ValueError, match=r"is not of the model that it names: prior.table is missing there"
    ):
        load("damaged.ckpt")


def test_a_model_made_in_python_says_what_to_do(tmp_path):
    path = tmp_path / "made.ckpt"
    torch.save({"state_dict": toy_model().state_dict(), "hyper_parameters": {}}, path)
    with pytest.raises(ValueError, match="it was made in Python"):
        load(path)
