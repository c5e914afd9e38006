"""The laws of the resident loader: its order, its shares, and its place after a resume."""

from itertools import chain
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from dvae.data import Batch, ResidentLoader


def images_of(count: int) -> tuple[Tensor, Tensor]:
    """Make images that tell their own number in the label, and the label again in the pixels."""
    labels = torch.arange(count)
    return (labels % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2), labels


def loader(count: int = 50, batch_size: int = 5, **kwargs: object) -> ResidentLoader:
    options = {"shuffle": True, "seed": 0} | kwargs
    options["share"] = options.pop("rank", 0), options.pop("world_size", 1)
    return ResidentLoader(*images_of(count), batch_size, **options)  # type: ignore[arg-type]


def drawn(source: ResidentLoader, epochs: int = 1) -> list[list[int]]:
    return [batch.label.tolist() for _ in range(epochs) for batch in source]


def flat(batches: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def test_a_batch_holds_images_with_their_own_labels() -> None:
    for shuffle in (True, False):
        for batch in loader(shuffle=shuffle):
            assert isinstance(batch, Batch)
            assert batch.image.dtype == torch.uint8 and batch.image.shape == (5, 1, 2, 2)
            assert torch.equal(batch.image[:, 0, 0, 0].long(), batch.label % 256)


def test_batch_n_is_a_pure_function_of_seed_and_n() -> None:
    stream = drawn(loader(seed=3), epochs=4)
    assert stream == drawn(loader(seed=3), epochs=4)
    for n in (0, 1, 9, 10, 11, 25, 39):
        other = loader(seed=3)
        torch.rand(n)  # the global generator has no part in it
        other.load_state_dict({"batches": n})
        assert next(iter(other)).label.tolist() == stream[n]
    assert stream != drawn(loader(seed=4), epochs=4)


def test_seeds_and_epochs_do_not_share_permutations() -> None:
    epochs = [
        tuple(flat(drawn(loader(seed=seed), 3)[10 * e : 10 * e + 10]))
        for seed in (0, 1, 2, 2**32)
        for e in range(3)
    ]
    assert len(set(epochs)) == len(epochs)


@pytest.mark.parametrize("count", [50, 53])
def test_every_image_comes_at_most_once_an_epoch(count: int) -> None:
    source = loader(count)
    left_out = []
    for _ in range(4):
        epoch = flat(drawn(source))
        assert len(epoch) == 50 and len(set(epoch)) == 50
        left_out.append(frozenset(range(count)) - set(epoch))
    if count == 53:
        assert len(set(left_out)) > 1, "the same images would never be trained on"


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_are_disjoint(shuffle: bool, world_size: int) -> None:
    ranks = [
        loader(53, 4, shuffle=shuffle, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    shares = [flat(drawn(rank)) for rank in ranks]
    union = set().union(*shares)
    assert len(union) == sum(map(len, shares))
    if shuffle:
        assert len({len(rank) for rank in ranks}) == 1
        together = set(flat(drawn(loader(53, 53)))[: 4 * world_size * len(ranks[0])])
        assert union == together, "the ranks must share the one permutation"
    else:
        assert union == set(range(53))


def test_in_order_everything_comes_once_and_there_is_no_state() -> None:
    source = loader(53, shuffle=False)
    for _ in range(2):
        batches = drawn(source)
        assert len(batches) == len(source) == 11
        assert flat(batches) == list(range(53))
        assert source.state_dict() == {"batches": 0}
    source.load_state_dict({"batches": 7})
    assert flat(drawn(source)) == list(range(53))


def test_an_epoch_cut_short_goes_on_in_the_stream() -> None:
    stream = drawn(loader(), epochs=3)
    source, seen = loader(), []
    for _ in range(7):
        for n, batch in enumerate(source):
            seen.append(batch.label.tolist())
            assert source.state_dict() == {"batches": len(seen)}, "counted while worked on"
            if n == 3:
                break
    assert seen == stream[:28]


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    assert [len(batch) for batch in drawn(loader(3, 10))] == [3]
    assert [len(batch) for batch in drawn(loader(3, 10, shuffle=False))] == [3]


@pytest.mark.parametrize(
    ("count", "batch_size", "kwargs", "message"),
    [
        (5, 0, {}, "batch_size must be an integer >= 1; got 0"),
        (0, 5, {}, "at least as many images, got 0"),
        (0, 5, {"shuffle": False}, "at least as many images, got 0"),
        (1, 5, {"shuffle": False, "world_size": 2}, "at least as many images, got 1"),
        (5, 5, {"rank": 1}, "rank must be in 0..0"),
    ],
)
def test_wrong_values_are_refused(
    count: int, batch_size: int, kwargs: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        loader(count, batch_size, **kwargs)


def test_labels_must_be_one_an_image() -> None:
    images, labels = images_of(5)
    with pytest.raises(ValueError, match="5 images need as many labels, got 4"):
        ResidentLoader(images, labels[:4], 2, shuffle=False, seed=0)


class Recorder(pl.LightningModule):
    """The least module that trains, and writes down what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen.append(batch.label.tolist())
        return self.weight * batch.image.float().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path, ckpt_path: Path | None = None, limit: int | None = None, val_every: int = 4
) -> list[list[int]]:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        limit_train_batches=limit,
        val_check_interval=val_every,
        logger=False,
        callbacks=[ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Recorder()
    trainer.fit(module, loader(seed=7), loader(8, shuffle=False), ckpt_path=ckpt_path)
    return module.seen


# Lightning 2.6 asks torch 2.15 about a tree in a way that torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
# The resumed run saves elsewhere than the first.
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
@pytest.mark.parametrize(("limit", "per_epoch"), [(None, 10), (4, 4)])
def test_a_resumed_run_sees_what_the_uninterrupted_one_saw(
    tmp_path: Path, limit: int | None, per_epoch: int
) -> None:
    full = fit(tmp_path, limit=limit)
    assert full == drawn(loader(seed=7), 3)[: 3 * per_epoch]
    # After every step but the last: mid-epoch, at an epoch's end, around a validation.
    for step in range(1, 3 * per_epoch):
        resumed = fit(tmp_path / f"from {step}", tmp_path / f"step={step}.ckpt", limit=limit)
        assert resumed == full[step:], f"resumed after step {step}"
