"""Freezing, learning rates of parts, and weights from another data set or image size."""

import copy
import itertools

import pytest
import pytorch_lightning as pl
import torch

from dvae.bottlenecks import (
    FSQ,
    LFQ,
    VQ,
    CategoricalBottleneck,
    DistanceCodebook,
    DiVeQ,
    ProductCodebook,
    ProjectedCodebook,
    ResidualCodebook,
    ResidualVQ,
    RotationVQ,
    SimVQ,
    Upkeep,
)
from dvae.bottlenecks.upkeep import Once
from dvae.callbacks import Anneal, Freeze
from dvae.estimators import RELAX, VIMCO, GumbelSoftmax, Reinforce
from dvae.likelihoods import Gaussian
from dvae.models import CategoricalVAE, CodebookVAE, PriorLikelihood
from dvae.models.parts import parameter_groups
from dvae.models.weights import WeightReport, load_weights
from dvae.networks import MLP, ResNet
from dvae.priors import AutoregressivePrior, CategoricalPrior, MADEPrior, MaskedPrior
from dvae.schedules import Cosine, Exponential, Linear, Sequential
from tests.posteriors import expectation
from tests.toy import toy_data, toy_model, toy_trainer

SMALL = {"num_codes": 6, "code_dim": 4}
BUSY = Upkeep(kmeans=2, revive_after=1)  # would change the code book at every step
BOTTLENECKS = {
    "categorical": lambda: CategoricalBottleneck(3, 3, Reinforce()),  # a moving average
    "projected": lambda: ProjectedCodebook(**SMALL, in_features=4, upkeep=BUSY),
    "product": lambda: ProductCodebook(**SMALL, in_features=4, upkeep=BUSY),
    "distance": lambda: DistanceCodebook(**SMALL, upkeep=BUSY),
    "residual code": lambda: ResidualCodebook(**SMALL, upkeep=BUSY),
    "vq": lambda: VQ(**SMALL, decay=0.8, upkeep=BUSY),
    "rotation": lambda: RotationVQ(**SMALL, decay=0.8),
    "diveq": lambda: DiVeQ(**SMALL, upkeep=BUSY),
    "simvq": lambda: SimVQ(**SMALL),
    "fsq": lambda: FSQ([3, 3], 4),
    "lfq": lambda: LFQ(8, 4),
    "residual": lambda: ResidualVQ(**SMALL, depth=2, decay=0.8, upkeep=BUSY),
}
# Whose tensors, if any, do not change in training.
NOTHING_TO_LEARN = {"categorical": set(), "vq": set()}


def make(kind="projected", size=6, channels=1, prior=None):
    torch.manual_seed(0)
    if kind == "categorical":
        network = MLP(image_shape=(channels, size, size), hidden=(16,))
        return CategoricalVAE(network=network, bottleneck=BOTTLENECKS[kind]())
    return CodebookVAE(
        network=ResNet((channels, size, size), width=8, halvings=1, blocks=1),
        bottleneck=BOTTLENECKS[kind](),
        likelihood=Gaussian(0.2),
        prior=prior,
    )


def train(tmp_path, model, *callbacks, steps=6, **kwargs):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = toy_trainer(tmp_path, max_steps=steps, callbacks=list(callbacks), **kwargs)
    # Validation in between, after which Lightning sets the modes of all modules again.
    trainer.fit(model, datamodule=toy_data(batch_size=60))
    after = model.state_dict()
    return trainer, {name for name in before if not torch.equal(before[name], after[name])}


def is_in(name, parts):
    return any(name == part or name.startswith(f"{part}.") for part in parts)


@pytest.mark.parametrize("kind", BOTTLENECKS)
@pytest.mark.parametrize(
    "parts", [("encoder",), ("bottleneck",), ("decoder",), ("encoder", "bottleneck")]
)
def test_a_frozen_part_stays_to_the_last_bit_and_the_others_move(kind, parts, tmp_path):
    model = make(kind)
    _, free = train(tmp_path, make(kind))
    trainer, moved = train(tmp_path, model, Freeze(parts))
    assert not [name for name in moved if is_in(name, parts)]
    # All that moves without it; but for counts, which may end where they began.
    left = {name for name in free if not is_in(name, parts)}
    assert {name for name in moved ^ left if ".idle." not in name} == set()
    assert any(is_in(name, ["decoder", "encoder"]) for name in moved)
    (optimizer,) = trainer.optimizers
    trained = {p for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if is_in(name, parts):
            assert parameter.grad is None
            assert parameter not in trained and parameter not in optimizer.state


@pytest.mark.parametrize("name", ["bottleneck.codebook", "encoder.0.weight", "bottleneck.idle"])
def test_a_single_tensor_stays_too(name, tmp_path):
    _, moved = train(tmp_path, make("distance"), Freeze([name]))
    assert not [key for key in moved if is_in(key, [name])]
    assert any(key.startswith("decoder") for key in moved)


@pytest.mark.parametrize("kind", ["vq", "rotation", "diveq", "residual", "lfq", "simvq", "fsq"])
def test_the_encoder_behind_a_frozen_quantizer_has_the_gradient_of_training(kind):
    def gradient(model, frozen):
        model.train()
        for module in model.modules():
            if isinstance(module, Once):  # or training would start the code book from the data
                module.done.fill_(True)
        model.bottleneck.train(not frozen)
        features = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(1))
        features.requires_grad_()
        out = expectation(model.bottleneck, lambda z: z.square().flatten(2).sum(2), features)
        (out.value + out.loss).sum().backward()
        return features.grad

    frozen, training = gradient(make(kind), True), gradient(make(kind), False)
    assert frozen.abs().sum() > 0
    torch.testing.assert_close(frozen, training)


def test_a_frozen_learned_prior_is_still_the_learned_one(tmp_path):
    model = make("projected", prior=CategoricalPrior())
    model.prior.logits.data.normal_()
    before = model.prior.log_probs.detach().clone()
    train(tmp_path, model, Freeze(["prior"]), steps=1)
    assert torch.equal(model.prior.log_probs, before)


def test_the_temperature_of_a_frozen_bottleneck_is_still_annealed(tmp_path):
    model = toy_model(GumbelSoftmax(1.0))
    train(tmp_path, model, Freeze(["bottleneck"]), Anneal("tau", Linear(1.0, 0.5)))
    assert model.bottleneck.estimator.tau < 0.7


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["encodr"], "called 'encodr'; there are: encoder, bottleneck, prior, decoder"),
        (["encoder", "encoder.weight"], "called 'encoder.weight'; encoder has: 1, 2, 4"),
        (["encoder", "decoder"], "nothing is left to train"),
    ],
)
def test_names_that_cannot_be_frozen(names, message):
    with pytest.raises(ValueError, match=message):
        Freeze(names).setup(None, toy_model(), "fit")


# Learning rates


def rates(trainer, model):
    """Return the learning rate of each parameter by its name."""
    (optimizer,) = trainer.optimizers
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: g["lr"] for g in optimizer.param_groups for p in g["params"]}


def test_each_part_has_its_rate_under_the_schedule(tmp_path):
    schedule = Sequential([Linear(0.1, 1.0, 3), Cosine(1.0, 0.0, 20)])
    model = toy_model(lr_schedule=schedule, optimizer=lambda p: torch.optim.SGD(p, lr=0.2))
    model.lr_scale = {"encoder": 0.1, "encoder.4": 3.0}
    trainer, _ = train(tmp_path, model, steps=5)
    for name, rate in rates(trainer, model).items():
        factor = {"encoder.4": 3.0, "encoder": 0.1}
        scale = next((f for part, f in factor.items() if is_in(name, [part])), 1.0)
        assert rate == pytest.approx(0.2 * scale * schedule(5)), name


def test_the_default_is_one_group_of_all_parameters(tmp_path):
    model = toy_model()
    trainer, _ = train(tmp_path, model, steps=1)
    (group,) = trainer.optimizers[0].param_groups
    assert group["params"] == list(model.parameters())


def test_one_plain_step_is_scaled(tmp_path):
    moves = []
    for scale in (1.0, 0.25):
        pl.seed_everything(0)
        model = toy_model(optimizer=lambda p: torch.optim.SGD(p, lr=0.01))
        model.lr_scale = {"decoder": scale}
        start = [p.detach().clone() for p in model.decoder.parameters()]
        train(tmp_path, model, steps=1)
        pairs = zip(model.decoder.parameters(), start, strict=True)
        moves.append(torch.cat([(p.detach() - s).flatten() for p, s in pairs]))
    torch.testing.assert_close(moves[1], 0.25 * moves[0], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ({"encodr": 0.1}, "called 'encodr'; there are: encoder, decoder"),
        ({"bottleneck": 0.1}, "called 'bottleneck'; there are: encoder, decoder"),
        ({"encoder": 0.0}, "must be a number > 0"),
    ],
)
def test_rates_that_cannot_be(scales, message):
    with pytest.raises(ValueError, match=message):
        parameter_groups(toy_model(), scales)


# Temperature


class Values(pl.Callback):
    """What the logger would show of the temperature."""

    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, *_):
        self.values.append(trainer.callback_metrics["anneal/tau"].item())


def logged(tmp_path, carry, schedule, tau, steps, ckpt_path=None):
    model, values = toy_model(GumbelSoftmax(tau)), Values()
    anneal = Anneal("tau", schedule, carry)
    trainer = toy_trainer(tmp_path, max_steps=steps, callbacks=[anneal, values])
    trainer.fit(model, datamodule=toy_data(), ckpt_path=ckpt_path)
    return trainer, values.values


def test_restart_continue_and_hold(tmp_path):
    cosine = Cosine(1.0, 0.2, 10)
    expected = {
        "restart": cosine,
        "continue": Cosine(0.6, 0.2, 10),  # the same shape from there
        "hold": lambda step: 0.6,
    }
    for carry, schedule in expected.items():
        _, values = logged(tmp_path, carry, cosine, 0.6, 14)
        assert values == pytest.approx([schedule(step) for step in range(14)]), carry


@pytest.mark.parametrize("carry", ["continue", "hold"])
def test_a_resumed_run_goes_on_from_the_value_carried_over(carry, tmp_path):
    schedule = Exponential(1.0, 0.2, 10)
    _, whole = logged(tmp_path, carry, schedule, 0.6, 12)
    trainer, start = logged(tmp_path, carry, schedule, 0.6, 5)
    trainer.save_checkpoint(tmp_path / "stop.ckpt")
    # The config's temperature is another one: what counts is in the checkpoint.
    _, rest = logged(tmp_path, carry, schedule, 2.0, 12, tmp_path / "stop.ckpt")
    assert start + rest == whole


# Another size


def saved(model, tmp_path):
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.ckpt")
    return tmp_path / "model.ckpt"


def test_another_image_size_with_convolutions_takes_over_everything(tmp_path):
    model = make("projected", size=10)
    report = load_weights(model, saved(make("projected"), tmp_path))
    assert report.matches
    assert model.reconstruct(torch.rand(2, 1, 10, 10)).shape == (2, 1, 10, 10)


@pytest.mark.parametrize(
    ("kind", "change", "different"),
    [
        ("categorical", {"size": 10}, {"encoder.1.weight", "decoder.3.weight", "decoder.3.bias"}),
        (
            "categorical",
            {"channels": 3},
            {"encoder.1.weight", "decoder.3.weight", "decoder.3.bias"},
        ),
        ("projected", {"channels": 3}, None),
    ],
)
def test_what_does_not_fit_is_named_and_taken_only_if_allowed(kind, change, different, tmp_path):
    path, model = saved(make(kind), tmp_path), make(kind, **change)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"is \[.*\] there and \[.*\] here .*--allow_mismatch"):
        load_weights(model, path)
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in before)
    report = load_weights(model, path, allow_mismatch=True)
    found = {name for name, _, _ in report.reshaped}
    assert found and not (report.missing or report.unexpected)
    assert all(name in str(report) for name in found)
    if different is not None:
        assert found == different
    for name in found:
        assert torch.equal(model.state_dict()[name], before[name])
    source = torch.load(path, weights_only=True)["state_dict"]
    for name in report.loaded:
        assert torch.equal(model.state_dict()[name], source[name])


@pytest.mark.parametrize("kind", [VQ, ProjectedCodebook])
def test_a_checkpoint_older_than_the_counts_of_idle_codes_fits(kind, tmp_path):
    network = ResNet((3, 8, 8), width=8, halvings=1, blocks=1)
    model = CodebookVAE(network=network, bottleneck=kind(6, 4))
    state = model.state_dict()
    older = {k: v for k, v in state.items() if k.rsplit(".")[-1] not in ("uses", "next_look")}
    assert len(older) == len(state) - 2
    torch.save({"state_dict": older}, tmp_path / "older.ckpt")
    assert load_weights(model, tmp_path / "older.ckpt").matches
    model.load_state_dict(older)  # as a resumed run does, strictly


def test_the_report_names_everything_and_says_much_of_one_part_by_the_part():
    many = tuple(f"encoder.{n}.weight" for n in range(5))
    changed = (("decoder.0.weight", (3, 2), (4, 2)),)
    report = WeightReport((*many, "bottleneck.codebook"), ("a.b", "c"), (), changed)
    assert str(report).splitlines() == [
        "loaded 6 tensors",
        "  loaded: encoder.* (5), bottleneck.codebook",
        "  missing (fresh values kept): a.b",
        "  missing (fresh values kept): c",
        "  another shape (not loaded): decoder.0.weight [3, 2] in the checkpoint, [4, 2] here",
    ]
    listed = report.listing().splitlines()
    assert [line for line in listed if "  loaded: " in line] == [
        f"  loaded: {name}" for name in report.loaded
    ]


def test_a_prior_of_another_kind_begins_anew_and_one_of_the_same_kind_is_taken_over(tmp_path):
    torch.manual_seed(0)
    made, learned, uniform = (toy_model(prior=p) for p in (MADEPrior(4), CategoricalPrior(), None))
    made.objective = PriorLikelihood()  # which has no beta
    path = tmp_path / "uniform.ckpt"
    torch.save({"state_dict": uniform.state_dict()}, path)
    for model in (made, learned):
        before = {n: t.clone() for n, t in model.prior.state_dict().items()}
        report = load_weights(model, path)
        assert torch.equal(model.encoder[-1].weight, uniform.encoder[-1].weight)
        assert all(torch.equal(t, before[n]) for n, t in model.prior.state_dict().items())
        assert "missing (fresh values kept): prior." in report.listing()
    torch.save({"state_dict": learned.state_dict()}, path)
    assert load_weights(toy_model(prior=CategoricalPrior()), path).matches
    with pytest.raises(ValueError, match=r"of another model: prior\.enter\.weight is "):
        torch.save({"state_dict": made.state_dict()}, path)
        load_weights(toy_model(prior=MADEPrior(5)), path)


def test_a_prior_whose_tensors_have_the_names_of_another_kind_begins_anew_too(tmp_path):
    small = {"width": 8, "depth": 1, "heads": 2}
    kinds = {kind.__name__: kind(**small) for kind in (AutoregressivePrior, MaskedPrior)}
    models = {name: toy_model(prior=prior) for name, prior in kinds.items()}
    for (there, source), (here, model) in itertools.product(models.items(), repeat=2):
        with torch.no_grad():
            source.prior.net.head.fill_(1.0)
            model = copy.deepcopy(model)
            model.prior.net.head.zero_()
        path = saved(source, tmp_path)
        content = torch.load(path, weights_only=True)
        content["hyper_parameters"] = {"prior": {"class_path": f"dvae.priors.{there}"}}
        torch.save(content, path)
        report = load_weights(model, path)
        assert (model.prior.net.head == 0).all() == (here != there)
        assert report.matches == (here == there)
        assert torch.equal(model.encoder[-1].weight, source.encoder[-1].weight)


def test_given_probabilities_are_those_of_the_config_and_not_of_the_checkpoint(tmp_path):
    probs = [0.8, 0.15, 0.05]
    for source, taken in (
        (toy_model(), toy_model(prior=CategoricalPrior(probs))),
        (toy_model(prior=CategoricalPrior(probs)), toy_model()),
    ):
        torch.save({"state_dict": source.state_dict()}, tmp_path / "a.ckpt")
        before = taken.prior.log_probs.clone()
        assert load_weights(taken, tmp_path / "a.ckpt").matches
        assert torch.equal(taken.prior.log_probs, before)


def test_an_estimator_of_another_kind_begins_anew_and_one_of_the_same_kind_is_taken_over(tmp_path):
    kinds = (GumbelSoftmax(0.7), Reinforce(), VIMCO(), RELAX(3, 3, hidden=5))
    for before, now in itertools.permutations(kinds, 2):
        model, there = toy_model(copy.deepcopy(now)), toy_model(copy.deepcopy(before))
        own = {n: t.clone() for n, t in model.bottleneck.estimator.state_dict().items()}
        load_weights(model, saved(there, tmp_path))
        assert torch.equal(model.encoder[-1].weight, there.encoder[-1].weight)
        left = model.bottleneck.estimator.state_dict()
        assert all(torch.equal(tensor, own[name]) for name, tensor in left.items())
    path = saved(toy_model(RELAX(3, 3, hidden=5)), tmp_path)
    assert load_weights(toy_model(RELAX(3, 3, hidden=5)), path).matches
    with pytest.raises(ValueError, match=r"of another model: bottleneck\.estimator\."):
        load_weights(toy_model(RELAX(3, 3, hidden=6)), path)
