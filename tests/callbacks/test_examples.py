"""The images that callbacks look at: of every class, and the same from memory and from files."""

import csv

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from dvae.bottlenecks import CategoricalBottleneck
from dvae.callbacks import GradientProbe, LatentInspector, Reconstructions
from dvae.callbacks.examples import spread, training_examples, validation_examples
from dvae.data import ImageFolder
from dvae.models import CategoricalVAE
from dvae.networks import MLP
from tests.toy import toy_data, toy_model, toy_trainer


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    count=st.integers(1, 60),
    seed=st.integers(0, 9),
)
@settings(max_examples=200, deadline=None)
def test_every_class_is_there_and_none_is_favoured(sizes, count, seed):
    label = torch.cat([torch.full((size,), 3 * n - 1) for n, size in enumerate(sizes)])
    label = label[torch.randperm(len(label), generator=torch.Generator().manual_seed(seed))]
    chosen = spread(label, len(label), count)
    assert chosen.diff().gt(0).all() and len(chosen) == min(count, len(label))
    assert torch.equal(chosen, spread(label, len(label), count))
    found = [int((label[chosen] == 3 * n - 1).sum()) for n in range(len(sizes))]
    if count < len(sizes):
        assert max(found) == 1
        return
    assert min(found) >= 1
    # Past the first of each, all classes give the same fraction, but for rounding.
    low = max(((n - 0.5) / size for n, size in zip(found, sizes, strict=True) if n > 1), default=0)
    high = min((n + 0.5) / size for n, size in zip(found, sizes, strict=True) if n)
    assert low <= high + 1e-6


def test_without_classes_the_choice_is_even():
    assert spread(None, 10, 5).tolist() == [0, 2, 4, 6, 8]
    assert spread(None, 3, 5).tolist() == [0, 1, 2]


# Those that draw no plot, which takes a second.
PARTS = ("table", "traversal", "probe")
SIZE, CLASSES = 8, ("ants", "bees", "cats")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    generator, root = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    for name in CLASSES:
        (root / name).mkdir()
        for number in range(20):
            pixels = generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


def run(folder, where, monkeypatch, memory):
    monkeypatch.setattr("dvae.data.image_folder._free_memory", lambda: memory)
    # No worker processes, whose start takes longer than this test.
    monkeypatch.setattr("dvae.data.loading.os.sched_getaffinity", lambda _: set())
    pl.seed_everything(0, verbose=False)
    model = CategoricalVAE(MLP((3, SIZE, SIZE), hidden=(8,)), CategoricalBottleneck(3, 4))
    pictures, probe = Reconstructions(6), GradientProbe(4, batch=4, draws=4, reference_draws=128)
    trainer = toy_trainer(
        where, max_epochs=1, callbacks=[pictures, probe, LatentInspector(1, rows=5)]
    )
    trainer.fit(model, datamodule=ImageFolder(str(folder), SIZE, batch_size=8, val_size=12))
    files = {p.relative_to(where): p.read_bytes() for p in (where / "media").rglob("*.*")}
    return model, trainer, files, pictures


def test_a_folder_too_large_for_memory_gives_the_same_run(folder, tmp_path, monkeypatch):
    held, *expected = run(folder, tmp_path / "held", monkeypatch, 2**40)
    read, *found = run(folder, tmp_path / "read", monkeypatch, 100)
    for one, other in zip(held.parameters(), read.parameters(), strict=True):
        assert torch.equal(one, other)
    metrics = [dict(trainer.callback_metrics) for trainer, *_ in (expected, found)]
    assert metrics[0].keys() == metrics[1].keys() > {"val/probe_accuracy", "probe/variance"}
    assert all(torch.equal(metrics[0][name], metrics[1][name]) for name in metrics[0])
    assert found[1] == expected[1] and len(found[1]) > 5
    # Bytes, which are no pixels before a model has taken them; classes by the names of folders.
    assert [p._images.dtype for _, _, p in (expected, found)] == [torch.uint8] * 2
    (path,) = (path for path in found[1] if path.parts[1] == "reconstructions")
    with Image.open(tmp_path / "read" / path) as picture:  # bytes as pixels would be white
        assert 80 < np.array(picture)[: picture.height // 3, 60:].mean() < 180
    (path,) = (path for path in found[1] if path.suffix == ".csv")
    with (tmp_path / "read" / path).open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == set(CLASSES)


@pytest.mark.parametrize("memory", [2**40, 100])
def test_all_classes_are_shown_and_no_augmentation(folder, tmp_path, monkeypatch, memory):
    model, trainer, _, _ = run(folder, tmp_path, monkeypatch, memory)
    data = trainer.datamodule
    rows = data.rows("val")
    found = validation_examples(trainer, 6)
    assert sorted(set(found.words)) == list(CLASSES) and found.image.device.type == "cpu"
    stored = (
        rows.images.images
        if memory > 100
        else torch.stack([rows.images[n].image for n in range(12)])
    )
    for image, label in zip(found.image, found.label, strict=True):
        (at,) = (stored == image).flatten(1).all(1).nonzero().flatten().tolist()
        assert rows.images.labels[at] == label
    assert len(validation_examples(trainer, 500).image) == 12
    assert len(training_examples(trainer, 9).image) == 9
    assert model.images_of(found.image).max() <= 1


def test_without_validation_images_training_images_are_drawn_and_the_rest_is_said(tmp_path):
    pictures = Reconstructions(4)
    trainer = toy_trainer(tmp_path, max_epochs=1, callbacks=[pictures], limit_val_batches=0)
    trainer.fit(toy_model(), toy_data(val_size=0))
    assert validation_examples(trainer, 4) is None
    assert torch.equal(pictures._images, training_examples(trainer, 4).image)


@pytest.mark.filterwarnings("ignore:.*(does not have many workers|shuffling)")
@pytest.mark.parametrize("labelled", [True, False])
def test_of_another_loader_the_first_are_taken_without_a_trace(labelled, tmp_path):
    images = torch.rand(40, 1, 6, 6)
    rows = [{"image": x, "label": n % 4} if labelled else x for n, x in enumerate(images)]

    def fit(where, callbacks):
        torch.manual_seed(0)
        model, trainer = toy_model(), toy_trainer(where, max_epochs=2, callbacks=callbacks)
        loaders = [DataLoader(rows, batch_size=8, shuffle=True) for _ in range(2)]
        trainer.fit(model, *loaders)
        return model, trainer

    plain, _ = fit(tmp_path / "a", [])
    callbacks = [
        Reconstructions(4),
        LatentInspector(1, parts=PARTS),
        GradientProbe(2, batch=4, draws=4),
    ]
    watched, trainer = fit(tmp_path / "b", callbacks)
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
    found = validation_examples(trainer, 20)
    assert found.image.shape == (20, 1, 6, 6) and (found.words is not None) == labelled
    assert ("val/probe_accuracy" in trainer.callback_metrics) == labelled
