"""Bad input to the explorer's command is one line; good input is a page on this machine only."""

import socket
import sys

import pytest

from dvae.explore.__main__ import main
from tests.explore.conftest import CATEGORICAL, written


def refusal(capsys, *args):
    assert main([str(arg) for arg in args]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def checkpoint(tmp_path):
    return written(tmp_path / "a.ckpt", CATEGORICAL)


def test_a_port_in_use_is_said(capsys, checkpoint):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = refusal(capsys, checkpoint, "--port", port)
    assert f"cannot listen on 127.0.0.1, port {port}" in error and "--port" in error


def test_an_address_that_is_none_is_said(capsys, checkpoint, port):
    assert "--port must be within" in refusal(capsys, checkpoint, "--port", 70_000)
    assert "cannot listen on 192.0.2.1" in refusal(capsys, checkpoint, "--host", "192.0.2.1")
    assert "unrecognized arguments: --open" in refusal(capsys, checkpoint, "--open")


def test_without_gradio_the_extra_is_named(capsys, checkpoint, port, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    error = refusal(capsys, checkpoint, "--port", port)
    assert 'this needs gradio: pip install "dvae[explore]"' in error


def test_a_checkpoint_or_folder_that_is_none_is_said(capsys, checkpoint, port, tmp_path):
    pytest.importorskip("gradio", reason="gradio is not installed")
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(checkpoint.read_bytes()[:-99])
    assert "cut.ckpt is cut short" in refusal(capsys, cut, "--port", port)
    assert "there is no checkpoint" in refusal(capsys, tmp_path / "gone.ckpt", "--port", port)
    gone = tmp_path / "gone"
    assert "there is no folder" in refusal(capsys, checkpoint, "--data", gone, "--port", port)
