"""The checkpoints of a run come in the order of their steps, and only those of one model."""

import pytest

from dvae.explore import load_snapshots
from tests.explore.conftest import CATEGORICAL, GRID, written

TURNED = {
    **CATEGORICAL,
    "init_args": {
        **CATEGORICAL["init_args"],
        "bottleneck": {
            "class_path": "dvae.bottlenecks.CategoricalBottleneck",
            "init_args": {"num_latents": 5, "num_codes": 4},
        },
    },
}


@pytest.fixture
def folder(tmp_path):
    for step, tau in ((300, 0.1), (20, 1.0), (100, 0.5)):
        written(tmp_path / "checkpoints" / f"at{step}.ckpt", CATEGORICAL, step, tau, seed=step)
    return tmp_path / "checkpoints"


def test_they_come_in_the_order_of_their_steps_each_once_with_its_temperature(folder):
    for paths in (
        [folder],
        [folder.parent],
        sorted(folder.iterdir()),
        [folder / "at300.ckpt", folder],
    ):
        snapshots, left_out = load_snapshots(paths)
        assert [s.step for s in snapshots] == [20, 100, 300]
        assert [s.scalars["tau"] for s in snapshots] == pytest.approx([1.0, 0.5, 0.1])
        assert snapshots[1].title == "step 100, τ 0.5, β 1 (at100.ckpt)"
        assert not left_out and not any(s.model.training for s in snapshots)


def test_a_checkpoint_cut_short_is_refused_by_name_and_left_out_of_a_folder(folder):
    cut = folder / "cut.ckpt"
    cut.write_bytes((folder / "at20.ckpt").read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cut\.ckpt is cut short or damaged"):
        load_snapshots([folder / "at20.ckpt", cut])
    snapshots, left_out = load_snapshots([folder])
    assert len(snapshots) == 3 and len(left_out) == 1 and "cut.ckpt" in left_out[0]


@pytest.mark.parametrize(("config", "problem"), [(GRID, "a code of shape"), (TURNED, "a code of")])
def test_another_model_is_refused(folder, config, problem):
    path = written(folder.parent / "other.ckpt", config)
    with pytest.raises(
        ValueError, match=rf"other\.ckpt is of another model than .*at20.*{problem}"
    ):
        load_snapshots([folder / "at20.ckpt", path])


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint .*gone"):
        load_snapshots([tmp_path / "gone.ckpt"])
    with pytest.raises(FileNotFoundError, match="has no checkpoints"):
        load_snapshots([tmp_path])
    (tmp_path / "a.ckpt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no checkpoint in .* can be shown"):
        load_snapshots([tmp_path])
