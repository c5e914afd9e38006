"""Pictures, tables and curves reach TensorBoard, MLflow and trackio: their readers find them."""

import csv
import io
import os
import subprocess
import sys

import pytest
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger

from dvae.callbacks import Curves, LatentInspector, Reconstructions
from tests.toy import toy_data, toy_model, toy_trainer

PICTURES = {"media/reconstructions", "media/samples", "media/latent_usage", "media/curves"}


def trained(logger, folder):
    watch = [Reconstructions(4), LatentInspector(1, images=20, parts=("usage", "table")), Curves()]
    trainer = toy_trainer(folder, max_epochs=1, logger=logger, callbacks=watch)
    trainer.fit(toy_model(), toy_data())
    return trainer


def written(folder):
    (table,) = folder.rglob("latent_table/*.csv")
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_pictures_table_and_scalars(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer = trained(TensorBoardLogger(tmp_path), tmp_path)
    events = reading.EventAccumulator(trainer.logger.log_dir)
    events.Reload()
    tags = events.Tags()
    assert set(tags["images"]) >= PICTURES and "val/elbo" in tags["scalars"]
    (found,) = events.Images("media/reconstructions")
    (file,) = tmp_path.rglob("reconstructions/*.png")
    with Image.open(file) as ours, Image.open(io.BytesIO(found.encoded_image_string)) as theirs:
        assert ours.convert("RGB").tobytes() == theirs.tobytes()
    assert found.step == trainer.global_step
    (text,) = events.Tensors("media/latent_table/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    rows = written(tmp_path)
    assert lines[0].split(" | ") == list(rows[0]) and len(lines) == 2 + len(rows)
    assert [line.split(" | ") for line in lines[2:]] == [list(row.values()) for row in rows]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_has_pictures_table_and_scalars(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger(save_dir=str(tmp_path / "mlruns"))
    trained([CSVLogger(tmp_path / "csv"), logger], tmp_path)  # which is first here, as in every run
    client, run = logger.experiment, logger.run_id
    assert "val/elbo" in client.get_run(run).data.metrics
    files = [item.path for item in client.list_artifacts(run, "images")]
    names = {path.removeprefix("images/").partition("+")[0] for path in files}
    assert {name.replace("~", "/") for name in names} >= PICTURES
    (table,) = client.list_artifacts(run, "media/latent_table")
    rows = written(tmp_path / "csv")
    text = client.download_artifacts(run, table.path, str(tmp_path.parent))
    with open(text, newline="") as file:
        assert list(csv.DictReader(file)) == rows


# Where trackio keeps its runs is settled when it is imported.
TRACKED = """
import csv, sys
from pathlib import Path
from PIL import Image
from dvae.loggers import TrackioLogger
from tests.callbacks.test_logged_media import PICTURES, trained, written
folder = Path(sys.argv[1])
options = {"auto_log_cpu": False, "auto_log_gpu": False}
logger = TrackioLogger("project", "run", str(folder / "own"), options)
logger.log_hyperparams({"seed": 7, "model": object})
trainer = trained(logger, folder)
logger.experiment.finish()
import trackio
run = trackio.Api().runs("project")[0]
rows = trackio.sqlite_storage.SQLiteStorage.get_logs("project", "run")
found = {name: (row["step"], row[name]) for row in rows for name in row}
assert run.name == "run" and run.config["seed"] == 7 and "object" in run.config["model"]
assert set(found) >= PICTURES and "val/elbo" in found, sorted(found)
step, picture = found["media/reconstructions"]
assert trainer.global_step - 1 <= step <= trainer.global_step, step
(ours,) = folder.rglob("reconstructions/step*.png")
theirs = trackio.TRACKIO_DIR / "media" / picture["file_path"]
assert Image.open(ours).convert("RGB").tobytes() == Image.open(theirs).convert("RGB").tobytes()
table = found["media/latent_table"][1]["_value"]
same = [{name: str(row[name]) for name in written(folder)[0]} for row in table]
assert same == written(folder), (same[0], written(folder)[0])
"""


def test_trackio_has_pictures_table_and_scalars(tmp_path):
    pytest.importorskip("trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    command = [sys.executable, "-W", "ignore", "-c", TRACKED, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
