"""No figure of the README can drift from the CSV it comes from."""

import yaml

from benchmarks.readme import README, estimators, rendered
from dvae.estimators import ESTIMATORS


def test_the_readme_is_what_the_results_make_of_it():
    text = README.read_text()
    assert rendered(text) == text


def test_every_estimator_is_in_the_table_and_has_a_config():
    table, found = estimators(), {}
    for path in sorted((README.parent / "configs" / "estimators").glob("*.yaml")):
        bottleneck = yaml.safe_load(path.read_text())["model"]["init_args"]["bottleneck"]
        found[path.stem] = bottleneck["init_args"]["estimator"]["class_path"]
    assert found == {cls.__module__.rpartition(".")[2]: name for name, cls in ESTIMATORS.items()}
    for file, name in found.items():
        assert f"[`{name}`](configs/estimators/{file}.yaml)" in table
