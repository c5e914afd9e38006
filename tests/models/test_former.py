"""Models of before the prior was a part of its own are loaded, and former configs mean the same."""

import pytest
import torch

from dvae.bottlenecks import ProjectedCodebook, Upkeep
from dvae.likelihoods import Gaussian
from dvae.models import CodebookVAE
from dvae.networks import ResNet
from dvae.priors import CategoricalPrior, UniformPrior
from dvae.runs.former import modern_data, modern_settings, modern_state, modern_states
from tests.toy import toy_data, toy_trainer

THERE = "bottleneck.prior_logits"


def make(prior):
    torch.manual_seed(0)
    asleep = Upkeep(kmeans=0, revive_after=0)
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    bottleneck = ProjectedCodebook(6, 4, 4, upkeep=asleep)
    return CodebookVAE(network, bottleneck, Gaussian(0.2), prior=prior)


def former(content, model):
    """Write a checkpoint as it was written before, the prior behind the code book."""
    learned = isinstance(model.prior, CategoricalPrior)
    now = content["state_dict"]
    state = {}
    for name, value in now.items():
        if not name.startswith("prior."):
            state[name] = value
        if name == "bottleneck.codebook":
            state[THERE] = now["prior.logits"] if learned else torch.zeros_like(now["prior.table"])
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    names = {n: "prior.logits" if n == THERE else n for n in state}
    order = [trained.index(names[n]) for n in state if names[n] in trained]
    (optimizer,) = content["optimizer_states"]
    moved = {new: optimizer["state"][old] for new, old in enumerate(order)}
    assert learned == (order != sorted(order))
    return content | {"state_dict": state, "optimizer_states": [optimizer | {"state": moved}]}


@pytest.mark.parametrize("kind", [UniformPrior, CategoricalPrior])
def test_a_run_goes_on_from_a_former_checkpoint_to_the_bit(tmp_path, kind):
    states = []
    model, trainer = make(kind()), toy_trainer(tmp_path / "begun", max_steps=4)
    trainer.fit(model, datamodule=toy_data())
    trainer.save_checkpoint(tmp_path / "now.ckpt")
    content = torch.load(tmp_path / "now.ckpt", weights_only=True)
    torch.save(former(content, model), tmp_path / "before.ckpt")
    for name in ("now", "before"):
        model, trainer = make(kind()), toy_trainer(tmp_path / name, max_steps=9)
        trainer.fit(model, datamodule=toy_data(), ckpt_path=tmp_path / f"{name}.ckpt")
        states.append(model.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name


def test_settings_say_what_the_prior_was():
    def settings(**given):
        return {"bottleneck": {"class_path": "x", "init_args": {"num_codes": 3, **given}}}

    for given, probs in (({"learned_prior": True}, None), ({"prior": [0.4, 0.6]}, [0.4, 0.6])):
        found = settings(**given)
        assert modern_settings(found)
        assert found["prior"]["init_args"] == {"probs": probs}
        assert found["bottleneck"]["init_args"] == {"num_codes": 3}
    for given in ({}, {"learned_prior": False}, {"prior": None}):
        found = settings(**given)
        assert not modern_settings(found) and found == settings()
    assert not modern_settings(None) and not modern_settings({"bottleneck": None})


MIRROR = {"class_path": "torchvision.transforms.v2.RandomHorizontalFlip"}
BLACK = {"background": "black"}


@pytest.mark.parametrize(
    ("former", "today"),
    [
        ({"flip": True, "skip_unreadable": False}, {"augment": None}),
        ({"flip": True, "augment": []}, {"augment": None}),
        ({"flip": True, "augment": ["crop"]}, {"augment": ["crop", MIRROR]}),
        ({"flip": False, "augment": None}, {"augment": []}),
        ({"flip": False, "augment": ["crop"]}, {"augment": ["crop"]}),
        ({"skip_unreadable": True, "pixels": None}, {"pixels": {"skip_unreadable": True}}),
        (
            {"skip_unreadable": True, "pixels": BLACK},
            {"pixels": {"background": "black", "skip_unreadable": True}},
        ),
        ({"augment": ["crop"], "image_size": 8}, {"augment": ["crop"], "image_size": 8}),
    ],
)
def test_settings_of_a_folder_say_what_they_said(former, today):
    node = {"class_path": "dvae.data.ImageFolder", "init_args": dict(former)}
    modern_data(node)
    assert node["init_args"] == today
    another = {"class_path": "my.Images", "init_args": dict(former)}
    modern_data(another)
    assert another["init_args"] == former
    for nothing in (None, "ImageFolder", {"class_path": "ImageFolder"}):
        modern_data(nothing)


def test_weights_of_today_are_left_as_they_are():
    state = make(CategoricalPrior()).state_dict()
    assert list(modern_state(state)) == list(state)
    optimizers = [{"state": {0: "a", 1: "b"}, "param_groups": [{}]}]
    modern_states(optimizers, ["x", "y"], ["y", "x"])
    assert optimizers[0]["state"] == {0: "b", 1: "a"}
