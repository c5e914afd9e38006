"""The model card: what a shared model is, what was measured of it, how to use it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvae.models import DiscreteVAE

__all__ = ["model_card"]


def model_card(
    name: str,
    model: DiscreteVAE,
    config: Mapping[str, Any],
    figures: Mapping[str, float],
    data: str,
    trusted: Sequence[str],
) -> str:
    """Write the card as Markdown.

    Args:
        name: Name of the model: a folder, or ``user/name`` on the Hub.
        model: The model.
        config: What it is built from.
        figures: What was measured, by the names of a run; nothing else is claimed.
        data: What it was measured on; ``""`` where that is not known.
        trusted: Packages whose classes it is made of, which whoever loads it has to trust too.
    """
    shape = model.index_shape
    template = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    return template.format(
        name=name,
        trusted=f", trusted={trusted!r}" if trusted else "",
        kind=type(model).__name__,
        image="x".join(map(str, model.image_shape)),
        integers=math.prod(shape),
        codes=model.num_codes,
        shape="x".join(map(str, shape)),
        bits=math.prod(shape) * math.log2(model.num_codes),
        parameters=sum(p.numel() for p in model.parameters()),
        figures=_figures(figures, data),
        axes=", ".join(map(str, model.image_shape)),
        index=", ".join(map(str, shape)),
        config=json.dumps(config, indent=2, sort_keys=True),
    )


def _figures(figures: Mapping[str, float], data: str) -> str:
    where = f"Data: {data}." if data else "The data set was not recorded."
    if not figures:
        return f"{where} No figures were recorded for these weights."
    rows = "\n".join(f"| `{name}` | {value:.4g} |" for name, value in sorted(figures.items()))
    return (
        f"{where} Nats per example, summed over pixels and positions, where nothing else is said "
        f"by the name.\n\n| name | value |\n|---|---|\n{rows}"
    )
