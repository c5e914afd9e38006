"""The laws of the data module: one split for all seeds, one protocol, nothing loaded twice."""

import logging
from itertools import chain
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from dvae.data import Batch, Binarization, ImageDataModule, Images, ResidentLoader, Split


class Toy(ImageDataModule):
    """A hundred and twenty small images, whose labels are their numbers."""

    name = "Toy"
    image_shape = (1, 4, 4)
    num_classes = 120
    loads = 0

    def load(self, split: Split) -> Images:
        self.loads += 1
        generator = torch.Generator().manual_seed(len(split))
        count = 120 if split == "train" else 30
        images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=generator)
        return Images(images, torch.arange(count))


def toy(val_size: int = 20, binarization: Binarization = "none", seed: int = 0) -> Toy:
    data = Toy(batch_size=10, val_size=val_size, binarization=binarization, seed=seed)
    data.setup()
    return data


def everything(source: object) -> tuple[Tensor, Tensor]:
    """Gather a loader's batches, by label."""
    assert isinstance(source, ResidentLoader)
    batches = list(source)
    label = torch.cat([batch.label for batch in batches])
    order = label.argsort()
    return torch.cat([batch.image for batch in batches])[order], label[order]


@pytest.mark.parametrize("val_size", [1, 20, 119])
def test_train_and_validation_share_the_training_split(val_size: int) -> None:
    data = toy(val_size)
    _, val = everything(data.val_dataloader())
    data.batch_size = 1
    _, train = everything(data.train_dataloader())
    assert len(val) == val_size
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(120))


def test_the_validation_images_are_the_same_for_every_seed() -> None:
    first, second = toy(seed=0), toy(seed=1)
    assert torch.equal(
        everything(first.val_dataloader())[1], everything(second.val_dataloader())[1]
    )
    orders = [[b.label.tolist() for b in data.train_dataloader()] for data in (first, second)]
    assert orders[0] != orders[1]


def test_labels_stay_with_their_images() -> None:
    data, raw = toy(), Toy().load("train").images
    for source in (data.train_dataloader(), data.val_dataloader()):
        image, label = everything(source)
        assert torch.equal(image, raw[label])


def test_without_validation_all_images_train() -> None:
    data = toy(val_size=0)
    assert data.val_dataloader() == []
    assert everything(data.train_dataloader())[1].tolist() == list(range(120))


def test_evaluation_goes_through_the_test_images_in_order() -> None:
    data = toy()
    for source in (data.test_dataloader(), data.predict_dataloader()):
        assert [n for batch in source for n in batch.label.tolist()] == list(range(30))


def test_fixed_pixels_depend_on_neither_batch_size_nor_seed_nor_val_size() -> None:
    data = toy(binarization="fixed")
    other = Toy(batch_size=7, val_size=40, binarization="fixed", seed=5)
    other.eval_batch_size = 3  # type: ignore[misc]
    other.setup()
    assert torch.equal(
        everything(data.test_dataloader())[0], everything(other.test_dataloader())[0]
    )
    pixels: dict[int, Tensor] = {}
    for source in (data.train_dataloader(), data.val_dataloader()):
        image, label = everything(source)
        assert image.unique().tolist() == [0, 255]
        pixels |= dict(zip(label.tolist(), image, strict=True))
    for source in (other.train_dataloader(), other.val_dataloader()):
        for image, label in zip(*everything(source), strict=True):
            assert torch.equal(image, pixels[int(label)])


def test_dynamic_evaluates_on_the_fixed_images() -> None:
    dynamic, fixed = toy(binarization="dynamic"), toy(binarization="fixed")
    for name in ("val_dataloader", "test_dataloader"):
        pair = [everything(getattr(data, name)())[0] for data in (dynamic, fixed)]
        assert torch.equal(*pair)
    assert len(everything(dynamic.train_dataloader())[0].unique()) > 2


class Looker(pl.LightningModule):
    """Keeps the images it was given, by stage."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[Batch]] = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen["train"].append(batch)
        return self.weight * batch.image.mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["val"].append(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["test"].append(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen["predict"].append(batch)
        return batch.label

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**kwargs: object) -> pl.Trainer:
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(**quiet | kwargs)  # type: ignore[arg-type]


# Lightning 2.6 asks torch 2.15 about a tree in a way that torch has deprecated.
lightning = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


@lightning
@pytest.mark.parametrize("binarization", ["none", "dynamic", "fixed", "threshold"])
def test_what_a_model_sees(binarization: Binarization) -> None:
    data, model, raw = toy(binarization=binarization), Looker(), Toy().load("train").images
    run = trainer(max_epochs=2, num_sanity_val_steps=0)
    run.fit(model, data)
    run.test(model, data, verbose=False)
    run.predict(model, data)
    assert {stage: len(seen) for stage, seen in model.seen.items()} == {
        "train": 20,
        "val": 2,
        "test": 1,
        "predict": 1,
    }
    for batch in chain.from_iterable(model.seen.values()):
        assert isinstance(batch, Batch) and batch.image.dtype == torch.float32
        assert batch.image.min() >= 0 and batch.image.max() <= 1
        if binarization == "none":
            assert len(batch.image.unique()) > 2
        else:
            assert batch.image.unique().tolist() == [0, 1]
    assert torch.equal(model.seen["test"][0].image, model.seen["predict"][0].image)
    assert torch.equal(model.seen["val"][0].image, model.seen["val"][1].image)
    visits = [
        torch.cat([batch.image for batch in epoch])[
            torch.cat([batch.label for batch in epoch]).argsort()
        ]
        for epoch in (model.seen["train"][:10], model.seen["train"][10:])
    ]
    assert torch.equal(*visits) == (binarization != "dynamic")
    if binarization == "none":
        batch = model.seen["train"][0]
        torch.testing.assert_close(batch.image, raw[batch.label] / 255, rtol=2e-7, atol=0)


@lightning
@pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
def test_overfitting_sees_the_same_batches_in_every_epoch() -> None:
    model = Looker()
    trainer(max_epochs=2, overfit_batches=3).fit(model, toy())
    labels = [batch.label.tolist() for batch in model.seen["train"]]
    assert len(labels) == 6 and labels[:3] == labels[3:]


@lightning
def test_a_checkpoint_holds_plain_values(tmp_path: Path) -> None:
    run, path = trainer(max_epochs=1), tmp_path / "a.ckpt"
    run.fit(Looker(), toy())
    run.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)["datamodule_hyper_parameters"]
    assert saved == {
        "batch_size": 10,
        "val_size": 20,
        "binarization": "none",
        "seed": 0,
        "data_dir": None,
    }


def test_floating_point_images_are_left_alone() -> None:
    batch = Batch(torch.rand(2, 1, 4, 4), torch.arange(2))
    assert toy().on_after_batch_transfer(batch, 0) is batch


@pytest.mark.parametrize("binarization", ["none", "dynamic", "fixed", "threshold"])
def test_the_mean_image_is_that_of_the_training_loader(binarization: Binarization) -> None:
    data = toy(binarization=binarization)
    image, _ = everything(data.train_dataloader())
    mean = data.train_mean()
    assert mean.shape == data.image_shape and mean.dtype == torch.float32
    torch.testing.assert_close(mean, (image.double() / 255).mean(0).float())


def test_everything_is_loaded_once_and_the_protocol_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="dvae")
    data = Toy(val_size=20)
    for stage in ("fit", "validate", "fit", "test", "predict", None):
        data.setup(stage)
    assert data.loads == 2
    assert [record.getMessage() for record in caplog.records] == [
        "Data: Toy, grayscale (pixels in [0, 1], not binarised)."
    ]


def test_a_stage_loads_only_what_it_needs() -> None:
    data = Toy(val_size=20)
    data.setup("fit")
    assert data.loads == 1


def test_protocols_are_told_apart() -> None:
    protocols = {toy(binarization=b).protocol for b in ("none", "dynamic", "fixed", "threshold")}
    assert len(protocols) == 4 and "Toy, dynamic binarisation" in protocols


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer >= 1; got 0"),
        ({"val_size": -1}, "val_size must be an integer >= 0; got -1"),
        ({"binarization": "static"}, "none, dynamic, fixed, threshold; got 'static'"),
    ],
)
def test_wrong_values_are_refused_at_once(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Toy(**kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("val_size", [120, 5000])
def test_validation_must_leave_something_to_train_on(val_size: int) -> None:
    with pytest.raises(ValueError, match=f"below the 120 training images of Toy, got {val_size}"):
        Toy(val_size=val_size).setup("fit")


def test_images_of_another_shape_are_refused() -> None:
    class Wrong(Toy):
        image_shape = (3, 4, 4)

    with pytest.raises(ValueError, match=r"uint8 of shape \(3, 4, 4\), got .* \(1, 4, 4\)"):
        Wrong(val_size=20).setup("fit")


def test_a_data_set_must_say_its_shape() -> None:
    class Shapeless(ImageDataModule):
        num_classes = 10

        def load(self, split: Split) -> Images:
            raise NotImplementedError

    with pytest.raises(TypeError, match="image_shape"):
        Shapeless()  # type: ignore[abstract]
