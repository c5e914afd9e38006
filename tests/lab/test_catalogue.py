"""Every estimator is measured, or it is said why not."""

import pytest

from dvae.estimators import ESTIMATORS
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


@pytest.mark.parametrize(("codes", "skipped"), [(2, set()), (3, {"ARMS", "DisARM"})])
def test_nobody_is_forgotten(codes, skipped):
    found = catalogue(2, codes, TAUS)
    measured = {type(entry.estimator).__name__ for entry in found.entries}
    assert measured == set(ESTIMATORS) - skipped
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
