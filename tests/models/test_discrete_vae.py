import pytest
import torch

from dvae.callbacks import Anneal
from dvae.estimators import ExactEnumeration, GumbelSoftmax, MeanField, ReinMax
from dvae.models import ELBO, IWAE, CategoricalVAE
from dvae.models.weights import load_weights
from dvae.runs.checkpoints import read_checkpoint
from dvae.schedules import Constant, Cosine, Linear
from tests.posteriors import objective_of
from tests.toy import toy_data, toy_model, toy_trainer


def test_the_loss_of_a_batch_is_the_mean_of_its_examples():
    model = toy_model(ReinMax()).eval()
    image = torch.rand(8, 1, 6, 6)
    features = model.encoder(image)
    torch.manual_seed(0)
    out = objective_of(model, image, features)
    assert out.log_px.shape == out.kl.shape == (8,)
    torch.testing.assert_close(out.loss, -(out.log_px - out.kl).mean())


def test_beta_weighs_the_kl_and_not_the_reported_bound():
    model = toy_model(ReinMax(), objective=ELBO(3.0)).eval()
    image = torch.rand(8, 1, 6, 6)
    out = objective_of(model, image)
    torch.testing.assert_close(out.loss, -(out.log_px - 3 * out.kl).mean())
    torch.testing.assert_close(out.bound, out.log_px - out.kl)


@pytest.mark.parametrize("estimator", [MeanField, ExactEnumeration])
def test_draws_that_do_not_vary_make_no_difference(estimator):
    model = toy_model(estimator()).eval()
    image = torch.rand(8, 1, 6, 6)
    found = []
    for samples in (1, 3):
        model.zero_grad()
        out = objective_of(model, image, objective=ELBO(0.5, samples))
        out.loss.backward()
        assert out.bound.shape == (8,)
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found.append([out.loss.detach(), out.bound, out.log_px, out.kl, *gradients])
    torch.testing.assert_close(found[0], found[1])


def test_the_mean_of_four_draws_has_a_quarter_of_the_variance_and_the_same_mean():
    model = toy_model(ReinMax()).eval()
    image = torch.rand(1, 1, 6, 6).expand(4000, -1, -1, -1)
    features = 2 * model.encoder(image[:1]).detach()
    mean, variance = [], []
    for samples in (1, 4):
        # The same example many times: the gradient of each is an estimate.
        copies = features.expand(4000, -1).clone().requires_grad_()
        out = objective_of(model, image, copies, ELBO(0.0, samples))
        (gradient,) = torch.autograd.grad(4000 * out.loss, copies)
        mean.append(gradient.mean(0))
        variance.append(gradient.var(0).sum())
    assert (variance[0] / variance[1]).item() == pytest.approx(4, rel=0.15)
    error = ((variance[0] + variance[1]) / 4000).sqrt()
    assert (mean[0] - mean[1]).norm() < 3 * error


def test_the_iwae_objective_with_one_sample_is_the_elbo_in_expectation():
    torch.manual_seed(0)
    model = toy_model(ReinMax(), objective=IWAE(1)).eval()
    image = torch.rand(4000, 1, 6, 6)
    with torch.no_grad():
        features = model.encoder(image) * 3
        iwae = objective_of(model, image, features)
        elbo = objective_of(model, image, features, ELBO())
    error = (iwae.bound - elbo.bound).std() / 4000**0.5
    assert abs(iwae.bound.mean() - elbo.bound.mean()) < 5 * error


def test_training_learns_under_both_objectives(tmp_path):
    for objective in (ELBO(), ELBO(samples=2), IWAE(4)):
        torch.manual_seed(0)
        model = toy_model(ReinMax(), objective=objective)
        before = toy_trainer(tmp_path).test(model, datamodule=toy_data(), verbose=False)
        toy_trainer(tmp_path, max_epochs=8).fit(model, datamodule=toy_data())
        after = toy_trainer(tmp_path).test(model, datamodule=toy_data(), verbose=False)
        assert after[0]["test/elbo"] > before[0]["test/elbo"] + 3


def test_encode_decode_sample_work_in_training_mode_and_leave_it():
    torch.manual_seed(0)
    model = toy_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    image = torch.rand(7, 1, 6, 6)
    assert model.training
    index = model.encode(image)
    assert index.shape == (7, 3)
    assert torch.equal(model.decode(index), model.reconstruct(image))
    assert model.sample(4).shape == (4, 1, 6, 6)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(model.encode(image[:2]), index[:2])


@pytest.mark.parametrize("index", [[[0, 1, 3]], [[0, -1, 2]]])
def test_codes_out_of_range_are_refused(index):
    with pytest.raises(ValueError, match=r"must be in \[0, 3\); got"):
        toy_model().decode(torch.tensor(index))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.zeros(2, 3), r"a code must be integers; got torch.float32"),
        (torch.zeros(2, 3) > 0, r"a code must be integers; got torch.bool"),
        (torch.zeros(3).long(), r"codes must be of shape \(B, 3\); got \(3,\)"),
    ],
)
def test_what_is_no_code_is_refused_in_one_line(index, message):
    with pytest.raises(ValueError, match=message) as found:
        toy_model().decode(index)
    assert "\n" not in str(found.value)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"images must be \(B, 1, 6, 6\); got \(2, 1, 28, 28\)"):
        toy_model().encode(torch.rand(2, 1, 28, 28))


def test_data_of_another_size_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="1x6x6 and the network was built for 1x28x28"):
        toy_trainer(tmp_path, max_steps=1).fit(CategoricalVAE(), datamodule=toy_data())


def test_an_unknown_target_lists_the_scalars_there_are(tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=1, callbacks=[Anneal("temp", Constant(1.0))])
    with pytest.raises(ValueError, match=r"'temp'.*bottleneck.estimator.tau, objective.beta"):
        trainer.fit(toy_model(), datamodule=toy_data())


@pytest.mark.parametrize("schedule", [Linear(1.0, 0.0), Constant(-1.0), Cosine(0.5, -0.5)])
def test_a_schedule_that_leaves_the_range_is_refused_before_training(tmp_path, schedule):
    trainer = toy_trainer(tmp_path, max_steps=1, callbacks=[Anneal("tau", schedule)])
    with pytest.raises(ValueError, match="anneal.tau must be a number > 0; got"):
        trainer.fit(toy_model(), datamodule=toy_data())


def test_an_endless_run_needs_schedules_with_a_length(tmp_path):
    trainer = toy_trainer(
        tmp_path, max_epochs=-1, max_steps=-1, callbacks=[Anneal("tau", Linear(1.0, 0.5))]
    )
    with pytest.raises(ValueError, match="set trainer.max_epochs or trainer.max_steps"):
        trainer.fit(toy_model(), datamodule=toy_data())


def checkpoint(tmp_path, model):
    trainer = toy_trainer(tmp_path, max_steps=3)
    trainer.fit(model, datamodule=toy_data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_weights_only_are_taken_over_and_reported_by_name(tmp_path):
    source = toy_model()
    path = checkpoint(tmp_path, source)
    target = toy_model(latents=4)
    untouched = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"encoder.*\[9, 16\] there and \[12, 16\] here.*and"):
        load_weights(target, path)
    assert all(torch.equal(v, untouched[k]) for k, v in target.state_dict().items())
    report = load_weights(target, path, allow_mismatch=True)
    assert not report.missing and not report.unexpected
    assert len(report.reshaped) == 3  # the last encoder layer and the first of the decoder
    for name in report.loaded:
        assert torch.equal(target.state_dict()[name], source.state_dict()[name])


def test_the_temperature_of_a_checkpoint_is_not_taken_over(tmp_path):
    path = checkpoint(tmp_path, toy_model(GumbelSoftmax(0.2)))
    target = toy_model(GumbelSoftmax(0.9))
    load_weights(target, path)
    assert target.bottleneck.estimator.tau.item() == pytest.approx(0.9)


def test_a_checkpoint_cut_short_says_so(tmp_path):
    path = checkpoint(tmp_path, toy_model())
    data = path.read_bytes()
    for size in (0, 100, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"a\.ckpt is .*(damaged|cut short)"):
            read_checkpoint(path)


def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("boom",))

    torch.save({"state_dict": {}, "bomb": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(ValueError, match="read safely"):
        read_checkpoint(tmp_path / "bomb.ckpt")


def test_a_model_built_from_parts_is_loaded_with_the_same_parts(tmp_path):
    model = toy_model()
    path = checkpoint(tmp_path, model)
    from dvae.bottlenecks import CategoricalBottleneck
    from dvae.networks import MLP

    loaded = CategoricalVAE.load_from_checkpoint(
        path,
        network=MLP(image_shape=(1, 6, 6), hidden=(16,)),
        bottleneck=CategoricalBottleneck(3, 3),
    )
    image = torch.rand(5, 1, 6, 6)
    assert torch.equal(loaded.encode(image), model.encode(image))


@pytest.mark.parametrize("objective", [ELBO(), IWAE(2)])
def test_what_an_objective_took_before_is_refused_in_a_line_that_says_what_it_takes(objective):
    model, image = toy_model(), torch.rand(2, 1, 6, 6)
    with pytest.raises(ValueError, match=r"takes a posterior and a prior: q = model\.bottleneck"):
        objective(lambda z: model.log_px(z, image), model.encoder(image), model.bottleneck)
