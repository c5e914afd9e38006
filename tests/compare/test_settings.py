"""The settings in which runs differ are exactly those, and name the runs."""

import copy
import itertools
from pathlib import Path

import pytest

from dvae.compare.settings import ABSENT, differing_settings, flatten, labels
from tests.compare.conftest import settings


def test_a_class_and_its_settings_have_the_keys_of_the_command_line():
    assert flatten(settings(0.3)) == {
        "seed_everything": 0,
        "model": "dvae.models.CategoricalVAE",
        "model.optimizer": "torch.optim.AdamW",
        "model.optimizer.lr": 0.01,
        "model.optimizer.betas": [0.9, 0.99],
        "anneal.tau": "dvae.schedules.Cosine",
        "anneal.tau.start": 1.0,
        "anneal.tau.end": 0.3,
        "anneal.beta": None,
    }
    parts = {"parts": [{"class_path": "a.B", "init_args": {"x": 1}}, {"class_path": "a.C"}]}
    assert flatten(parts) == {"parts.0": "a.B", "parts.0.x": 1, "parts.1": "a.C"}


def test_exactly_the_keys_that_were_changed_differ():
    base = {f"{a}.{b}": number for number, (a, b) in enumerate(itertools.product("abc", "xyz"))}
    for changed in itertools.chain.from_iterable(itertools.combinations(base, n) for n in range(4)):
        other = {key: -1 - value if key in changed else value for key, value in base.items()}
        assert set(differing_settings([base, other, base])) == set(changed)


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        (1, True, ["1", "true"]),
        (1, "1", ["1", "'1'"]),
        (None, "null", ["None", "'null'"]),
        (0.1, 0.10000001, ["0.1", "0.10000001"]),
        ([1, 2], [1, 3], ["[1, 2]", "[1, 3]"]),
        ("a.b.Adam", "a.c.Adam", ["'a.b.Adam'", "'a.c.Adam'"]),
        ("torch.optim.Adam", "torch.optim.AdamW", ["Adam", "AdamW"]),
    ],
)
def test_what_differs_never_looks_alike(one, other, texts):
    assert differing_settings([{"k": one}, {"k": other}]) == {"k": texts}


def test_alike_settings_do_not_differ():
    nan = float("nan")
    assert not differing_settings([{"k": nan, "l": [1]}, {"k": float("nan"), "l": [1]}])


def test_a_key_that_is_not_there_differs_from_one_that_is_null():
    assert differing_settings([{"k": None}, {}]) == {"k": ["null", ABSENT]}


def folders(count):
    return [Path(f"runs/x/version_{number}") for number in range(count)]


def named(*configs):
    return labels(folders(len(configs)), differing_settings([flatten(c) for c in configs]))


def test_labels_are_as_few_settings_as_tell_the_runs_apart():
    assert named(settings(0.1), settings(0.3)) == ["tau.end=0.1", "tau.end=0.3"]
    # The seed differs too, and the temperature alone is enough.
    assert named(settings(0.1), settings(0.3, seed_everything=1)) == ["tau.end=0.1", "tau.end=0.3"]
    grid = [settings(tau, lr) for tau in (0.1, 0.3) for lr in (0.01, 0.02)]
    assert named(*grid)[1] == "tau.end=0.1, optimizer.lr=0.02"


def test_a_label_takes_as_much_of_the_key_as_it_needs():
    keys = {"a.n.x": ["1", "1", "2"], "b.n.x": ["1", "2", "2"], "c.m.y": ["1", "1", "2"]}
    assert labels(folders(3), keys) == ["a.n.x=1, b.n.x=1", "a.n.x=1, b.n.x=2", "a.n.x=2, b.n.x=2"]


def test_no_two_labels_are_alike():
    long = "/data" * 20
    cases = [
        [settings()] * 3,
        [settings(0.1), settings(0.1), settings(0.3)],
        [settings(d=f"{number}{long}") for number in range(3)],
    ]
    for configs in cases:
        names = named(*copy.deepcopy(configs))
        assert len(set(names)) == len(names)
        assert all(len(name) < 60 for name in names)
    assert named(*cases[0]) == ["version_0", "version_1", "version_2"]
    assert labels([Path("a/v"), Path("b/v")], {}) == ["a/v", "b/v"]


def with_prior(name, **more):
    config = settings(**more)
    prior = {"class_path": f"dvae.priors.{name}", "init_args": {"width": 8}} if name else None
    config["model"]["init_args"]["prior"] = prior
    return config


def test_a_label_names_the_model_and_the_prior_where_they_differ():
    other = settings()
    other["model"]["class_path"] = "dvae.models.CodebookVAE"
    assert named(settings(), other) == ["model=CategoricalVAE", "model=CodebookVAE"]
    # The temperature alone would tell them apart.
    assert named(with_prior("MADEPrior"), with_prior(None, tau_end=0.3)) == [
        "model.prior=MADEPrior",
        "model.prior=UniformPrior",
    ]
    same = [with_prior("MADEPrior", tau_end=tau) for tau in (0.1, 0.3)]
    assert named(*same) == ["tau.end=0.1", "tau.end=0.3"]
    # Of before a model had one: it is uniform as well.
    assert named(settings(0.1), with_prior(None, tau_end=0.3)) == ["tau.end=0.1", "tau.end=0.3"]
