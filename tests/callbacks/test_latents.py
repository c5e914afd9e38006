import csv
import gc
import json
import logging
import math
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import wandb
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from torch.utils.data import DataLoader

from dvae.bottlenecks import (
    FSQ,
    LFQ,
    VQ,
    DistanceCodebook,
    DiVeQ,
    ProductCodebook,
    ProjectedCodebook,
    ResidualCodebook,
    ResidualVQ,
    SimVQ,
    Upkeep,
)
from dvae.callbacks import (
    Anneal,
    Curves,
    LatentInspector,
    Reconstructions,
    latent_codes,
    latent_images,
    linear_probe,
)
from dvae.callbacks.latent_codes import read_codes
from dvae.callbacks.latent_images import traversal
from dvae.callbacks.latent_plots import plot_codebook, plot_counts, plot_use, principal_plane
from dvae.callbacks.latent_table import latent_table
from dvae.callbacks.linear_probe import probe_accuracy
from dvae.callbacks.pictures import show_picture, show_table
from dvae.estimators import RLOO, GumbelSoftmax
from dvae.likelihoods import Gaussian
from dvae.models import CodebookVAE
from dvae.networks import ResNet
from dvae.schedules import Tuned
from tests.toy import toy_data, toy_model, toy_trainer

SMALL = {"num_codes": 6, "code_dim": 4}
BOTTLENECKS = {
    "projected": lambda: ProjectedCodebook(**SMALL, in_features=4),
    "score function": lambda: ProjectedCodebook(**SMALL, in_features=4, estimator=RLOO(2)),
    "distance": lambda: DistanceCodebook(**SMALL),
    "product": lambda: ProductCodebook(**SMALL, in_features=4),
    "residual code": lambda: ResidualCodebook(**SMALL),
    "vq": lambda: VQ(**SMALL, decay=0.8, upkeep=Upkeep(kmeans=2, revive_after=1)),
    "diveq": lambda: DiVeQ(**SMALL),
    "simvq": lambda: SimVQ(**SMALL),
    "fsq": lambda: FSQ([3, 3], 4),
    "lfq": lambda: LFQ(8, 4),
    "residual": lambda: ResidualVQ(**SMALL, depth=2, decay=0.8),
}
SEVERAL = ("product", "residual", "residual code")  # integers a position
POSTERIOR = ("categorical", "projected", "score function", "distance", "product", "residual code")

models = pytest.mark.parametrize("kind", ["categorical", *BOTTLENECKS])


def make(kind):
    torch.manual_seed(0)
    if kind == "categorical":
        return toy_model(GumbelSoftmax(0.7), latents=4)
    return CodebookVAE(
        network=ResNet((1, 6, 6), width=8, halvings=1, blocks=1),
        bottleneck=BOTTLENECKS[kind](),
        likelihood=Gaussian(0.2),
    )


def images(count=20):
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def fit(tmp_path, kind, callbacks, logger=False, data=None, **kwargs):
    model = make(kind)
    kwargs = {"max_epochs": 2} | kwargs
    trainer = toy_trainer(tmp_path, callbacks=callbacks, logger=logger, **kwargs)
    torch.manual_seed(1)
    data = toy_data(binarization="dynamic") if data is None else data
    trainer.fit(model, datamodule=data)
    return trainer, model


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind, marks=[] if kind in ("categorical", "product", "vq") else pytest.mark.slow
        )
        for kind in ["categorical", *BOTTLENECKS]
    ],
)
def test_the_weights_are_the_same_to_the_bit_and_the_files_are_there(kind, tmp_path):
    short = {"limit_train_batches": 4}
    _, plain = fit(tmp_path / "a", kind, [], **short)
    logger = CSVLogger(tmp_path, name="x")
    trainer, watched = fit(tmp_path, kind, [LatentInspector(1, rows=7)], logger, **short)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name
    assert all(m.training for m in watched.modules())
    assert 0 <= trainer.callback_metrics["val/probe_accuracy"] <= 1
    assert ("val/latent_entropy" in trainer.callback_metrics) == (kind in POSTERIOR)
    check_files(kind, tmp_path / "x" / "version_0")


def check_files(kind, run):
    names = {"latent_usage", "latent_table", "latent_table_images", "latent_traversal"}
    names |= {"latent_entropy"} if kind in POSTERIOR else set()
    names |= {"codebook"} if kind != "categorical" else set()
    names |= {"codebook_images"} if kind not in ("categorical", *SEVERAL) else set()
    assert {path.name for path in (run / "media").iterdir()} == names
    for name in names - {"latent_table"}:
        with Image.open(run / "media" / name / "step_0000008.png") as picture:
            assert min(picture.size) > 50
    with (run / "media" / "latent_table" / "step_0000008.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(7))
    assert ("log_q_mode" in rows[0]) == (kind in POSTERIOR)
    assert {"label", "log_px_mode", "code"} <= rows[0].keys()
    assert "image" not in rows[0]
    with (run / "metrics.csv").open() as file:
        assert sum(bool(row["val/probe_accuracy"]) for row in csv.DictReader(file)) == 2


class Unlabelled(dict):
    """A batch with no more than an image."""

    @property
    def image(self):
        return self["image"]


class ForeignData(pl.LightningDataModule):
    """Validation images from a shuffled loader that draws from the global generator."""

    def __init__(self):
        super().__init__()
        self.ours = toy_data()

    def train_dataloader(self):
        return self._loader(self.ours.train_dataloader().images)

    def val_dataloader(self):
        return self._loader(self.ours.val_dataloader().images)

    def _loader(self, images):
        def collate(rows):
            return Unlabelled(image=torch.stack(rows).float() / 255)

        return DataLoader(list(images), batch_size=16, shuffle=True, collate_fn=collate)

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch


@pytest.mark.filterwarnings("ignore:.*(does not have many workers|shuffling)")
def test_a_loader_of_another_kind_is_not_noticed_either_and_has_no_labels(tmp_path):
    def run(folder, callbacks):
        return fit(folder, "categorical", callbacks, data=ForeignData())

    _, plain = run(tmp_path / "a", [])
    trainer, watched = run(tmp_path / "b", [LatentInspector(1, images=20)])
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name
    assert "val/latent_entropy" in trainer.callback_metrics
    assert "val/probe_accuracy" not in trainer.callback_metrics
    table = next((tmp_path / "b" / "media" / "latent_table").iterdir()).read_text()
    assert "label" not in table.splitlines()[0]


@pytest.mark.parametrize(
    ("every", "kwargs", "steps"),
    [
        (2, {"max_epochs": 3}, [22, 33]),
        (10, {"max_epochs": 2}, [22]),
        (10, {"max_epochs": None, "max_steps": 5}, [5]),
        (0, {"max_epochs": 2}, []),
    ],
)
def test_as_often_as_asked_and_the_last_epoch_always(every, kwargs, steps, tmp_path):
    fit(tmp_path, "categorical", [LatentInspector(every, parts=["usage"])], **kwargs)
    found = sorted(path.name for path in (tmp_path / "media").rglob("*.png"))
    assert found == [f"step_{step:07d}.png" for step in steps]


def test_two_inspectors_have_intervals_of_their_own(tmp_path):
    callbacks = [LatentInspector(1, parts=["entropy"]), LatentInspector(2, parts=["usage"])]
    fit(tmp_path, "categorical", callbacks)
    assert len(list((tmp_path / "media" / "latent_entropy").iterdir())) == 2
    assert len(list((tmp_path / "media" / "latent_usage").iterdir())) == 1


@pytest.mark.filterwarnings("ignore:Total length of `list`")
def test_without_validation_images_it_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "dvae"):
        fit(tmp_path, "categorical", [LatentInspector()], data=toy_data(val_size=0))
    assert "there are no validation images" in caplog.text
    assert not (tmp_path / "media").exists()


def figures():
    return [one for one in gc.get_objects() if type(one) is Figure]


@pytest.mark.parametrize("callback", [LatentInspector(1), Anneal("tau", Tuned(every=1))])
def test_no_figure_outlives_the_look(tmp_path, callback):
    before = figures()  # of other tests
    gc.disable()  # as between two full collections, which may be a hundred epochs apart
    try:
        fit(tmp_path, "categorical", [callback])
        alive = figures()
    finally:
        gc.enable()
    assert len(alive) == len(before)


def test_only_the_first_process_does_anything():
    class Nothing:
        def __getattr__(self, name):
            raise AssertionError(f"{name} was touched")

    trainer = SimpleNamespace(is_global_zero=False, current_epoch=1, max_epochs=2)
    LatentInspector(1).on_train_epoch_end(trainer, Nothing())


def test_no_picture_waits_for_other_processes(tmp_path, monkeypatch):
    def log_dir(trainer):
        caller = sys._getframe(1).f_globals["__name__"]
        assert not caller.startswith("dvae"), "Trainer.log_dir is a broadcast"
        return trainer.default_root_dir

    monkeypatch.setattr(pl.Trainer, "log_dir", property(log_dir))
    fit(tmp_path, "categorical", [LatentInspector(), Reconstructions(4), Curves()], max_epochs=1)
    assert (tmp_path / "media" / "curves.png").is_file()
    assert (tmp_path / "media" / "latent_usage").is_dir()


# The numbers


@models
def test_the_codes_are_those_of_encode_and_every_one_is_counted(kind, monkeypatch):
    model, image = make(kind), images()
    codes = read_codes(model, image)
    assert torch.equal(codes.index, model.encode(image))
    assert codes.counts.sum() == codes.index.numel()
    monkeypatch.setattr(latent_codes, "_CHUNK", 7)
    parts = read_codes(model, image)
    assert torch.equal(parts.index, codes.index) and torch.equal(parts.counts, codes.counts)
    assert (codes.posterior is None) == (kind not in POSTERIOR)
    if codes.posterior is not None and parts.posterior is not None:
        torch.testing.assert_close(parts.posterior.entropy, codes.posterior.entropy)


def test_entropy_and_information_by_enumeration():
    model, image = make("categorical").eval(), images()
    with torch.no_grad():
        model.encoder[-1].weight.mul_(8)
        q = model.bottleneck(model.encoder(image)).logits.double().softmax(-1)
    posterior = read_codes(model, image).posterior
    entropy = torch.distributions.Categorical(q).entropy().mean(0)
    torch.testing.assert_close(posterior.entropy.double(), entropy, atol=1e-5, rtol=1e-5)
    # The divergence of each posterior from the mean one, averaged: the mutual information.
    information = (q * (q / q.mean(0)).log()).sum(-1).mean(0)
    torch.testing.assert_close(posterior.information.double(), information, atol=1e-5, rtol=1e-5)


def test_a_latent_that_ignores_the_image_tells_nothing():
    model = make("categorical")
    with torch.no_grad():
        model.encoder[-1].weight[:3] = 0
        model.encoder[-1].bias[:3] = torch.tensor([9.0, 0.0, 0.0])
        model.encoder[-1].weight[3:].mul_(30)
    posterior = read_codes(model, images()).posterior
    assert posterior.entropy[0] < 0.01 and posterior.information[0] < 1e-5
    assert (posterior.information[1:] > 0.1).all()


def test_the_table_holds_the_log_probabilities_of_the_code():
    model, image = make("categorical").eval(), images(6)
    index, label = model.encode(image), list(range(6))
    rows = latent_table(model, image, index, label)
    log_q = model.bottleneck(model.encoder(image)).logits.log_softmax(-1).amax(-1).sum(-1)
    mean = model.decode(index)
    log_px = -F.binary_cross_entropy(mean, image, reduction="none").flatten(1).sum(1)
    for n, row in enumerate(rows):
        assert row["log_q_mode"] == pytest.approx(log_q[n].item(), abs=2e-3)
        assert row["log_px_mode"] == pytest.approx(log_px[n].item(), abs=2e-3)
        assert row["code"] == " ".join(str(row[f"z{k}"]) for k in range(4))
        assert (row["label"], row["z0"]) == (n, index[n, 0])
        pixels = torch.tensor(list(row["reconstruction"].tobytes())).view(6, 6) / 255
        torch.testing.assert_close(pixels, mean[n, 0], atol=0.003, rtol=0)


@models
def test_the_framed_images_of_a_traversal_are_the_reconstruction(kind, monkeypatch):
    model, image = make(kind), images()
    codes = read_codes(model, image)
    seen = {}

    def spy(title, images, rows, labels, marked=()):
        seen.update(images=images, rows=rows, labels=labels, marked=marked)

    monkeypatch.setattr(latent_images, "labelled_grid", spy)
    traversal(model, codes.index[3], codes.counts.view(-1, codes.counts.shape[-1]))
    assert len(seen["marked"]) == len(seen["rows"]) == (4 if kind == "categorical" else 9)
    own = model.reconstruct(image[3:4])
    for n in seen["marked"]:
        torch.testing.assert_close(seen["images"][n], own[0], atol=1e-5, rtol=1e-4)
    if kind == "categorical":
        code = codes.index[3].clone()
        code[2] = 1
        flipped = seen["images"][2 * 3 + 1]
        torch.testing.assert_close(flipped, model.decode(code[None])[0], atol=1e-5, rtol=1e-4)
        assert seen["labels"] == ["0", "1", "2"] * 4


@pytest.mark.parametrize("kind", BOTTLENECKS)
def test_the_vectors_are_what_the_decoder_sees(kind):
    bottleneck = make(kind).bottleneck
    index = torch.randint(bottleneck.num_codes, (5, *bottleneck.index_shape))
    levels = index.reshape(*index.shape[:3], -1)
    vectors = bottleneck.vectors()
    parts = [vectors[book][levels[..., book]] for book in range(levels.shape[-1])]
    seen = torch.cat(parts, -1) if kind == "product" else sum(parts)
    torch.testing.assert_close(bottleneck.embed(index).movedim(1, -1), seen)


# The probe


def test_the_probe_is_the_ridge_regression_on_one_hot_codes():
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(5, (300, 2, 3), generator=generator)
    label = (index[:, 0, 0] + torch.randint(2, (300,), generator=generator)) * 10
    x = F.one_hot(index.flatten(1), 5).flatten(1).double()
    y = F.one_hot(label // 10).double()
    known, other = x[::2], x[1::2]
    offset = y[::2].mean(0)
    gram = known.T @ known + 0.5 * torch.eye(30, dtype=torch.double)
    weights = torch.linalg.solve(gram, known.T @ (y[::2] - offset))
    guess = (other @ weights + offset).argmax(-1) * 10
    expected = (guess == label[1::2]).double().mean().item()
    assert probe_accuracy(index, label, ridge=0.5) == expected
    # The same codes by other names, of a code book with more codes than there are examples.
    assert probe_accuracy(40 * index, label, ridge=0.5) == expected
    assert 0.3 < expected < 0.9


def test_the_probe_reads_all_of_a_label_that_is_in_the_code_and_none_that_is_not(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(6, (4000, 5), generator=generator)
    noise = torch.randint(6, (4000,), generator=generator)
    assert probe_accuracy(index, index[:, 3]) == 1.0
    # Chance, at six standard errors of 2,000 tested labels.
    assert abs(probe_accuracy(index, noise) - 1 / 6) < 6 * math.sqrt(5 / 36 / 2000)
    monkeypatch.setattr(linear_probe, "_FITTED", 50)
    assert probe_accuracy(index, index[:, 3]) > 0.7


def test_the_probe_is_left_out_where_there_is_nothing_to_tell_apart():
    index = torch.randint(3, (20, 2))
    assert probe_accuracy(index, torch.full((20,), 7)) is None
    assert probe_accuracy(index[:2], torch.arange(2)) is None


# The pictures


def test_the_plane_keeps_the_distances_of_vectors_that_lie_on_one():
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(30, 2, generator=generator, dtype=torch.double) @ torch.randn(
        2, 7, generator=generator, dtype=torch.double
    )
    points, share = principal_plane(flat + 5)
    torch.testing.assert_close(torch.cdist(points, points), torch.cdist(flat, flat))
    assert share.sum() == pytest.approx(1.0)
    assert share[0] > share[1]
    torch.testing.assert_close(principal_plane(-flat)[0].abs(), points.abs())


@pytest.mark.parametrize("vectors", [torch.zeros(1, 5, 1), torch.eye(2)[None], torch.ones(3, 4, 9)])
def test_plots_of_degenerate_code_books(vectors):
    counts = torch.zeros(vectors.shape[:2], dtype=torch.int64)
    counts[:, 0] = 3
    assert plot_codebook(vectors, counts).size[1] > 100
    assert plot_use(counts, 3).size[1] > 100


def orange(picture):
    pixels = torch.tensor(list(picture.tobytes())).view(-1, 3)
    return int((pixels == torch.tensor([0xD5, 0x5E, 0x00])).all(-1).sum())


def test_dead_codes_are_orange_and_the_end_of_the_map_is_not():
    counts = torch.arange(1, 6).view(1, 5)
    assert orange(plot_use(counts, 10)) == 0
    counts[0, 2] = 0
    assert orange(plot_use(counts, 10)) > 500


def test_dead_categories_are_orange():
    counts = torch.full((3, 4), 10)
    assert orange(plot_counts(counts, 10)) == 0
    counts[1, 2] = 0
    one = orange(plot_counts(counts, 10))
    counts[0, 1] = 0
    assert one > 500
    assert orange(plot_counts(counts, 10)) == pytest.approx(2 * one, rel=0.05)


# Loggers


def records_of(path):
    """Read wandb's file, a header and a log in LevelDB's format; its own reader is gone."""
    from wandb.proto import wandb_internal_pb2

    content, place, record = path.read_bytes(), 7, b""
    assert content.startswith(b":W&B")
    while place < len(content):
        left = 2**15 - place % 2**15
        if left < 7:  # a block ends in padding where no header fits
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


@pytest.mark.parametrize("kind", ["table", "image"])
def test_a_full_disk_takes_the_file_of_a_table_or_picture_alone(kind, tmp_path, caplog):
    (tmp_path / "media").write_text("")  # so that there is no such folder

    class Full:
        def __getattr__(self, name):
            raise (OSError(28, "No space left") if name == f"log_{kind}" else AttributeError)

    shown = []
    other = SimpleNamespace(**{f"log_{kind}": lambda key, **_: shown.append(key)})
    trainer = SimpleNamespace(
        is_global_zero=True, global_step=3, logger=None, loggers=[Full(), other]
    )
    trainer.default_root_dir = tmp_path
    picture = Image.new("L", (2, 2))
    if kind == "table":
        show_table(trainer, "codes", [{"code": "1 2"}])
    else:
        show_picture(trainer, "codes", picture)
    assert shown == ["media/codes"]
    assert "cannot write" in caplog.text and "No space left" in caplog.text


def test_an_offline_wandb_run_holds_table_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    # Another test of this process may have left a run open, or set wandb up with other settings.
    wandb.finish()
    wandb.teardown()
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="dvae")
    fit(tmp_path, "vq", [LatentInspector(rows=5)], logger, max_epochs=1)
    folder = tmp_path / "wandb" / "latest-run"
    logger.experiment.finish()
    wandb.teardown()  # which waits until all is written
    path = next(folder.resolve().glob("run-*.wandb"))
    records = list(records_of(path))
    found = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in records
        for item in record.history.item
    }
    assert 0 <= found["val/probe_accuracy"] <= 1
    for name in ("latent_usage", "latent_traversal", "latent_table_images", "codebook"):
        entry = f"media/{name}"
        assert (found[f"{entry}/_type"], found[f"{entry}/count"]) == ("images/separated", 1)
        assert (folder / "files" / found[f"{entry}/filenames"][0]).is_file()
    entry = "media/latent_table"
    assert found[f"{entry}/_type"] == "table-file"
    assert (found[f"{entry}/nrows"], found[f"{entry}/ncols"]) == (5, 15)
    # The table with its pictures is an artifact; the run has a preview of it without them.
    (artifact,) = (r.artifact for r in records if r.WhichOneof("record_type") == "artifact")
    files = {content.path: Path(content.local_path) for content in artifact.manifest.contents}
    table = json.loads(files["media/latent_table.table.json"].read_text())
    columns = ["row", "image", "reconstruction", "label", "log_px_mode", "code"]
    assert table["columns"] == [*columns, *(f"z{place}" for place in range(9))]
    for cell in (cell for row in table["data"] for cell in row[1:3]):
        assert cell["_type"] == "image-file"
        with Image.open(files[cell["path"]]) as picture:
            assert picture.size == (6, 6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"every_n_epochs": -1}, "latents.every_n_epochs must be an integer >= 0; got -1"),
        ({"images": 0}, "latents.images must be an integer >= 1; got 0"),
        ({"rows": 65}, r"latents.rows must be in \[1, 64\]; got 65"),
        ({"parts": ["uses"]}, "latents.parts must be of usage, table, .*; got 'uses'"),
    ],
)
def test_wrong_values_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LatentInspector(**kwargs)
