"""Pictures, tables and curves reach TensorBoard and MLflow: their own readers find them again."""

import csv
import io

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
