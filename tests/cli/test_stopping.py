"""A run that is killed or asked to stop goes on as if nothing had happened."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from dvae.callbacks import Checkpoints, RandomState, SafeCheckpointIO
from dvae.runs.checkpoints import read_checkpoint
from dvae.runs.layout import RunFolder
from dvae.runs.resume import find_last, resume_command
from tests.toy import toy_data, toy_model, toy_trainer

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_runs_that_are_killed_or_stopped_end_as_if_they_had_not_been(tmp_path):
    # In a process of its own: it forks, which a process that has computed gradients should not.
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "3", "--seed", "3"]
    command += ["--signals", "KILL", "TERM", "INT", "--models", "categorical"]
    command += ["--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert "3 of 3 resumed, final weights identical" in done.stdout, done.stdout + done.stderr
    assert "stopped by SIGTERM" in done.stdout, done.stdout
    assert "stopped by SIGINT" in done.stdout, done.stdout
    assert (tmp_path / "kills.csv").is_file()


def last_of(experiment):
    found = find_last(experiment)
    return found and found.path


def checkpoint(path, step=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"state_dict": {"w": torch.arange(5000.0)}, "global_step": step}
    SafeCheckpointIO().save_checkpoint(content, path)
    os.utime(path, (1000 + step, 1000 + step))
    return path


def test_the_newest_good_checkpoint_is_found(tmp_path, caplog):
    assert last_of(tmp_path / "none") is None
    checkpoint(tmp_path / "version_9" / "checkpoints" / "last.ckpt", 50)
    folder = tmp_path / "version_10" / "checkpoints"
    best, last = checkpoint(folder / "best.ckpt", 10), checkpoint(folder / "last.ckpt", 20)
    assert last_of(tmp_path) == last
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    (folder / "last.ckpt.part").write_bytes(b"half")
    assert last_of(tmp_path) == best
    assert f"passed over: {last} is cut short or damaged" in caplog.text
    assert not (folder / "last.ckpt.part").exists()


@pytest.mark.parametrize(("batches", "step"), [(1, None), (2, 1)])
def test_the_best_of_a_validation_within_a_step_is_no_place_to_go_on_from(tmp_path, batches, step):
    class Killed(BaseException):
        pass

    class Kill(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == batches:
                raise Killed

    trainer = toy_trainer(
        tmp_path / "version_0",
        max_epochs=1,
        accumulate_grad_batches=2,
        val_check_interval=1,
        enable_checkpointing=True,
        callbacks=[RandomState(), Checkpoints(), Kill()],
    )
    with pytest.raises(Killed):
        trainer.fit(toy_model(), datamodule=toy_data())
    assert (tmp_path / "version_0" / "checkpoints" / "best.ckpt").is_file()
    last = last_of(tmp_path)
    assert (last and read_checkpoint(last)["global_step"]) == step


def test_the_last_is_that_of_the_latest_step_whatever_looks_newest(tmp_path):
    folder = tmp_path / "version_0" / "checkpoints"
    best, last = checkpoint(folder / "best.ckpt", 10), checkpoint(folder / "last.ckpt", 20)
    checkpoint(folder / "epoch9.ckpt", 15)
    for path in (best, folder / "epoch9.ckpt"):
        os.utime(path, (9000, 9000))
    assert last_of(tmp_path) == last
    checkpoint(best, 20)  # at the end of a run they may be of one step
    os.utime(best, (9000, 9000))
    assert last_of(tmp_path) == last
    last.unlink()
    checkpoint(best, 10)
    assert last_of(tmp_path) == best
    best.unlink()
    assert last_of(tmp_path) == folder / "epoch9.ckpt"


def test_what_another_run_is_writing_is_left_alone(tmp_path):
    folder = tmp_path / "version_0" / "checkpoints"
    last = checkpoint(folder / "last.ckpt", 5)
    (folder / "best.ckpt.part").write_bytes(b"half of a killed one")
    found = []

    original = os.fsync

    def while_it_is_written(handle):
        found.append((last_of(tmp_path), sorted(p.name for p in folder.glob("*.part"))))
        original(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", while_it_is_written)
        checkpoint(last, 6)
    assert found[0] == (last, ["last.ckpt.part"])
    assert read_checkpoint(last)["global_step"] == 6
    assert not list(folder.glob("*.part"))


def test_a_file_that_was_cleared_before_it_was_locked_is_begun_again(tmp_path, monkeypatch):
    import fcntl

    lock, cleared = fcntl.flock, []

    def late(file, how):
        if not cleared:
            cleared.append(Path(file.name).unlink())
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert read_checkpoint(checkpoint(tmp_path / "last.ckpt", 7))["global_step"] == 7
    assert cleared


def test_a_run_without_a_checkpoint_goes_back_to_where_it_began(tmp_path):
    last = checkpoint(tmp_path / "version_0" / "checkpoints" / "last.ckpt", 5)
    (tmp_path / "version_1").mkdir()  # it died before it wrote its config
    assert last_of(tmp_path) == last
    (tmp_path / "version_1" / "config.yaml").write_text(f"ckpt_path: {last}\n")
    assert last_of(tmp_path) == last
    (tmp_path / "version_2").mkdir()
    (tmp_path / "version_2" / "config.yaml").write_text("ckpt_path: null\n")
    assert last_of(tmp_path) is None


def test_where_it_began_may_have_moved(tmp_path, caplog):
    last = checkpoint(tmp_path / "version_0" / "checkpoints" / "last.ckpt", 5)
    (tmp_path / "version_1").mkdir()
    gone = "elsewhere/runs/a/version_0/checkpoints/last.ckpt"
    (tmp_path / "version_1" / "config.yaml").write_text(f"ckpt_path: {gone}\n")
    assert last_of(tmp_path) == last
    assert f"{gone}, where it began, is not there: looking at the run before" in caplog.text


def write_forever(path):
    count = 0
    while True:
        count += 1
        SafeCheckpointIO().save_checkpoint({"state_dict": {"w": torch.rand(200_000)}}, path)


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path):
    path = tmp_path / "last.ckpt"
    for delay in (0.003, 0.011, 0.02, 0.033):
        writer = multiprocessing.get_context("fork").Process(target=write_forever, args=(path,))
        writer.start()
        while not path.is_file():
            time.sleep(0.001)
        time.sleep(delay)
        writer.kill()
        writer.join()
        assert read_checkpoint(path)["state_dict"]["w"].shape == (200_000,)


def test_a_full_disk_keeps_the_older_file(tmp_path, monkeypatch):
    path = checkpoint(tmp_path / "last.ckpt", 3)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        SafeCheckpointIO().save_checkpoint({"state_dict": {}}, path)
    assert read_checkpoint(path)["global_step"] == 3
    assert [p.name for p in Path(tmp_path).iterdir()] == ["last.ckpt"]


def test_the_interval_of_checkpoints_is_a_number_of_steps():
    with pytest.raises(ValueError, match="every_n_steps must be an integer >= 1 or null; got 0"):
        Checkpoints(0)


def test_the_command_names_what_has_to_be_undone():
    command = resume_command(RunFolder(Path("a b")), "last.ckpt", True)
    assert command.startswith("python train.py fit --config 'a b/config.yaml' --ckpt_path last")
    assert command.endswith("--init_from null")


def test_the_command_is_the_one_that_was_called(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/dvae", "fit"])
    assert resume_command(RunFolder(Path("run")), None, False).startswith("dvae fit --config run/")
