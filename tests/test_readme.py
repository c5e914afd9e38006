"""No figure of the README can drift from the CSV it comes from."""

from benchmarks.readme import README, estimators, rendered
from dvae.estimators import ESTIMATORS


def test_the_readme_is_what_the_results_make_of_it():
    text = README.read_text()
    assert rendered(text) == text


def test_every_estimator_is_in_the_table_and_has_a_config():
    table = estimators()
    for name, cls in ESTIMATORS.items():
        file = f"configs/estimators/{cls.__module__.rpartition('.')[2]}.yaml"
        assert f"[`{name}`]({file})" in table
        assert (README.parent / file).is_file(), file
