"""A model made in Python says how it is made: its checkpoint is loaded without its parts."""

import functools
import inspect
from importlib import import_module

import pytest
import torch
from torch import nn

import dvae
from dvae.bottlenecks import CategoricalBottleneck, ProductCodebook, ProjectedCodebook, Upkeep
from dvae.described import describe, path_of
from dvae.estimators import DecoupledGumbelSoftmax, GumbelSoftmax, ReinMax
from dvae.models import CategoricalVAE, Evaluation, PenalisedELBO
from dvae.networks import MLP, Embedded, ResNet, ResNet1d
from dvae.penalties import Adversarial
from dvae.priors import AutoregressivePrior, CategoricalPrior, MADEPrior
from dvae.runs.trust import build
from dvae.schedules import Cosine, Linear, Sequential, Tuned
from dvae.sharing import from_pretrained, save_pretrained
from tests.toy import toy_data, toy_model, toy_trainer

PACKAGES = [
    "bottlenecks",
    "estimators",
    "likelihoods",
    "networks",
    "penalties",
    "priors",
    "schedules",
]
# Classes that are no parts of a model.
OTHERS = {"Sampling", "CodeDraw", "Draw", "PointPosterior", "CategoricalPosterior"}
GIVEN = [
    CategoricalBottleneck(5, 7, estimator=DecoupledGumbelSoftmax(0.5, 2.0)),
    ProjectedCodebook(12, code_dim=8, estimator=ReinMax(1.3), upkeep=Upkeep(revive_after=9)),
    ProductCodebook(12, 8, parts=4),
    CategoricalPrior([0.25, 0.75]),
    AutoregressivePrior(width=16, depth=1, heads=2, num_classes=4),
    MLP((1, 6, 6), hidden=(16, 8)),
    ResNet(image_shape=(3, 8, 8), width=8),
    Embedded(ResNet1d((8, 16), width=8), categories=5),
    Sequential([Linear(0.1, 1, 0.5), Cosine(1, 0)]),
    Tuned(every=7, follow=Linear(1.0, 0.3)),
    PenalisedELBO([Adversarial(weight=0.3, width=16)], beta=0.5),
]


def of_defaults():
    """Make every public part that needs no argument."""
    for package in PACKAGES:
        module = import_module(f"dvae.{package}")
        for name in sorted(set(module.__all__) - OTHERS):
            cls = getattr(module, name)
            if inspect.isclass(cls) and not inspect.isabstract(cls):
                needed = [p.default is p.empty for p in inspect.signature(cls).parameters.values()]
                if not any(needed):
                    yield cls()


MADE = [*GIVEN, *of_defaults()]


@pytest.mark.parametrize("part", MADE, ids=lambda part: type(part).__name__)
def test_a_part_is_made_again_from_what_it_says(part):
    said = describe(part)
    if "class_path" not in said:  # a dataclass without a base is known by its place
        said = {"class_path": path_of(type(part)), "init_args": said}
    again = build(said, ["dvae"])
    assert type(again) is type(part)
    if isinstance(part, nn.Module):
        assert repr(again) == repr(part)
        shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (part, again)]
        assert shapes[0] == shapes[1]
    else:
        assert again == part
    assert describe(again) == describe(part)


def test_there_are_parts():
    assert len(MADE) > 45


OPTIMIZERS = {
    "default": None,
    "partial": functools.partial(torch.optim.Adam, lr=1e-3),
    "function": lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
}


def trained(model, tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=2)
    trainer.fit(model, datamodule=toy_data())
    trainer.save_checkpoint(tmp_path / "made.ckpt")
    return tmp_path / "made.ckpt"


def same(model, other):
    state, found = model.state_dict(), other.state_dict()
    return state.keys() == found.keys() and all(torch.equal(state[k], found[k]) for k in state)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_made_in_python_is_loaded_by_every_door(optimizer, tmp_path):
    schedule = Sequential([Linear(0.1, 1.0, 1), Cosine(1.0, 0.1)])
    model = toy_model(
        ReinMax(1.3),
        prior=MADEPrior(4),
        optimizer=OPTIMIZERS[optimizer],
        lr_schedule=schedule,
        evaluation=Evaluation(iwae_samples=3),
    )
    path = trained(model, tmp_path)
    save_pretrained(model, tmp_path / "shared")
    doors = [CategoricalVAE.load_from_checkpoint, dvae.load]
    for again in [*(door(path) for door in doors), from_pretrained(tmp_path / "shared")]:
        assert same(model, again)
        assert again.lr_schedule == schedule and again.evaluation == model.evaluation
    trainer = toy_trainer(tmp_path, max_steps=1)
    trainer.fit(CategoricalVAE.load_from_checkpoint(path), datamodule=toy_data())
    expected = {"partial": torch.optim.Adam}.get(optimizer, torch.optim.AdamW)
    assert type(trainer.optimizers[0]) is expected


class Mine(GumbelSoftmax):
    """An estimator of one's own, in a package that can be imported."""

    def __init__(self, half_tau: float) -> None:
        super().__init__(2 * half_tau)


class MyVAE(CategoricalVAE):
    """A model of one's own, with a setting of its own."""

    def __init__(self, latents: int = 2) -> None:
        super().__init__(MLP((1, 6, 6), (8,)), CategoricalBottleneck(latents, 3))


def test_a_class_of_ones_own_is_let_in_by_name_or_given_again(tmp_path):
    path = trained(toy_model(Mine(0.3)), tmp_path)
    with pytest.raises(ValueError, match=r"tests.test_described.Mine.*refused"):
        CategoricalVAE.load_from_checkpoint(path)
    given = CategoricalBottleneck(3, 3, Mine(0.4))
    for again in (
        CategoricalVAE.load_from_checkpoint(path, trusted=["tests"]),
        CategoricalVAE.load_from_checkpoint(path, bottleneck=given),
        dvae.load(path, trusted=["tests"]),
    ):
        assert isinstance(again.bottleneck.estimator, Mine)
        assert again.bottleneck.estimator.tau.item() == pytest.approx(0.6)  # of the checkpoint


def test_a_subclass_is_known_by_its_own_settings(tmp_path):
    model = MyVAE(latents=4)
    again = dvae.load(trained(model, tmp_path), trusted=["tests"])
    assert type(again) is MyVAE and same(model, again)


def test_what_cannot_be_written_is_given_again(tmp_path):
    class Local(GumbelSoftmax):
        """No import finds it."""

    model = toy_model(Local(0.7))
    path = trained(model, tmp_path)
    with pytest.raises(ValueError, match="does not say how its model is built"):
        dvae.load(path)
    again = CategoricalVAE.load_from_checkpoint(
        path, bottleneck=CategoricalBottleneck(3, 3, Local(0.1))
    )
    assert same(model, again)
