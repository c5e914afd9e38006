"""One training step serves all estimators: each trains the same model, under one test."""

import pytest
import torch

from dvae.estimators import ESTIMATORS, MeanField, PathwiseEstimator
from dvae.estimators.about import trials
from dvae.models import ELBO, IWAE
from tests.posteriors import bounds_of, objective_of
from tests.toy import toy_data, toy_model, toy_trainer

LATENTS = 6
# Each is built anew, since it learns.
RECIPES = {
    name: lambda cls=cls, name=name: trials(cls, LATENTS, 2, hidden=8)[name]
    for cls in ESTIMATORS.values()
    for name in trials(cls, LATENTS, 2)
}
EVERY = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
PATHWISE = [name for name, recipe in RECIPES.items() if isinstance(recipe(), PathwiseEstimator)]
BOUNDED = [*PATHWISE, "VIMCO"]


def model_with(recipe, **kwargs):
    torch.manual_seed(0)
    return toy_model(recipe(), latents=LATENTS, codes=2, **kwargs)


@torch.no_grad()
def evaluate(model):
    """Return objective, and ELBO and IWAE bound at exact draws, on images not trained on."""
    image = toy_data().load("test").images.float() / 255
    model.eval()
    torch.manual_seed(1)
    features = model.encoder(image)
    out = objective_of(model, image, features)
    b = bounds_of(model, image, features, 8)
    return -out.loss.item(), b.elbo.mean().item(), b.iwae.mean().item()


def assert_trained(before, after, estimator):
    assert after[0] > before[0] + 2
    if not isinstance(estimator, MeanField):  # which never sees a discrete code in training
        assert after[1] > before[1] + 2
        assert after[2] > before[2] + 2


def gradients(model):
    image = torch.rand(16, 1, 6, 6)
    out = objective_of(model, image)
    out.loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_the_list_is_complete():
    assert {type(recipe()) for recipe in RECIPES.values()} == set(ESTIMATORS.values())


@EVERY
def test_gradients_reach_encoder_and_decoder_through_the_draw(recipe):
    # Without the KL, whose gradient would reach the encoder past the draw.
    found = gradients(model_with(recipe, objective=ELBO(0.0)))
    for name, gradient in found.items():
        if name.startswith(("encoder", "decoder")):
            assert gradient is not None and torch.isfinite(gradient).all(), name
            assert gradient.abs().max() > 0, name


@EVERY
def test_every_estimator_trains_the_model(tmp_path, recipe):
    model = model_with(recipe)
    estimator = model.bottleneck.estimator
    start = {name: value.clone() for name, value in estimator.state_dict().items()}
    before = evaluate(model)
    trainer = toy_trainer(tmp_path, max_epochs=6, limit_val_batches=0)
    trainer.fit(model.train(), datamodule=toy_data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert_trained(before, evaluate(model), estimator)

    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    for name, value in estimator.state_dict().items():
        assert torch.equal(saved[f"bottleneck.estimator.{name}"], value), name
    learned = [name for name, _ in estimator.named_parameters()]
    running = [name for name, _ in estimator.named_buffers() if name.startswith("running")]
    if getattr(estimator, "baseline", None) == "none":
        running = []
    for name in [*learned, *running]:
        assert not torch.equal(saved[f"bottleneck.estimator.{name}"], start[name]), name


@pytest.mark.parametrize("name", BOUNDED)
def test_the_bound_of_several_samples_is_trained_too(tmp_path, name):
    found = gradients(model_with(RECIPES[name], objective=IWAE(3)))
    for part in ("encoder", "decoder"):
        assert all(g.abs().max() > 0 for key, g in found.items() if key.startswith(part))
    model = model_with(RECIPES[name], objective=IWAE(3))
    before = evaluate(model)
    trainer = toy_trainer(tmp_path, max_epochs=6, limit_val_batches=0)
    trainer.fit(model.train(), datamodule=toy_data())
    assert_trained(before, evaluate(model), model.bottleneck.estimator)


@pytest.mark.parametrize("name", sorted(set(RECIPES) - set(BOUNDED)))
def test_the_others_refuse_the_bound_and_say_what_to_use(name):
    with pytest.raises(ValueError, match="single-sample expectations only; .* use VIMCO"):
        gradients(model_with(RECIPES[name], objective=IWAE(3)))
