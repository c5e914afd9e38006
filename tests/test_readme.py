"""No figure of the README and of the pages can drift from the CSV it comes from."""

import yaml

from benchmarks.readme import README, estimators, pages, rendered
from dvae.estimators import ESTIMATORS


def test_the_pages_are_what_the_results_make_of_them():
    texts = pages()
    assert len(texts) > 1 and rendered(texts) == texts


def test_a_newcomer_reads_the_readme_in_minutes():
    assert len(README.read_text().splitlines()) <= 200


def test_every_estimator_is_in_the_table_and_has_a_config():
    table, found = estimators(), {}
    for path in sorted((README.parent / "configs" / "estimators").glob("*.yaml")):
        bottleneck = yaml.safe_load(path.read_text())["model"]["init_args"]["bottleneck"]
        found[path.stem] = bottleneck["init_args"]["estimator"]["class_path"]
    assert found == {cls.__module__.rpartition(".")[2]: name for name, cls in ESTIMATORS.items()}
    for file, name in found.items():
        assert f"[`{name}`](configs/estimators/{file}.yaml)" in table
