import pytest

from dvae.cli.loggers import default_loggers, sync_command


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
