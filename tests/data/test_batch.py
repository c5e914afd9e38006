"""A model takes batches as people have them; what has no pixels in it is said in one line.

The law is one of invariance: the same images in any form train the same weights, to the bit.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_pil_image

from dvae.callbacks import Reconstructions
from dvae.data import Batch
from dvae.data.batch import as_batch, as_pixels
from dvae.data.reading import ImageReader
from tests.toy import toy_model, toy_trainer

BYTES = torch.randint(256, (24, 1, 6, 6), generator=torch.Generator().manual_seed(0)).byte()
PIXELS = BYTES.float() / 255
LABELS = torch.arange(24) % 3
SHAPE = (1, 6, 6)
FORMS = {
    "Batch": lambda x, y: Batch(x, y),
    "tensor": lambda x, y: x,
    "(x,)": lambda x, y: (x,),
    "(x, y)": lambda x, y: (x, y),
    "[x, y, index]": lambda x, y: [x, y, y],
    "image": lambda x, y: {"image": x, "label": y},
    "pixel_values": lambda x, y: {"pixel_values": x, "labels": y},
    "x": lambda x, y: {"y": y, "x": x},
    "an object": lambda x, y: SimpleNamespace(image=x, label=y),
    "array": lambda x, y: x.numpy(),
    "arrays without channels": lambda x, y: (x.squeeze(1).numpy(), y.numpy()),
    "arrays with channels last": lambda x, y: (x.movedim(1, -1).numpy(), y.tolist()),
    "tensors": lambda x, y: list(x),
    "columns": lambda x, y: {"image": list(x), "label": y.tolist()},
    "zipped rows": lambda x, y: tuple(zip(*zip(x, y, strict=True), strict=True)),
    "rows": lambda x, y: list(zip(x, y, strict=True)),
    "rows of (x,)": lambda x, y: [(one,) for one in x],
    "rows of dictionaries": lambda x, y: [
        {"image": one.numpy(), "label": int(of)} for one, of in zip(x, y, strict=True)
    ],
    "rows of [array, int]": lambda x, y: [
        [one[0].numpy(), int(of)] for one, of in zip(x, y, strict=True)
    ],
    "rows of batches": lambda x, y: [Batch(*row) for row in zip(x, y, strict=True)],
}
# Of bytes alone.
PICTURES = {
    "PIL": lambda x, y: list(map(to_pil_image, x)),
    "rows of PIL": lambda x, y: [(to_pil_image(one), of) for one, of in zip(x, y, strict=True)],
    "columns of PIL": lambda x, y: {"img": list(map(to_pil_image, x)), "label": y.tolist()},
}
UNLABELLED = {"tensor", "(x,)", "array", "tensors", "rows of (x,)", "PIL"}
KINDS = {"float32": PIXELS, "float64": PIXELS.double(), "uint8": BYTES}


def loader(form, images):
    def collate(rows):
        rows = torch.tensor(rows)
        return form(images[rows], LABELS[rows])

    return DataLoader(range(len(images)), batch_size=8, collate_fn=collate)


def trained(form, images, tmp_path):
    torch.manual_seed(0)
    model = toy_model()
    trainer = toy_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, loader(form, images), loader(form, images))
    found = [trainer.callback_metrics["val/elbo"]]
    found += [trainer.test(model, loader(form, images), verbose=False)[0]["test/elbo"]]
    codes = torch.cat(trainer.predict(model, loader(form, images)))
    return [*model.parameters(), *map(torch.as_tensor, found), codes]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_batch_changes_nothing(form, kind, tmp_path):
    expected = trained(FORMS["Batch"], PIXELS, tmp_path)
    for one, other in zip(expected, trained(FORMS[form], KINDS[kind], tmp_path), strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("form", PICTURES)
def test_pictures_train_as_their_bytes_do(form, tmp_path):
    expected = trained(FORMS["Batch"], PIXELS, tmp_path)
    for one, other in zip(expected, trained(PICTURES[form], BYTES, tmp_path), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("form", FORMS | PICTURES)
def test_labels_are_found_where_there_are_some(form):
    found = as_batch((FORMS | PICTURES)[form](BYTES, LABELS), SHAPE)
    assert torch.equal(found.image, BYTES)
    assert found.label is None if form in UNLABELLED else torch.equal(found.label, LABELS)
    # Numbers that are measured, and several for an image, are no classes.
    others = [LABELS.float(), LABELS.view(-1, 1), LABELS[:3], "a", [[1, 2], [3]], {"a": 1}]
    for other in others:
        assert as_batch((BYTES, other), SHAPE).label is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_called_model_reconstructs(kind):
    model = toy_model()
    expected = model.decode(model.encode(PIXELS))
    assert torch.equal(model(KINDS[kind]), expected)
    assert torch.equal(model({"image": KINDS[kind]}), expected)
    assert torch.equal(model.traverse(KINDS[kind], 1), model.traverse(PIXELS, 1))
    assert expected.shape == PIXELS.shape and not expected.requires_grad


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 6, 6), (3, 4, 6)])
def test_one_picture_is_a_batch_of_one(shape):
    channels = shape[0]
    image = torch.randint(256, shape, generator=torch.Generator().manual_seed(1)).byte()
    last = image.movedim(0, -1).numpy()
    pictures = [to_pil_image(image), image.numpy(), last, last[::-1][::-1], np.asarray(last)[None]]
    if channels == 1:
        pictures += [last[..., 0], to_pil_image(image).convert("RGB")]
    for picture in pictures:
        assert torch.equal(as_batch(picture, shape).image, image[None])


def test_pictures_are_read_as_files_are(tmp_path):
    """Turned as the camera was held, the shorter side resized, the longer one cut."""
    picture = Image.effect_noise((40, 30), 90).convert("RGB")
    exif = picture.getexif()
    exif[0x0112] = 6  # lying on its side
    picture.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        before = opened.tobytes()
        found = as_batch([opened], SHAPE).image
        assert opened.tobytes() == before and opened.size == (40, 30)
    assert torch.equal(found[0], ImageReader(SHAPE)(tmp_path / "a.png"))


class Pictures(Dataset):
    """As torchvision's sets without a transform, and those of Hugging Face, have their rows."""

    def __init__(self, row):
        self.row = row

    def __len__(self):
        return len(BYTES)

    def __getitem__(self, place):
        return self.row(to_pil_image(BYTES[place]), int(LABELS[place]))


class SomeonesData(pl.LightningDataModule):
    def __init__(self, row):
        super().__init__()
        self.rows = Pictures(row)

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=8, collate_fn=list)

    val_dataloader = test_dataloader = train_dataloader


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("row", [lambda x, y: (x, y), lambda x, y: {"image": x, "label": y}])
def test_data_modules_of_others_are_trained_on(row, tmp_path):
    expected = trained(FORMS["Batch"], PIXELS, tmp_path)
    torch.manual_seed(0)
    model, data = toy_model(), SomeonesData(row)
    trainer = toy_trainer(tmp_path, max_epochs=1, callbacks=[Reconstructions(4)])
    trainer.fit(model, datamodule=data)
    assert all(map(torch.equal, expected, model.parameters()))
    assert list(tmp_path.rglob("reconstructions/*.png"))


def test_bytes_and_bools_are_scaled_once():
    assert torch.equal(as_pixels(BYTES), PIXELS)
    assert as_pixels(PIXELS) is PIXELS
    assert as_pixels(BYTES > 127).unique().tolist() == [0.0, 1.0]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"image": PIXELS * 2 - 1}, r"must be in \[0, 1\], or uint8 .*floats from -1 to 1"),
        (BYTES.float(), r"floats from 0 to 255"),
        (PIXELS.where(PIXELS > 0.01, torch.nan), "floats from nan to nan"),
        (BYTES.long(), r"must be uint8 in 0..255 or floats in \[0, 1\]; got torch.int64"),
        (PIXELS.movedim(1, -1), r"images must be \(B, 1, 6, 6\); got \(24, 6, 6, 1\)"),
        ({"picture": PIXELS}, "a dictionary with 'image', .*; got a dictionary with 'picture'"),
        (["a.png"], "a tensor of images, .*; got a list that begins with a str"),
        (3, "a tensor of images, .*; got a int"),
        (
            [PIXELS[0], BYTES[0]],
            "images must be of one type and shape; got .*float32.* and .*t8",
        ),
        (np.array([None, None]), r"must be uint8 in 0..255 or floats in \[0, 1\]; got object"),
    ],
)
def test_what_is_no_batch_of_pixels_is_refused_in_one_line(batch, message, tmp_path):
    model = toy_model()
    with pytest.raises(ValueError, match=message) as error:
        model(batch)
    assert "\n" not in str(error.value)
    data = DataLoader([batch], batch_size=None, collate_fn=lambda batch: batch)
    with pytest.raises(ValueError, match=message):
        toy_trainer(tmp_path, max_steps=1).fit(model, data, data)


def test_pixels_that_resizing_has_thrown_off_a_little_are_pixels():
    toy_model()(PIXELS * 1.001 - 0.0005)
