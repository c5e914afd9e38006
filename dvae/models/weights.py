"""Taking over the weights of a checkpoint, and what became of each."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dvae.runs.checkpoints import Checkpoint
from dvae.scalars import annealable_scalars

__all__ = ["WeightReport", "carry_scalar", "check_weights", "digest", "load_weights"]


PRIOR, OBJECTIVE, TABLE = "prior.", "objective.", "prior.table"
ESTIMATOR = "bottleneck.estimator."
Change = tuple[str, tuple[int, ...], tuple[int, ...]]
"""A name and two shapes: in the checkpoint and in the model."""


# Of one kind, before they are named by their parts.
_FEW = 4


@dataclass(frozen=True)
class WeightReport:
    """What became of the weights of a checkpoint, by name.

    Attributes:
        loaded: In both, of the same shape.
        missing: In the model only; they keep their fresh values.
        unexpected: In the checkpoint only; ignored.
        reshaped: In both, of different shapes (checkpoint, model); not loaded.
        grown: Loaded ones that were grown (shape in the checkpoint, shape here).
        tau: Temperature of the checkpoint, where it was taken over too.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[Change, ...]
    grown: tuple[Change, ...] = ()
    tau: float | None = None

    @property
    def matches(self) -> bool:
        """Whether every weight found its place."""
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        """Name what became of the weights, many of one part by the part."""
        return self._said(_FEW)

    def listing(self) -> str:
        """Name every weight, one a line."""
        return self._said(0)

    def _said(self, few: int) -> str:
        kinds = {
            "loaded": [(name, "") for name in self.loaded],
            "missing (fresh values kept)": [(name, "") for name in self.missing],
            "not in the model (ignored)": [(name, "") for name in self.unexpected],
            "another shape (not loaded)": [
                (name, f" {list(old)} in the checkpoint, {list(new)} here")
                for name, old, new in self.reshaped
            ],
            "grown": [(name, f" {list(old)} to {list(new)}") for name, old, new in self.grown],
        }
        lines = [f"loaded {len(self.loaded)} tensors"]
        for kind, found in kinds.items():
            if few and len(found) > few:
                lines.append(f"  {kind}: {_by_part([name for name, _ in found])}")
            else:
                lines += [f"  {kind}: {name}{shapes}" for name, shapes in found]
        if self.tau is not None:
            lines.append(f"  tau of the checkpoint: {self.tau:.4g}")
        return "\n".join(lines)

    def without(self, part: str) -> "WeightReport":
        """Leave out a part whose weights all begin anew; where some were loaded, all have to be.

        Args:
            part: Beginning of the names.
        """
        if any(name.startswith(part) for name in self.loaded):
            return self
        kinds = ("missing", "unexpected")
        kept: Any = {k: tuple(n for n in getattr(self, k) if not n.startswith(part)) for k in kinds}
        reshaped = tuple(change for change in self.reshaped if not change[0].startswith(part))
        return replace(self, **kept, reshaped=reshaped)

    def problem(self) -> str:
        """Say in one line what does not match."""
        parts = []
        if self.reshaped:
            name, old, new = self.reshaped[0]
            parts.append(f"{name} is {list(old)} there and {list(new)} here{_more(self.reshaped)}")
        if self.missing:
            parts.append(f"{self.missing[0]} is missing there{_more(self.missing)}")
        if self.unexpected:
            parts.append(f"{self.unexpected[0]} is not in this model{_more(self.unexpected)}")
        return "; ".join(parts)

    def require(self, what: str) -> None:
        """Refuse weights that do not all fit.

        Args:
            what: What is said of their source, before the problem.

        Raises:
            ValueError: Some do not fit.
        """
        if not self.matches:
            raise ValueError(f"{what}: {self.problem()}")


def check_weights(
    module: nn.Module, state_dict: Mapping[str, Tensor], ignore: Collection[str] = ()
) -> WeightReport:
    """Compare the weights of a checkpoint with a model, by name and shape.

    Args:
        module: The model.
        state_dict: The weights; what a module lists as `newer_buffers` may be missing.
        ignore: Names that are not compared.
    """
    newer = {
        f"{path}.{name}"
        for path, part in module.named_modules()
        for name in getattr(part, "newer_buffers", ())
    }
    own = {name: tensor for name, tensor in module.state_dict().items() if name not in ignore}
    reshaped = tuple(
        (name, tuple(state_dict[name].shape), tuple(tensor.shape))
        for name, tensor in own.items()
        if name in state_dict and state_dict[name].shape != tensor.shape
    )
    changed = {name for name, _, _ in reshaped}
    return WeightReport(
        loaded=tuple(n for n in own if n in state_dict and n not in changed),
        missing=tuple(n for n in own if n not in state_dict and n not in newer),
        unexpected=tuple(n for n in state_dict if n not in own),
        reshaped=reshaped,
    )


def load_weights(
    module: nn.Module,
    source: str | Path | Checkpoint,
    allow_mismatch: bool = False,
    grow: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
) -> WeightReport:
    """Take over the weights of a checkpoint, and nothing else of it (no temperature, no beta).

    Args:
        module: The model; untouched if this fails.
        source: Checkpoint, or its path.
        allow_mismatch: Whether weights may be left over, missing, or of another shape.
        grow: Turns the checkpoint's weights into those of a larger model; see `dvae.models.growth`.

    Returns:
        What became of each weight.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, nothing in it fits, or there is a mismatch that is not
            allowed. A prior or an estimator of another kind begins anew, which is what it is for.
    """
    # A temperature or a KL weight is a setting: that of this run's config, not the checkpoint's.
    settings = annealable_scalars(module)
    checkpoint = source if isinstance(source, Checkpoint) else Checkpoint(source)
    saved, path = checkpoint.content["state_dict"], checkpoint.path
    # So is an objective: what it has are scalars, and what learns in it begins anew.
    before = {
        name: tensor
        for name, tensor in saved.items()
        if name not in settings and not name.startswith(OBJECTIVE)
    }
    state_dict = before if grow is None else grow(before)
    # And so are the probabilities of a prior that does not learn, which growing goes by.
    state_dict = {name: tensor for name, tensor in state_dict.items() if name != TABLE}
    if _other_prior(module, checkpoint):  # whose tensors may have the same names and shapes
        state_dict = {n: tensor for n, tensor in state_dict.items() if not n.startswith(PRIOR)}
    report = check_weights(module, state_dict, ignore={*settings, TABLE})
    if not report.loaded:
        raise ValueError(f"nothing in {path} fits this model: {report.problem()}")
    strict = report.without(PRIOR).without(OBJECTIVE).without(ESTIMATOR)
    if not (strict.matches or allow_mismatch):
        raise ValueError(
            f"{path} is of another model: {strict.problem()} (--allow_mismatch true takes over "
            "what fits)"
        )
    module.load_state_dict({name: state_dict[name] for name in report.loaded}, strict=False)
    grown = tuple(
        (name, tuple(before[name].shape), tuple(state_dict[name].shape))
        for name in report.loaded
        if before[name].shape != state_dict[name].shape
    )
    return replace(report, grown=grown)


def carry_scalar(module: nn.Module, checkpoint: Checkpoint, name: str) -> float:
    """Take over the value that an annealed scalar has in a checkpoint.

    Args:
        module: The model, which has one scalar of that name.
        checkpoint: The checkpoint.
        name: The scalar, as ``tau``.

    Returns:
        The value.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or it and the model do not have one such scalar each.
    """
    own = [ref for key, ref in annealable_scalars(module).items() if _last(key) == name]
    saved = checkpoint.content["state_dict"]
    there = [value for key, value in saved.items() if _last(key) == name and value.dim() == 0]
    if len(own) != 1 or len(there) != 1:
        raise ValueError(
            f"there is no {name} to carry over: {checkpoint.path} has {len(there)} of that name "
            f"and this model {len(own)}"
        )
    value = float(there[0])
    own[0].range.check(name, value)
    own[0].buffer.fill_(value)
    return value


def digest(tensors: Sequence[Tensor]) -> str:
    """Return the SHA-256 of the shapes and the bytes of tensors, in hexadecimal.

    Args:
        tensors: On any device.
    """
    found = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(str(tuple(tensor.shape)).encode())
        found.update(memoryview(flat.numpy()))  # type: ignore[arg-type]
    return found.hexdigest()


def _other_prior(module: nn.Module, checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint says that its prior is of another class than the model's."""
    said = (checkpoint.content.get("hyper_parameters") or {}).get("prior")
    if not isinstance(said, Mapping) or not hasattr(module, "prior"):
        return False
    kind = type(module.prior).__name__
    return str(said.get("class_path", kind)).rpartition(".")[2] != kind


def _by_part(names: Sequence[str]) -> str:
    """Shorten a list: the part with the number of its tensors where there are several."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.split(".", 1)[0], []).append(name)
    return ", ".join(
        f"{part}.* ({len(below)})" if len(below) > 1 else below[0] for part, below in parts.items()
    )


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _more(items: tuple[Any, ...]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
