import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from dvae.cli.loggers import default_loggers, in_run_folder, sync_command


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path


def is_offline(tmp_path):
    _, wandb = default_loggers(str(tmp_path), "x")
    return wandb._offline


def test_without_an_account_wandb_is_offline(nobody):
    assert is_offline(nobody)


@pytest.mark.parametrize("login", ["key", "netrc"])
def test_whoever_is_logged_in_is_online_unless_they_say_otherwise(login, nobody, monkeypatch):
    if login == "key":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    else:
        (nobody / "netrc").write_text(
            f"machine api.wandb.ai\n  login user\n  password {'0' * 40}\n"
        )
        (nobody / "netrc").chmod(0o600)
    assert not is_offline(nobody)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert is_offline(nobody)


def test_a_broken_netrc_is_no_login(nobody):
    (nobody / "netrc").write_text("machine api.wandb.ai login")
    assert is_offline(nobody)


def test_nothing_is_written_before_something_is_logged(nobody):
    default_loggers(str(nobody / "runs"), "x")
    assert not (nobody / "runs").exists()


def test_the_command_that_uploads_names_the_newest_run(tmp_path):
    assert sync_command(tmp_path) is None
    for name in ("offline-run-20260101_000000-a", "offline-run-20260102_000000-b"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    assert sync_command(tmp_path) == f"wandb sync {tmp_path}/wandb/offline-run-20260102_000000-b"


ONLINE = """
import logging
from dvae.cli.loggers import default_loggers
logging.basicConfig()
_, logger = default_loggers("runs", "x")
logger.log_metrics({"a": 1.0})
logger.finalize("success")
"""


@pytest.mark.slow
@pytest.mark.parametrize("key", ["0" * 40, None])
def test_no_server_or_no_key_is_a_warning(key, nobody):
    # The discard port of this machine; a server that hangs is waited for longer.
    settings = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    settings |= {"WANDB_INIT_TIMEOUT": "2", "HOME": str(nobody)}
    if key:
        settings["WANDB_API_KEY"] = key
    done = subprocess.run(
        [sys.executable, "-c", ONLINE],
        cwd=nobody,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "this run is logged offline" in done.stderr
    assert list((nobody / "runs/x/version_0/wandb").glob("offline-run-*/*.wandb"))


def test_where_wandb_cannot_be_reached_the_run_is_logged_offline(nobody, monkeypatch, caplog):
    import wandb

    wandb.finish()  # what another test left open: below, its service ends

    modes = []

    class Run:
        id = "x"

        def log(self, values):
            modes.append(values)

    def init(**kwargs):
        import os

        modes.append(os.environ.get("WANDB_MODE"))
        if modes[-1] != "dryrun":
            raise wandb.errors.CommError("network is down")
        return Run()

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_MODE", "online")
    _, logger = default_loggers(str(nobody), "x")
    logger.log_metrics({"a": 1.0})
    assert modes == ["online", "dryrun", {"a": 1.0}]
    assert "wandb cannot be used (network is down); this run is logged offline" in caplog.text


def test_a_full_disk_is_no_reason_to_stop_training(nobody, monkeypatch, caplog):
    csv, _ = default_loggers(str(nobody), "x")
    csv.log_metrics({"a": 1.0}, 0)
    writer = csv.experiment
    save = writer.save

    def full():
        raise OSError(28, "No space left on device")

    writer.save = full
    csv.save()
    csv.save()
    assert caplog.text.count("No space left on device") == 1
    writer.save = save
    csv.save()
    assert "1.0" in (nobody / "x" / "version_0" / "metrics.csv").read_text()


def test_a_run_that_goes_on_keeps_its_id(nobody):
    assert default_loggers(str(nobody), "x", "abc12345")[1]._wandb_init["id"] == "abc12345"
    first, second = (default_loggers(str(nobody), "x")[1]._wandb_init["id"] for _ in range(2))
    assert first != second


def test_tensorboard_by_its_name_alone_logs_into_the_folder_of_the_run(run, monkeypatch):
    # tensorboardX names a file by the second: that of the test replaces the fit's if both are one.
    seconds = count(1_000_000_000)
    clock = SimpleNamespace(time=lambda: float(next(seconds)))
    monkeypatch.setattr("tensorboardX.event_file_writer.time", clock)
    run("--trainer.logger", "TensorBoardLogger")
    (events,) = {path.parent for path in Path.cwd().rglob("events.out.tfevents.*")}
    assert (events / "metrics.csv").is_file()
    written = b"".join(path.read_bytes() for path in events.glob("events.out.tfevents.*"))
    assert b"val/elbo" in written and b"hp_metric" not in written  # a panel that shows nothing


def test_tensorboard_with_settings_of_its_own_is_left_as_it_is():
    given = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "x"]
    assert in_run_folder(given) == given and in_run_folder(None) is None
    assert in_run_folder(["--trainer.logger=TensorBoardLogger"]) == ["--trainer.logger=true"]
    assert in_run_folder(["--config", "TensorBoardLogger"]) == ["--config", "TensorBoardLogger"]
