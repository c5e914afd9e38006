"""A data set of anybody's trains as the same bytes in a module of this package do."""

import sys

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset
from torchvision.transforms.functional import to_pil_image

from dvae.data import AnyDataset
from dvae.explore.images import load_gallery
from tests.toy import ToyData, toy_data, toy_model, toy_trainer

TOY = {split: ToyData().load(split) for split in ("train", "test")}
ROWS = {
    "bytes": lambda image, label: (image, label),
    "floats": lambda image, label: (image / 255, label),
    "arrays": lambda image, label: {"image": image[0].numpy(), "label": int(label)},
    "PIL": lambda image, label: (to_pil_image(image), int(label)),
    "PIL of Hugging Face": lambda image, label: {"img": to_pil_image(image), "label": int(label)},
}


class Rows(Dataset):
    def __init__(self, split="train", row=ROWS["PIL"]):
        self.split, self.row = TOY[split], row

    def __len__(self):
        return len(self.split.images)

    def __getitem__(self, place):
        return self.row(self.split.images[place], self.split.labels[place])


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(1, 6, 6), 0


def trained(data, tmp_path):
    torch.manual_seed(0)
    model = toy_model()
    trainer = toy_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, datamodule=data)
    return [
        *model.parameters(),
        torch.tensor(trainer.test(model, data, verbose=False)[0]["test/elbo"]),
    ]


@pytest.mark.parametrize("row", ROWS)
def test_whatever_its_rows_are_it_trains_as_a_module_of_ours(row, tmp_path):
    expected = trained(toy_data(), tmp_path)
    data = AnyDataset(Rows("train", ROWS[row]), Rows("test", ROWS[row]), batch_size=16, val_size=50)
    assert data.image_shape == (1, 6, 6)
    assert all(map(torch.equal, expected, trained(data, tmp_path)))
    assert data.num_classes == 6 and data.labelled
    assert torch.equal(data.rows("test").images.images, TOY["test"].images)


def test_without_test_images_every_tenth_row_is_one():
    data = AnyDataset(Rows())
    places = torch.arange(230)
    tested = data.rows("test").images.images
    assert torch.equal(tested, TOY["train"].images[places % 10 == 9])
    assert data.count("train") + data.count("val") + len(tested) == 230
    assert data.count("val") == 21  # one in ten of the others
    few = AnyDataset([(torch.full((1, 6, 6), n / 255), 0) for n in range(3)], val_size=0)
    assert few.rows("test").images.images.unique().tolist() == [2] and few.count("train") == 2


def test_colours_sizes_and_rows_without_labels():
    rows = [to_pil_image(torch.full((3, 8, 9), n).byte()) for n in range(12)]
    assert AnyDataset(rows).image_shape == (3, 8, 9)
    data = AnyDataset(rows, image_size=4)
    assert data.rows("test").images.images.shape == (1, 3, 4, 4)
    assert not data.labelled and data.num_classes == 1
    assert AnyDataset([np.zeros((8, 9, 3))] * 4).image_shape == (3, 8, 9)


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (Stream(), {}, "must have rows by number; got none of Stream"),
        ([torch.zeros(6)] * 20, {}, r"a row must have an image of \(C, H, W\); got a Tensor"),
        (
            [torch.zeros(1, 6, 6)] * 9 + [torch.ones(1, 7, 6)],
            {},
            r"in the first row; got \(1, 7, 6",
        ),
        ([torch.zeros(1, 6, 6) + 2] * 20, {}, r"must be in \[0, 1\], or uint8"),
        ([torch.zeros(1, 6, 6)] * 20, {"image_size": 0}, "image_size must be >= 1; got 0"),
        ([torch.zeros(1, 2000, 1).expand(1, 2000, 10**10)] * 20, {}, "than half of the free mem"),
        ([], {}, "got none of list"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(rows, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        AnyDataset(rows, **settings).setup()
    assert "\n" not in str(error.value)


PACKAGE = """
from pathlib import Path
from torch.utils.data import Dataset
from tests.data.test_any_dataset import Rows

class MySet(Rows):
    def __init__(self, split: str = "train") -> None:
        super().__init__(split)
        Path("built").touch()
"""


def test_a_class_of_a_package_of_ones_own_from_the_command_line(tmp_path, monkeypatch, capsys):
    from dvae.cli import main

    (tmp_path / "somebody.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    command = """fit --config mnist_categorical --data AnyDataset --data.dataset somebody.MySet
        --data.test somebody.MySet --data.test.split test --model.network MLP
        --model.network.image_shape [1,6,6]
        --model.evaluation.iwae_samples 2 --latents.every_n_epochs 0 --trainer.max_steps 2
        --trainer.logger false --trainer.enable_progress_bar false"""
    assert main(command.split()) == 0, capsys.readouterr().err
    assert "MySet, grayscale" in capsys.readouterr().out
    # A run of a stranger's names it too: there it takes a word of trust.
    (run,) = tmp_path.rglob("version_0")
    (tmp_path / "built").unlink()
    sys.modules.pop("somebody")
    with pytest.raises(ValueError, match="'somebody.MySet' is refused.*--trusted"):
        load_gallery((1, 6, 6), run, run)
    assert "somebody" not in sys.modules and not (tmp_path / "built").exists()
    assert load_gallery((1, 6, 6), run, run, ["somebody"]).size == 230
