"""No figure of the README can drift from the CSV it comes from."""

import dvae.estimators
from benchmarks.readme import ESTIMATORS, README, rendered, snake
from dvae.estimators import Estimator, PathwiseEstimator


def test_the_readme_is_what_the_results_make_of_it():
    text = README.read_text()
    assert rendered(text) == text


def test_every_estimator_is_in_the_table_and_has_a_config():
    names = set(dvae.estimators.__all__)
    classes = {n for n in names if isinstance(getattr(dvae.estimators, n), type)}
    classes = {n for n in classes if issubclass(getattr(dvae.estimators, n), Estimator)}
    assert classes - {Estimator.__name__, PathwiseEstimator.__name__} == {e[0] for e in ESTIMATORS}
    for name, *_ in ESTIMATORS:
        assert (README.parent / "configs" / "estimators" / f"{snake(name)}.yaml").is_file(), name
