"""The codes that a prediction writes are those of the model, also where it was interrupted."""

import shutil
from pathlib import Path

import torch

from benchmarks.fuzz.endings import checkpoint
from benchmarks.fuzz.joint import Joint
from benchmarks.fuzz.laws import Broken, check_end
from benchmarks.fuzz.session import Session, few_images, session
from benchmarks.same import newest_run
from dvae.data import Tokens

__all__ = ["check_tokens"]

_PER_SHARD = 3


def check_tokens(joint: Joint, root: Path, files: bool) -> None:
    """Write the codes of a split, and ask that they are the model's.

    Args:
        joint: The joint.
        root: Folder of its runs.
        files: Whether a folder of images is too large for memory.

    Raises:
        Broken: They are others, or those of a prediction that goes on are.
    """
    split = joint["tokens"]
    if split == "val" and joint["validate"] == "never":
        split = "test"
    folder = root / "tokens"
    run = _predict(root, folder, split, files)
    check_end(run)
    tokens = Tokens(folder)
    with few_images(files):
        expected = _codes(run)
    if not torch.equal(tokens.codes.long(), expected):
        share = float((tokens.codes.long() != expected).float().mean())
        raise Broken("tokens", f"{share:.1%} of those written are not the model's")
    shards = sorted(folder.glob("part-*.parquet"))
    before = [path.read_bytes() for path in shards]
    shards[len(shards) // 2].unlink()
    check_end(_predict(root, folder, split, files))
    if [path.read_bytes() for path in sorted(folder.glob("part-*.parquet"))] != before:
        raise Broken("tokens", "a prediction that goes on writes others")
    shutil.rmtree(folder)


def _predict(root: Path, folder: Path, split: str, files: bool) -> Session:
    config = newest_run(root) / "config.yaml"
    words = ["predict", f"--config={config}", f"--ckpt_path={checkpoint(root, 'best')}"]
    words += [f"--tokens.folder={folder}", f"--tokens.split={split}"]
    return session([*words, f"--tokens.rows_per_shard={_PER_SHARD}"], files=files)


def _codes(run: Session) -> torch.Tensor:
    """Encode the images of the split as the prediction should have."""
    assert run.trainer is not None and run.model is not None and run.data is not None
    data = run.data
    codes = []
    for batch in data.predict_dataloader():
        image = data.on_after_batch_transfer(batch, 0).image
        with run.trainer.precision_plugin.forward_context():
            codes.append(run.model.encode(image))
    return torch.cat(codes)
