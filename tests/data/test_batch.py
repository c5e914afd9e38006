"""A model takes batches as people have them; what has no pixels in it is said in one line.

The law is one of invariance: the same images in any form train the same weights, to the bit.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from dvae.data import Batch
from dvae.data.batch import as_batch, as_pixels
from tests.toy import toy_model, toy_trainer

BYTES = torch.randint(256, (24, 1, 6, 6), generator=torch.Generator().manual_seed(0)).byte()
PIXELS = BYTES.float() / 255
LABELS = torch.arange(24) % 3
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
}
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


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_found_where_there_are_some(form):
    found = as_batch(FORMS[form](BYTES, LABELS))
    assert found.image is BYTES
    assert found.label is (None if form in ("tensor", "(x,)") else LABELS)
    # Numbers that are measured, and several for an image, are no classes.
    for other in (LABELS.float(), LABELS.view(-1, 1), LABELS[:3], "a"):
        assert as_batch((BYTES, other)).label is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_called_model_reconstructs(kind):
    model = toy_model()
    expected = model.decode(model.encode(PIXELS))
    assert torch.equal(model(KINDS[kind]), expected)
    assert torch.equal(model({"image": KINDS[kind]}), expected)
    assert torch.equal(model.traverse(KINDS[kind], 1), model.traverse(PIXELS, 1))
    assert expected.shape == PIXELS.shape and not expected.requires_grad


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
