"""Two processes with half of the data each are one process with all of it."""

import datetime

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dvae.bottlenecks import VQ, DistanceCodebook, DiVeQ, ProjectedCodebook, ResidualVQ, Upkeep
from dvae.metrics import CodebookUsage
from tests.posteriors import look

pytestmark = pytest.mark.slow

# Seconds; nearly all of the time goes to importing torch twice.
TIMEOUT = 120
# They are counted, and none is revived.
COUNTED = Upkeep(kmeans=0, revive_after=50)


def averaged(upkeep=COUNTED):
    return {"vq": VQ(8, 4, upkeep=upkeep), "residual": ResidualVQ(8, 4, 2, upkeep=upkeep)}


def everything(upkeep):
    return averaged(upkeep) | {
        "projected": ProjectedCodebook(8, 4, 4, upkeep=upkeep),
        "distance": DistanceCodebook(8, 4, upkeep=upkeep),
        "diveq": DiVeQ(8, 4, upkeep=upkeep),
    }


def features_of(rank):
    """Return features that are in another place for each process, and not equally many."""
    generator = torch.Generator().manual_seed(7 + rank)
    return 10.0 * rank + torch.randn(4 + rank, 4, 3, 3, generator=generator)


def run(bottleneck, features, steps, passes=1):
    bottleneck.train()
    for _ in range(steps):
        with bottleneck.accumulating():
            for part in features.chunk(passes):
                bottleneck(part)
        bottleneck.step()
    return {key: value.clone() for key, value in bottleneck.state_dict().items()}


def follow(features, steps=3):
    """Let the averages of the quantizers follow the features, from the same random start."""
    torch.manual_seed(0)
    return {name: run(it, features, steps) for name, it in averaged().items()}


def work(rank, folder):
    # Built before there are processes, as Lightning does it.
    torch.manual_seed(0)
    following = averaged()
    tended = everything(Upkeep(kmeans=5, revive_after=2))
    counts = CodebookUsage((8,))
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=TIMEOUT),
    )
    features = features_of(rank)
    result = {"averaged": {n: run(it, features, 3, passes=2) for n, it in following.items()}}
    counts.update(following["vq"].count(look(following["vq"], features).mode()))
    result["counts"] = counts.compute()
    torch.manual_seed(rank)  # each process has noise of its own
    result["started"] = {name: run(it, features, 1) for name, it in tended.items()}
    for bottleneck in tended.values():
        with torch.no_grad():
            for idle in [m for m in bottleneck.modules() if hasattr(m, "limit")]:
                idle.steps[1:6] = 2
                idle._next_look = 0
    result["revived"] = {name: run(it, features, 1) for name, it in tended.items()}
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    context = mp.get_context("spawn")
    processes = [context.Process(target=work, args=(r, str(folder)), daemon=True) for r in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def assert_same(a, b, exactly=True):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].keys() == b[name].keys()
        for key, value in a[name].items():
            assert not exactly or torch.equal(value, b[name][key]), (name, key)
            torch.testing.assert_close(value, b[name][key])


def test_the_averages_are_those_of_one_process_with_all_the_data(results):
    assert_same(results[0]["averaged"], results[1]["averaged"])
    together = follow(torch.cat([features_of(0), features_of(1)]))
    assert_same(results[0]["averaged"], together, exactly=False)


def test_the_counts_are_those_of_one_process_with_all_the_data(results):
    features = torch.cat([features_of(0), features_of(1)])
    bottleneck = averaged()["vq"]
    bottleneck.load_state_dict(results[0]["averaged"]["vq"])
    counts = bottleneck.count(look(bottleneck, features).mode())
    for result in results:
        assert torch.equal(result["counts"], counts)
        expected = CodebookUsage.perplexity(counts)
        assert torch.equal(CodebookUsage.perplexity(result["counts"]), expected)


@pytest.mark.parametrize("stage", ["started", "revived"])
def test_all_processes_have_the_same_code_books_of_everyones_data(results, stage):
    first, second = results[0][stage], results[1][stage]
    assert_same(first, second)
    # The second process's features are around 10, the first one's around 0.
    vectors = "quantizer._codebook.embed"
    for name, key in (("distance", "codebook"), ("vq", vectors), ("diveq", vectors)):
        place = first[name][key].view(8, 4).mean(-1)
        assert (place > 5).any() and (place < 5).any(), name


def test_codes_are_moved_in_the_second_stage(results):
    for name, key in (("distance", "codebook"), ("projected", "projection.weight")):
        before, after = (results[0][stage][name][key] for stage in ("started", "revived"))
        moved = (before != after).flatten(1).any(1)
        dead = [False] + 5 * [True] + 2 * [False]
        if name == "distance":
            assert moved.tolist() == dead
        else:  # a revived code is half of one in use, and that one the other half
            assert moved[dead].all() and moved.sum() > sum(dead)
