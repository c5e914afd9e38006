"""Codes of a data set in shards: the law is that a folder equals that of an undisturbed run."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dvae.cli import main
from dvae.data import ImageFolder, Pixels, Tokens
from dvae.extras import MissingExtra
from dvae.models import CodebookVAE
from dvae.models.encoding import write_tokens
from dvae.networks import ResNet
from tests.toy import toy_data, toy_model, toy_trainer


def model_of(seed=0):
    torch.manual_seed(seed)
    return toy_model()


def predict(folder, model=None, data=None, split="test", rows=50, batch=32, **trainer):
    data = toy_data() if data is None else data
    data.eval_batch_size = batch
    run = toy_trainer(folder.parent, **trainer)
    return write_tokens(model or model_of(), data, folder, split, rows, trainer=run)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("rows", [7, 32, 50, 230, 1000])
def test_the_tokens_are_the_codes_in_the_order_of_the_data(tmp_path, rows):
    model, data = model_of(), toy_data()
    predict(tmp_path / "t", model, rows=rows)
    tokens = Tokens(tmp_path / "t")
    expected = data.rows("test").images
    assert len(tokens) == 230 and tokens.files is None
    assert torch.equal(tokens.codes.long(), model.encode(expected.images / 255))
    assert torch.equal(tokens.labels, expected.labels)
    assert torch.equal(tokens.index, torch.arange(230))
    assert (tokens.about.num_codes, tokens.about.shape, tokens.about.split) == (3, (3,), "test")
    batch = next(iter(DataLoader(tokens, batch_size=4)))
    assert torch.equal(batch.code, tokens.codes[:4].long())
    assert batch.index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("stop", [1, 2, 4, 6])
def test_a_killed_prediction_goes_on_and_ends_as_an_undisturbed_one(tmp_path, stop, monkeypatch):
    predict(tmp_path / "whole")
    model, seen = model_of(), []
    step = type(model).predict_step

    def dying(self, batch, batch_idx):
        seen.append(len(batch.image))
        if len(seen) > stop:
            raise RuntimeError("killed")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(type(model), "predict_step", dying)
    with pytest.raises(RuntimeError, match="killed"):
        predict(tmp_path / "t", model)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "t").iterdir()}
    assert len(before) == stop * 32 // 50
    monkeypatch.setattr(type(model), "predict_step", step)
    writer = predict(tmp_path / "t")
    assert writer.written == 5 - len(before)
    assert contents(tmp_path / "t") == contents(tmp_path / "whole")
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "t").iterdir()}
    assert all(after[name] == time for name, time in before.items())
    # Once more: nothing is left to do.
    assert predict(tmp_path / "t").written == 0


@pytest.mark.parametrize("lost", [[0], [4], [1, 2], [0, 3]])
def test_only_what_is_missing_or_cut_short_is_made_again(tmp_path, lost, monkeypatch):
    writer = predict(tmp_path / "t")
    whole = contents(tmp_path / "t")
    for number, shard in enumerate(lost):
        path = tmp_path / "t" / writer.about.name(shard)
        path.unlink() if number % 2 else path.write_bytes(whole[path.name][:-20])
    seen = []
    model = model_of()
    encode = type(model).encode
    monkeypatch.setattr(
        type(model), "encode", lambda self, x: (seen.append(len(x)), encode(self, x))[1]
    )
    again = predict(tmp_path / "t", model)
    assert again.written == len(lost) and contents(tmp_path / "t") == whole
    batches = {row // 32 for shard in lost for row in writer.about.span(shard)}
    assert len(seen) == len(batches)


def test_a_limited_prediction_says_that_it_is_not_complete(tmp_path):
    writer = predict(tmp_path / "t", limit_predict_batches=3)
    assert writer.summary()["shards"].startswith("1 of 5") and "incomplete" in writer.summary()
    with pytest.raises(FileNotFoundError, match=r"part-00001-of-00005.parquet and 3 more is miss"):
        Tokens(tmp_path / "t")


@pytest.mark.parametrize("binarization", ["none", "dynamic"])
def test_train_and_val_are_the_published_split_without_augmentation(tmp_path, binarization):
    model, data = model_of(), toy_data(binarization=binarization)
    for split in ("train", "val"):
        predict(tmp_path / split, model, toy_data(binarization=binarization), split)
    parts = [Tokens(tmp_path / split) for split in ("train", "val")]
    assert sorted(torch.cat([part.index for part in parts]).tolist()) == list(range(230))
    assert len(parts[1]) == 50 and parts[0].index.diff().min() >= 1
    published = data.load("train")
    for part, tokens in zip(("train", "val"), parts, strict=True):
        assert torch.equal(tokens.labels, published.labels[tokens.index])
        images = toy_data(binarization=binarization).rows(part).images.images
        assert torch.equal(tokens.codes.long(), model.encode(images / 255))
        assert (len(images.unique()) == 2) == (binarization == "dynamic")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": 1}, "weights is .* there and"),
        ({"split": "val"}, "images is .* there and"),
        ({"rows": 51}, "rows_per_shard is 50 there and 51 here"),
        ({"data": toy_data(binarization="threshold")}, "data is .*grayscale"),
    ],
)
def test_a_folder_of_other_tokens_is_refused_and_left_alone(tmp_path, change, message):
    predict(tmp_path / "t")
    whole = contents(tmp_path / "t")
    if "model" in change:
        change = {"model": model_of(1)}
    with pytest.raises(ValueError, match=message + r".*choose another --tokens\.folder"):
        predict(tmp_path / "t", **change)
    assert contents(tmp_path / "t") == whole


@pytest.mark.parametrize("cut", [0, 3, 100, -20, -1])
def test_a_shard_cut_short_is_named(tmp_path, cut):
    predict(tmp_path / "t")
    path = sorted((tmp_path / "t").iterdir())[2]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"part-00002-of-00005\.parquet is cut short or damaged"):
        Tokens(tmp_path / "t")


def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path):
    predict(tmp_path / "t", rows=230)
    whole = Tokens(tmp_path / "t")
    (path,) = (tmp_path / "t").iterdir()
    content, found = path.read_bytes(), 0
    for place in range(4, len(content), 37):
        path.write_bytes(content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :])
        try:
            tokens = Tokens(tmp_path / "t")
        except ValueError as error:
            found += path.name in str(error)
        else:
            assert torch.equal(tokens.codes, whole.codes)
            assert torch.equal(tokens.labels, whole.labels)
            assert torch.equal(tokens.index, whole.index)
    assert found > 10


def test_a_folder_without_tokens_and_a_foreign_shard_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no tokens"):
        Tokens(tmp_path / "nowhere")
    predict(tmp_path / "t")
    predict(tmp_path / "u", model_of(1))
    name = sorted(path.name for path in (tmp_path / "t").iterdir())[1]
    (tmp_path / "t" / name).write_bytes((tmp_path / "u" / name).read_bytes())
    with pytest.raises(ValueError, match="part-00001.*not of the others' set: weights is"):
        Tokens(tmp_path / "t")


def test_an_image_folder_gives_names_and_a_grid(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(15):
            pixels = generator.integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number:02}.png")
    torch.manual_seed(0)
    model = CodebookVAE(ResNet((3, 8, 8), width=8, blocks=1))
    data = ImageFolder(str(tmp_path / "images"), image_size=8, val_size=5)
    predict(tmp_path / "t", model, data, "val", rows=2)
    tokens = Tokens(tmp_path / "t")
    published = data.load("train").images
    assert tokens[3].code.shape == (2, 2) and tokens.about.shape == (2, 2)
    assert torch.equal(tokens[3].code, model.encode(published[tokens[3].index][None] / 255)[0])
    names = sorted(p.relative_to(tmp_path / "images").as_posix() for p in tmp_path.rglob("*.png"))
    del names[9::10]  # the test's
    assert tokens.files == [names[i] for i in tokens.index]
    assert tokens.labels.tolist() == [int(name.startswith("b")) for name in tokens.files]


def test_files_that_are_read_otherwise_are_other_images(tmp_path, monkeypatch):
    monkeypatch.setattr("dvae.data.image_folder._free_memory", lambda: 100)
    monkeypatch.setattr("dvae.data.loading.os.sched_getaffinity", lambda _: set())
    (tmp_path / "images").mkdir()
    for number in range(10):
        Image.new("RGBA", (8, 8), (number, 0, 0, 9)).save(tmp_path / "images" / f"{number}.png")
    torch.manual_seed(0)
    model = CodebookVAE(ResNet((3, 8, 8), width=8, blocks=1))

    def read(background):
        data = ImageFolder(str(tmp_path / "images"), image_size=8, pixels=Pixels(background))
        return predict(tmp_path / "t", model, data)

    assert read("black").written == 1 and read("black").written == 0
    with pytest.raises(ValueError, match="has other tokens: images is"):
        read("white")


def test_a_folder_without_classes_has_no_labels(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(10):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    model = CodebookVAE(ResNet((3, 8, 8), width=8, blocks=1))
    predict(tmp_path / "t", model, ImageFolder(str(tmp_path / "images"), image_size=8))
    assert Tokens(tmp_path / "t")[0].label == -1
    assert Tokens(tmp_path / "t").files == ["9.png"]


def test_a_folder_with_no_readable_image_is_said(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    data = ImageFolder(str(tmp_path), image_size=8, pixels=Pixels(skip_unreadable=True))
    with pytest.raises(ValueError, match="none of the images of .* can be read"):
        data.load("train")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r'needs pyarrow: pip install "dvae\[tokens\]"'):
        predict(tmp_path / "t")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "part-00000-of-00001.parquet").touch()
    with pytest.raises(MissingExtra, match="pip install"):
        Tokens(tmp_path / "t")


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tokens\.rows_per_shard must be an integer >= 1; got 0"):
        write_tokens(model_of(), toy_data(), tmp_path, rows_per_shard=0)
    with pytest.raises(ValueError, match="needs a folder, or the checkpoint"):
        write_tokens(model_of(), toy_data())
    with pytest.raises(ValueError, match="by one process, in order; got 2: set trainer.devices"):
        predict(tmp_path / "t", devices=2)
    with pytest.raises(
        ImportError, match=r"TokenWriter is now dvae\.models\.encoding\.write_tokens"
    ):
        from dvae.callbacks import TokenWriter  # noqa: F401
    with pytest.raises(ValueError, match="must be one of train, val, test; got 'all'"):
        predict(tmp_path / "t", split="all")
    with pytest.raises(ValueError, match="no validation images: val_size is 0"):
        predict(tmp_path / "t", data=toy_data(val_size=0), split="val")


def test_the_command_line_predicts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = ["--model=CategoricalVAE", "--model.network=MLP", "--model.network.hidden=[8]"]
    args = ["predict", "--data=MNIST", *model, "--trainer.enable_progress_bar=false"]
    assert main(args) == 2
    assert "predict needs --ckpt_path" in capsys.readouterr().err
    torch.save({"state_dict": {"net.weight": torch.zeros(2)}}, "other.ckpt")
    assert main([*args, "--ckpt_path=other.ckpt"]) == 2
    assert "other.ckpt is of another model" in capsys.readouterr().err
    fit = ["fit", *args[1:], "--trainer.max_steps=2", "--trainer.limit_val_batches=1"]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main([*fit, "--experiment=x", "--model.evaluation.iwae_samples=1"]) == 0
    best = "runs/x/version_0/checkpoints/best.ckpt"
    capsys.readouterr()
    assert main([*args, f"--ckpt_path={best}"]) == 0
    assert "1 of 1" in capsys.readouterr().out
    tokens = Tokens("runs/x/version_0/tokens/best-test")
    assert len(tokens) == 10_000 and tokens.about.checkpoint == "best.ckpt"
    assert main([*args, f"--ckpt_path={best}", "--tokens.rows_per_shard=3"]) == 2
    assert "rows_per_shard is 10000 there and 3 here" in capsys.readouterr().err
