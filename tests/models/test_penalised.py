"""Laws of the penalties: whose gradient is whose, what a weight of 0 is, and how they resume."""

import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from dvae.bottlenecks import ProjectedCodebook, Upkeep
from dvae.callbacks import Anneal, RandomState
from dvae.data import ImageDataModule, Images
from dvae.estimators import RLOO, GumbelSoftmax, ReinMax
from dvae.likelihoods import Gaussian
from dvae.models import ELBO, CodebookVAE, PenalisedELBO
from dvae.models.penalised import Decoding
from dvae.models.weights import load_weights
from dvae.networks import ResNet
from dvae.penalties import Adversarial, Penalty, Perceptual
from dvae.schedules import Constant, Cosine, Linear, Sequential
from tests.toy import toy_trainer

pytest.importorskip("efficientnet_lite_pytorch")
SIZE = 32


class Photos(ImageDataModule):
    name = "photos"
    image_shape = (3, SIZE, SIZE)
    num_classes = 2

    def load(self, split):
        noise = torch.Generator().manual_seed(len(split))
        small = torch.rand(26, 3, 4, 4, generator=noise)
        images = torch.nn.functional.interpolate(small, (SIZE, SIZE), mode="bilinear")
        return Images((images * 255).byte(), torch.zeros(26, dtype=torch.int64))


def adversarial(weight=0.3, **kwargs):
    torch.manual_seed(4)
    return Adversarial(weight, **({"width": 8, "layers": 2} | kwargs))


def model_of(objective, estimator=None, likelihood=None, upkeep=Upkeep(), **kwargs):  # noqa: B008
    pl.seed_everything(3, verbose=False)
    code = ProjectedCodebook(8, 4, 8, estimator or GumbelSoftmax(1.0), upkeep=upkeep)
    network = ResNet((3, SIZE, SIZE), width=8, halvings=2, blocks=1)
    return CodebookVAE(network, code, likelihood, objective=objective, **kwargs)


def fixed(objective, estimator=None):
    """Build a model whose loss is the same function of its weights at each call."""
    return model_of(objective, estimator, Gaussian(0.1), Upkeep(kmeans=0, revive_after=0))


def both(**kwargs):
    return PenalisedELBO([Perceptual(0.5), adversarial(**kwargs)], beta=0.7)


def loss_of(model, batch=4):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, 3, SIZE, SIZE, generator=generator)
    torch.manual_seed(5)
    target = model.likelihood.dequantize(image)
    q = model.bottleneck(model.encoder(image), model.prior)
    decoding = Decoding(model.log_px, model.decoder, model.likelihood, image, target)
    return model.objective(decoding, q, model.prior)


def train(folder, model, steps, *callbacks, ckpt_path=None, **settings):
    settings = {"max_steps": steps, "limit_val_batches": 0} | settings
    trainer = toy_trainer(folder, callbacks=[*callbacks, RandomState()], **settings)
    if ckpt_path:
        torch.manual_seed(12345)  # what came before must not matter
    trainer.fit(model, datamodule=Photos(batch_size=6, val_size=2), ckpt_path=ckpt_path)
    return trainer


def gradients(model):
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_each_side_of_the_contest_trains_its_own_weights():
    model = fixed(PenalisedELBO([adversarial()]))
    term = model.objective.terms["adversarial"]
    picture = torch.rand(3, 3, SIZE, SIZE, requires_grad=True)
    image = torch.rand(3, 3, SIZE, SIZE)
    term(picture, image).sum().backward()
    assert picture.grad.abs().sum() > 0 and not gradients(model)
    picture.grad = None
    # As the model calls it, with a picture that has a gradient to give.
    out = loss_of(model)
    out.loss.backward()
    found = gradients(model)
    own = {n: g for n, g in found.items() if n.startswith("objective.")}
    # But for a last bias, which moves all scores alike.
    assert len(own) > 5 and sum(not g.any() for g in own.values()) <= 1
    # The discriminator's gradient is that of its hinge loss alone, the model's not of that.
    term.weight.fill_(1e-30)
    loss_of(model).loss.backward()
    for name, gradient in gradients(model).items():
        same = torch.allclose(gradient, found[name], rtol=1e-4, atol=1e-7)
        if name.startswith("objective."):
            assert same, name
    plain = fixed(ELBO())
    loss_of(plain).loss.backward()
    term.weight.fill_(1e-30)
    loss_of(model).loss.backward()
    ours = gradients(model)
    for name, gradient in gradients(plain).items():
        assert torch.allclose(ours[name], gradient, rtol=1e-4, atol=1e-5), name


def test_the_loss_is_the_sum_that_it_says_it_is():
    out, plain = loss_of(fixed(both(adaptive=False))), loss_of(fixed(ELBO(0.7)))
    terms = out.terms
    expected = plain.loss + 0.5 * terms["perceptual"] + 0.3 * terms["adversarial"]
    torch.testing.assert_close(out.loss, expected + terms["discriminator"])
    torch.testing.assert_close(out.log_px, plain.log_px)
    assert out.bound is None and plain.bound is not None


def test_an_adaptive_weight_is_that_share_of_the_other_gradients():
    class Sum(Penalty):
        """A term whose gradient is known."""

        def forward(self, picture, image):
            return picture.flatten(1).sum(1)

    model = fixed(PenalisedELBO([Sum(2.0), adversarial(0.25, adaptive=True)]))
    term = model.objective.terms["adversarial"]
    params = torch.rand(1, 4, 3, SIZE, SIZE, requires_grad=True)
    rest, value = -(params**2).sum((2, 3, 4)), params.exp().sum((2, 3, 4))
    factor = term.balance(rest, value, params)
    expected = (2 * params).norm() / params.exp().norm()
    torch.testing.assert_close(factor, expected.detach())
    loss_of(model)
    assert term.ratio != factor and torch.isfinite(term.ratio)
    with torch.no_grad():
        assert term.balance(rest, value, params) is term.ratio


def test_an_adaptive_weight_weighs_all_other_terms_in_whatever_order():
    ratios = []
    for turn in (1, -1):
        model = fixed(PenalisedELBO([Perceptual(5.0), adversarial(0.3, adaptive=True)][::turn]))
        loss_of(model)
        ratios.append(model.objective.terms["adversarial"].ratio)
    torch.testing.assert_close(*ratios)


def test_a_batch_that_is_not_finite_leaves_the_adaptive_weight_as_it_was():
    term = adversarial(0.25, adaptive=True)
    params = torch.rand(1, 2, 3, SIZE, SIZE, requires_grad=True)
    value = params.sum((2, 3, 4))
    assert term.balance(value * math.nan, value, params).isnan()
    assert term.ratio == 1
    term.balance(3 * value, value, params)
    assert term.ratio == pytest.approx(3)


@pytest.mark.parametrize("estimator", [GumbelSoftmax, ReinMax, RLOO])
def test_every_kind_of_estimator_trains_them(estimator):
    model = fixed(both(), estimator())
    loss_of(model).loss.backward()
    assert all(g.isfinite().all() for g in gradients(model).values())


def test_several_draws_are_averaged():
    one, three = both(adaptive=False), both(adaptive=False)
    three.samples = 3
    values = [loss_of(fixed(objective)) for objective in (one, three)]
    assert values[1].log_px.shape == values[0].log_px.shape
    assert 0 < abs(values[1].loss - values[0].loss) < 0.2 * abs(values[0].loss)


def test_a_weight_of_0_trains_as_without_it_to_the_bit(tmp_path):
    """And a later start is nothing but a schedule that begins with 0."""
    late = Sequential([Constant(0.0, 6), Constant(0.1)])
    finals = {}
    for steps in (6, 8):
        for name in ("plain", "with"):
            objective = both() if name == "with" else ELBO(0.7)
            model = model_of(objective, lr_schedule=Cosine(1.0, 0.1, 9))
            callbacks = []
            if name == "with":
                model.objective.terms["perceptual"].weight.fill_(0.0)
                callbacks = [Anneal("adversarial.weight", late), Anneal("perceptual.weight", late)]
            train(tmp_path, model, steps, *callbacks, gradient_clip_val=1.0)
            finals[name, steps] = model.state_dict()
    for name, tensor in finals["plain", 6].items():
        if name != "objective.beta":
            assert torch.equal(tensor, finals["with", 6][name]), name
    assert any(
        not torch.equal(tensor, finals["with", 8][name])
        for name, tensor in finals["plain", 8].items()
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5},
        {"precision": "bf16-mixed"},
        {"plugins": "16-mixed", "gradient_clip_val": 0.5},
    ],
    ids=lambda s: "-".join(s) or "plain",
)
def test_training_2n_steps_equals_n_then_a_stop_then_n(tmp_path, settings):
    def run(steps, ckpt_path=None):
        if "plugins" in settings:  # on a CPU the precision alone would be bfloat16
            settings["plugins"] = [MixedPrecision("16-mixed", "cpu")]
        model = model_of(both(adaptive=True), lr_schedule=Cosine(1.0, 0.1, 8))
        late = Anneal("adversarial.weight", Linear(0.0, 0.5, 8))
        return train(tmp_path, model, steps, late, ckpt_path=ckpt_path, **settings), model

    _, whole = run(5)
    trainer, _ = run(3)
    trainer.save_checkpoint(tmp_path / "stop.ckpt")
    _, resumed = run(5, tmp_path / "stop.ckpt")
    assert any("discriminator" in name for name in whole.state_dict())
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_accumulated_gradients_are_those_of_the_batches_on_average():
    model = fixed(both(adaptive=False))
    losses = [loss_of(model).loss / 2, loss_of(model).loss / 2]
    sum(losses).backward()
    halves = gradients(model)
    loss_of(model).loss.backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(halves[name], gradient, rtol=1e-3, atol=1e-5)


def test_clipping_knows_whose_gradient_is_whose(tmp_path):
    class Norms(pl.Callback):
        def on_before_zero_grad(self, trainer, model, optimizer):
            found = {True: [], False: []}
            for name, p in model.named_parameters():
                if p.grad is not None:
                    found[name.startswith("objective.")].append(p.grad.norm())
            self.norms = {k: float(torch.stack(v).norm()) for k, v in found.items() if v}

    norms = Norms()
    train(tmp_path, model_of(both()), 2, norms, gradient_clip_val=1e-4)
    assert norms.norms == {False: pytest.approx(1e-4, 1e-2), True: pytest.approx(1e-4, 1e-2)}


def test_the_names_of_the_metrics_say_what_is_no_bound(tmp_path):
    seen = {}

    class Watch(pl.Callback):
        def on_train_end(self, trainer, model):
            seen.update(trainer.callback_metrics)

    settings = {"limit_val_batches": 1, "max_epochs": 1, "max_steps": -1}
    model = model_of(both())
    train(tmp_path, model, -1, Watch(), **settings)
    names = {"train/perceptual", "train/adversarial", "train/discriminator", "train/loss"}
    assert names <= seen.keys() and "train/elbo" not in seen
    # What validation calls the bound knows nothing of the objective.
    before = seen["val/elbo"].clone()
    model.objective = ELBO()
    trainer = toy_trainer(tmp_path)
    trainer.validate(model, datamodule=Photos(batch_size=6, val_size=2), verbose=False)
    torch.testing.assert_close(trainer.callback_metrics["val/elbo"], before)


def test_the_features_are_no_part_of_the_checkpoint():
    model = model_of(PenalisedELBO([Perceptual()]))
    names = set(model.state_dict())
    loss_of(model)
    assert set(model.state_dict()) == names
    assert not any("network" in name for name in names if name.startswith("objective"))
    assert sum(p.numel() for p in model.objective.parameters()) == 0


def test_the_distance_of_an_image_to_itself_is_0_and_grows_with_blur():
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(2, 3, 16, 16, generator=generator)
    image = torch.nn.functional.interpolate(small, 64)
    blur = [torch.nn.functional.avg_pool2d(image, k, 1, k // 2) for k in (1, 3, 7)]
    distance = torch.stack([Perceptual()(b, image) for b in blur])
    assert torch.equal(distance[0], torch.zeros(2))
    assert (distance.diff(dim=0) > 0).all()
    assert (distance <= 4 * image[0].numel()).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Perceptual(-1.0), "weight must be a number >= 0; got -1.0"),
        (lambda: PenalisedELBO([Perceptual(), Perceptual()]), "must be of different classes"),
        (lambda: adversarial(width=12), "Adversarial.width must be a multiple of 8; got 12"),
        (lambda: adversarial(layers=0), "Adversarial.layers must be an integer >= 1; got 0"),
        (lambda: adversarial(channels=1).prepare((3, 64, 64)), "Adversarial.channels must be 3"),
        (lambda: adversarial(layers=7).prepare((3, 64, 64)), "log2 of 64 pixels; got 7"),
        (lambda: Perceptual().prepare((3, 16, 64)), "at least 32x32 pixels; got 3x16x64"),
        (lambda: Perceptual().prepare((2, 64, 64)), "1 or 3 channels"),
    ],
)
def test_what_cannot_be_is_one_line(make, message):
    with pytest.raises(ValueError, match=message) as found:
        make()
    assert "\n" not in str(found.value)


def test_a_plain_function_of_codes_is_refused():
    model = model_of(both())
    q = model.bottleneck(model.encoder(torch.rand(2, 3, SIZE, SIZE)), model.prior)
    with pytest.raises(ValueError, match="call it with a Decoding"):
        model.objective(lambda z: z.flatten(2).sum(2), q, model.prior)


def test_the_seed_of_the_model_is_not_the_discriminators():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    Adversarial(width=8)
    assert torch.equal(torch.rand(3), expected)


def test_a_model_trained_without_them_goes_on_with_them(tmp_path):
    plain, model = model_of(ELBO()), model_of(both())
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "plain.ckpt")
    before = [p.clone() for p in model.objective.parameters()]
    model.encoder[0].weight.data.zero_()
    load_weights(model, tmp_path / "plain.ckpt")
    assert torch.equal(model.encoder[0].weight, plain.encoder[0].weight)
    assert all(map(torch.equal, model.objective.parameters(), before))
