"""The checkpoints of one run, in the order of their steps, each with its annealed values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvae.doing import doing
from dvae.models import DiscreteVAE
from dvae.models.weights import check_weights
from dvae.runs.layout import RunFolder
from dvae.scalars import annealable_scalars
from dvae.sharing import Source, from_pretrained, is_shared, load_checkpoint, shared_folder

__all__ = ["Snapshot", "load_snapshots"]

_NAMES = {"tau": "τ", "beta": "β"}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A model as it was at one step.

    Attributes:
        path: The checkpoint.
        step: Optimizer steps taken.
        scalars: What was annealed, or could have been (temperature, KL weight), by name.
        model: Model on the CPU, in evaluation mode.
    """

    path: Path
    step: int
    scalars: Mapping[str, float]
    model: DiscreteVAE

    @property
    def title(self) -> str:
        """Step, annealed values and file, for people; of a shared model the step is not known."""
        values = [f"{_NAMES.get(name, name)} {value:.3g}" for name, value in self.scalars.items()]
        steps = [] if is_shared(self.path) else [f"step {self.step}"]
        return f"{', '.join([*steps, *values])} ({self.path.name})"


def load_snapshots(
    paths: Sequence[Path], trusted: Sequence[str] = ()
) -> tuple[list[Snapshot], list[str]]:
    """Load the checkpoints of one run; no code in them is executed. All are held in memory.

    Args:
        paths: Checkpoints, folders of checkpoints, of runs or of shared models, or names of models
            that come with the package, at least one.
        trusted: Packages beside dvae whose classes they may name.

    Returns:
        The snapshots by step, each file once; and for each checkpoint of a folder that cannot be
        shown, why.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: A checkpoint that was named cannot be read or is of another model than the
            first, or a folder has none that can be read.
    """
    found: dict[Path, Snapshot] = {}
    left_out: list[str] = []
    first: Snapshot | None = None
    for path in map(shared_folder, paths):
        inside = _checkpoints(path)
        problems = []
        for file in inside:
            if file.resolve() in found:
                continue
            try:
                with doing(f"loading {file}"):
                    snapshot = _load(file, first, trusted)
            except ValueError as error:
                if file == path:
                    raise
                problems.append(str(error))
                continue
            first = first or snapshot
            found[file.resolve()] = snapshot
        if len(problems) == len(inside):
            raise ValueError(f"no checkpoint in {path} can be shown: {problems[0]}")
        left_out += problems
    return sorted(found.values(), key=lambda s: (s.step, s.path.name)), left_out


def _checkpoints(path: Path) -> list[Path]:
    if not path.is_dir() or is_shared(path):
        return [path]
    files = sorted(path.glob("*.ckpt")) or sorted(RunFolder(path).checkpoints.glob("*.ckpt"))
    if not files:
        raise FileNotFoundError(f"the folder {path} has no checkpoints (*.ckpt)")
    return files


def _load(path: Path, first: Snapshot | None, trusted: Sequence[str]) -> Snapshot:
    shared = is_shared(path)
    source = (
        Source(from_pretrained(path, trusted), {}, "") if shared else load_checkpoint(path, trusted)
    )
    model = source.model.eval()
    if first is not None:
        problem = _difference(first.model, model)
        if problem:
            raise ValueError(f"{path} is of another model than {first.path}: {problem}")
    scalars: dict[str, float] = {}
    for dotted, ref in annealable_scalars(model).items():
        name = dotted.rpartition(".")[2]
        # Two of one name are told apart by where they are.
        scalars[dotted if name in scalars else name] = float(ref.buffer)
    return Snapshot(path, source.step, scalars, model)


def _difference(one: DiscreteVAE, other: DiscreteVAE) -> str:
    # 20 latents of 10 categories have weights of the same shapes as 10 of 20.
    for what, a, b in (
        ("images of shape", one.image_shape, other.image_shape),
        ("a code of shape", one.index_shape, other.index_shape),
        ("categories", one.num_codes, other.num_codes),
        ("the bottleneck", type(one.bottleneck).__name__, type(other.bottleneck).__name__),
        ("the prior", type(one.prior).__name__, type(other.prior).__name__),
        ("the likelihood", type(one.likelihood).__name__, type(other.likelihood).__name__),
    ):
        if a != b:
            return f"{what} {a} there and {b} here"
    report = check_weights(one, other.state_dict())
    return "" if report.matches else report.problem()
