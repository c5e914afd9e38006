"""A file is whole or absent, whatever happens while it is written."""

import fcntl

import pytest

from dvae.runs.files import clear_parts, whole_file, whole_files, whole_folder


class Killed(BaseException):
    pass


def tree(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("written", [0, 3])
def test_a_file_that_fails_leaves_the_older_one(tmp_path, written):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as part:
        part.write_text("older")
        assert not path.exists()
    with pytest.raises(Killed), whole_file(path) as part:
        part.write_text("newer"[:written])
        raise Killed
    assert path.read_text() == "older" and tree(tmp_path) == {"new/a.txt"}


def test_of_files_that_fail_none_appears_and_of_others_only_those_asked_for(tmp_path):
    with pytest.raises(Killed), whole_files(tmp_path / "out") as beside:
        (beside / "a.txt").write_text("half")
        raise Killed
    assert not tree(tmp_path)
    with whole_files(tmp_path / "out", only="b") as beside:
        (beside / "a.txt").write_text("left out")
        (beside / "b" / "c").mkdir(parents=True)
        (beside / "b" / "c" / "d.txt").write_text("whole")
        assert not tree(tmp_path) - {p.relative_to(tmp_path).as_posix() for p in beside.rglob("*")}
    assert tree(tmp_path) == {"out/b/c/d.txt"}


def test_a_folder_that_fails_is_not_there(tmp_path):
    with pytest.raises(Killed), whole_folder(tmp_path / "out") as beside:
        (beside / "a.txt").write_text("half")
        raise Killed
    assert not list(tmp_path.iterdir())
    with whole_folder(tmp_path / "out") as beside:
        (beside / "a.txt").write_text("whole")
    assert tree(tmp_path) == {"out/a.txt"}
    with pytest.raises(ValueError, match="out is not empty"), whole_folder(tmp_path / "out"):
        pass


def test_what_a_live_process_is_writing_stays(tmp_path):
    (tmp_path / "dead.ckpt.part").write_bytes(b"half")
    with (tmp_path / "live.ckpt.part").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        clear_parts(tmp_path)
    assert tree(tmp_path) == {"live.ckpt.part"}
