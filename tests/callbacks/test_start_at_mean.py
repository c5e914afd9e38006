"""A training begins at the mean image, unless the decoder has learned more already."""

from types import SimpleNamespace

import pytest
import torch

from dvae.bottlenecks import CategoricalBottleneck, ProjectedCodebook
from dvae.callbacks import RandomState, StartAtMean
from dvae.callbacks.start_at_mean import start_at_mean
from dvae.data import MNIST, Batch
from dvae.estimators import ReinMax
from dvae.likelihoods import Bernoulli, Categorical, Gaussian, Laplace
from dvae.models import CategoricalVAE, CodebookVAE
from dvae.networks import MLP, VQVAENet
from dvae.schedules import Linear
from tests.toy import toy_data, toy_model, toy_trainer


def images(count=64, shape=(1, 6, 6)):
    """Return images that are dark, brighter from row to row."""
    noise = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))
    return noise * torch.linspace(0.1, 0.5, shape[1]).view(-1, 1)


def model_of(network, likelihood, latents=2):
    torch.manual_seed(0)
    return CategoricalVAE(network, CategoricalBottleneck(latents, 3, ReinMax()), likelihood)


def last_layer(model):
    return [part for part in model.decoder.modules() if getattr(part, "bias", None) is not None][-1]


def fit(tmp_path, callbacks, steps=2, ckpt_path=None):
    torch.manual_seed(0)
    model = toy_model(ReinMax())
    trainer = toy_trainer(tmp_path, max_steps=steps, callbacks=[RandomState(), *callbacks])
    trainer.fit(model, datamodule=toy_data(), ckpt_path=ckpt_path)
    return trainer, model


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(), Laplace()], ids=repr)
def test_parameters_of_a_mean_have_that_mean(likelihood):
    mean = images().mean(0)
    assert torch.allclose(likelihood.mean(likelihood.params_of(mean)), mean, atol=1e-6)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()], ids=repr)
def test_a_decoder_that_sees_no_code_says_the_mean_of_each_pixel(likelihood):
    model, x = model_of(MLP((1, 6, 6), hidden=(8,), norm="none"), likelihood), images()
    layer = last_layer(model)
    start_at_mean(model, x, layer.bias)
    with torch.no_grad():
        layer.weight.zero_()
        said = model.likelihood.mean(model.decoder(torch.randn(5, 6)))
    expected = (x.sum(0) + 0.25) / (len(x) + 0.5)
    assert torch.allclose(said, expected.expand(5, -1, -1, -1), atol=1e-5)


def test_a_convolution_says_the_mean_of_each_channel():
    torch.manual_seed(0)
    model = CodebookVAE(VQVAENet((3, 8, 8), width=4), ProjectedCodebook(5, 4), Bernoulli())
    x = images(32, (3, 8, 8)) * torch.tensor([0.2, 0.6, 1.0]).view(3, 1, 1)
    layer = last_layer(model)
    start_at_mean(model, x, layer.bias)
    assert torch.allclose(layer.bias.sigmoid(), x.mean((0, 2, 3)), atol=0.01)


def test_a_decoder_that_knows_more_is_left_alone():
    model, x = model_of(MLP((1, 6, 6), hidden=(8,), norm="none"), Bernoulli()), images()
    layer = last_layer(model)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(x.mean(0).logit().flatten())  # nearer than the mean with a bit of grey
    before = layer.bias.detach().clone()
    start_at_mean(model, x, layer.bias)
    assert torch.equal(layer.bias, before)


def test_a_decoder_that_was_trained_is_no_worse_after_it(tmp_path):
    _, model = fit(tmp_path, [], 60)
    x = torch.rand(64, 1, 6, 6, generator=torch.Generator().manual_seed(1)).round()
    before = last_layer(model).bias.detach().clone()

    def value():
        with torch.no_grad():
            code = model.eval().bottleneck(model.encoder(x)).mode()
            return model.log_px(model.bottleneck.embed(code).unsqueeze(0), x).sum()

    first = value()
    start_at_mean(model, x, last_layer(model).bias)
    assert value() > first or torch.equal(last_layer(model).bias, before)


def test_it_acts_before_the_first_step_of_a_training_only(tmp_path):
    plain, started = (fit(tmp_path / name, c) for name, c in (("a", []), ("b", [StartAtMean()])))
    moved = last_layer(started[1]).bias - last_layer(plain[1]).bias
    assert moved.abs().max() > 0.1
    trainer, whole = fit(tmp_path / "c", [StartAtMean()], 9)
    trainer, _ = fit(tmp_path / "d", [StartAtMean()], 4)
    trainer.save_checkpoint(tmp_path / "four.ckpt")
    _, resumed = fit(tmp_path / "e", [StartAtMean()], 9, tmp_path / "four.ckpt")
    ours = resumed.state_dict()
    assert all(torch.equal(x, ours[name]) for name, x in whole.state_dict().items())


@pytest.mark.parametrize(("step", "batch_idx"), [(1, 0), (0, 1)])
def test_it_acts_at_no_other_step(step, batch_idx):
    model, x = model_of(MLP((1, 6, 6), hidden=(8,), norm="none"), Bernoulli()), images()
    before = last_layer(model).bias.detach().clone()
    trainer = SimpleNamespace(global_step=step)
    StartAtMean().on_train_batch_start(trainer, model, Batch(x, None), batch_idx)
    assert torch.equal(last_layer(model).bias, before)
    StartAtMean().on_train_batch_start(SimpleNamespace(global_step=0), model, Batch(x, None), 0)
    assert not torch.equal(last_layer(model).bias, before)


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [(Categorical(), "parameters are a mean image, such as Bernoulli; got Categorical")],
)
def test_what_it_cannot_do_is_one_line(likelihood, words):
    model = model_of(MLP((1, 6, 6), hidden=(8,), norm="none"), likelihood)
    with pytest.raises(ValueError, match=words):
        StartAtMean().setup(None, model, "fit")
    model = model_of(MLP((1, 6, 6), hidden=(8,), norm="none"), Bernoulli())
    last_layer(model).bias = None
    with pytest.raises(ValueError, match="a bias for each pixel or channel, as that of MLP has$"):
        StartAtMean().setup(None, model, "fit")


@pytest.mark.slow
def test_without_it_all_images_get_one_code_and_with_it_they_do_not(tmp_path):
    found = {}
    for name, callbacks in (("without", []), ("with", [StartAtMean()])):
        torch.manual_seed(0)
        model = CategoricalVAE(
            MLP(hidden=(512, 256), norm="none", negative_slope=0.0),
            CategoricalBottleneck(4, 8, ReinMax(1.2)),
            optimizer=lambda p: torch.optim.Adam(p, 5e-4),
            lr_schedule=Linear(0.0, 1.0, 4800),
        )
        data = MNIST(batch_size=100, val_size=0, seed=0)
        settings = {"max_steps": 600, "limit_val_batches": 0, "callbacks": callbacks}
        toy_trainer(tmp_path / name, **settings).fit(model, data)
        x = model.images_of(next(iter(data.train_dataloader())))
        with torch.no_grad():
            found[name] = model.bottleneck(model.encoder(x)).mode().unique(dim=0)
    assert len(found["without"]) < 4
    assert len(found["with"]) > 12
