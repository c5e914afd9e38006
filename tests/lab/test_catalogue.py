"""Every estimator is measured, or it is said why not."""

import inspect

import pytest
import torch

import dvae.estimators
from dvae.estimators import Estimator, PathwiseEstimator
from dvae.lab.catalogue import catalogue

TAUS = (0.5, 1.0, 1.4)
FAMILY = (
    "DecoupledGumbelSoftmax",
    "GappedStraightThrough",
    "GumbelRao",
    "GumbelSoftmax",
    "GumbelSoftmax (hard)",
    "REBAR",
    "ReinMaxRao",
    "StraightThrough",
)


def classes():
    found = vars(dvae.estimators).values()
    return {
        c.__name__
        for c in found
        if inspect.isclass(c) and issubclass(c, Estimator) and not inspect.isabstract(c)
    }


@pytest.mark.parametrize(("codes", "skipped"), [(2, set()), (3, {"ARMS", "DisARM"})])
def test_nobody_is_forgotten(codes, skipped):
    found = catalogue(2, codes, TAUS)
    measured = {type(entry.estimator).__name__ for entry in found.entries}
    assert measured == classes() - skipped
    assert set(found.skipped) == skipped
    assert all("K = 2" in reason for reason in found.skipped.values())


def test_temperatures_where_there_are_some():
    taus = {}
    for entry in catalogue(2, 3, TAUS).entries:
        taus.setdefault(entry.name, []).append(entry.tau)
    for name in FAMILY:
        assert taus.pop(name) == list(TAUS)
    assert taus.pop("ReinMax") == [1.0, 1.4]
    assert all(values == [None] for values in taus.values())
    assert {"Reinforce", "Reinforce (mean)", "RELAX", "ZGR"} <= set(taus)


def test_an_estimator_has_the_temperature_of_its_entry():
    for entry in catalogue(2, 3, TAUS).entries:
        tau = getattr(entry.estimator, "tau", getattr(entry.estimator, "tau_backward", None))
        if entry.tau is not None:
            assert float(tau) == pytest.approx(entry.tau)


def test_no_temperature_that_fits_is_a_reason():
    assert "temperatures" in catalogue(2, 3, [0.5]).skipped["ReinMax"]


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan")])
def test_an_impossible_temperature_is_refused(tau):
    with pytest.raises(ValueError, match="tau must be a number > 0"):
        catalogue(2, 3, [1.0, tau])


def test_a_new_estimator_needs_no_word_here(monkeypatch):
    class Newest(PathwiseEstimator):
        def __init__(self, tau: float = 1.0) -> None:
            super().__init__()
            self.register_buffer("tau", torch.tensor(tau))

        def sample(self, logits, generator=None):
            return dvae.estimators.StraightThrough(self.tau.item()).sample(logits, generator)

    monkeypatch.setattr(dvae.estimators, "Newest", Newest, raising=False)
    monkeypatch.setattr(dvae.estimators, "__all__", ["Newest"])
    entries = catalogue(2, 3, TAUS).entries
    assert [(entry.name, entry.tau) for entry in entries] == [("Newest", tau) for tau in TAUS]
