"""Two processes draw noise of their own and keep the same weights, also after a stop."""

import pytest
import torch

from tests.models.ddp_noise import KINDS, STOP, train
from tests.models.launch import ranks_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("noise")


@pytest.fixture(scope="module")
def alone(folder):
    train("categorical", 1, folder / "alone", STOP)
    start = folder / "alone" / f"{STOP}.ckpt"
    return train("categorical", 1, folder / "alone", start=start)


@pytest.fixture(scope="module")
def ranks(folder, alone):
    return ranks_of("tests.models.ddp_noise", folder, 2)


def assert_same_weights(ours, theirs):
    assert ours["weights"].keys() == theirs["weights"].keys()
    for name, value in ours["weights"].items():
        # Batch norm follows the images of its own process until the next step.
        if "running_" not in name:
            assert torch.equal(value, theirs["weights"][name]), name


def assert_nothing_in_common(ours, theirs):
    # At no two steps: neither draws what the other one draws later.
    pairs = ours["noise"].unsqueeze(1) == theirs["noise"]
    assert not pairs.all(-1).any()


@pytest.mark.parametrize("run", ["whole", "begun", "resumed"])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_differs_and_weights_do_not(ranks, kind, run):
    ours, theirs = (found[kind][run] for found in ranks)
    assert_nothing_in_common(ours, theirs)
    assert_same_weights(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_each_draws_on_from_its_own(ranks, kind):
    for found in ranks:
        whole, begun, resumed = (found[kind][run] for run in ("whole", "begun", "resumed"))
        for what in ("noise", "images"):
            assert torch.equal(torch.cat([begun[what], resumed[what]]), whole[what])
        assert_same_weights(whole, resumed)


def test_what_one_process_saved_goes_on_in_the_first_of_two(ranks, alone):
    ours, theirs = (found["from alone"] for found in ranks)
    assert torch.equal(ours["noise"][0], alone["noise"][0])
    assert_nothing_in_common(ours, theirs)
    assert_same_weights(ours, theirs)


def test_what_two_have_saved_goes_on_alone_as_in_the_first(ranks, folder):
    start = folder / "categorical" / f"{STOP}.ckpt"
    found = train("categorical", 1, folder / "fewer", start=start)
    assert torch.equal(found["noise"][0], ranks[0]["categorical"]["resumed"]["noise"][0])
