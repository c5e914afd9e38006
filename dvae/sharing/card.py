"""The model card: what a shared model is, what was measured of it, how to use it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dvae.models import DiscreteVAE

__all__ = ["model_card"]

_CARD = """---
library_name: dvae
tags:
- discrete-vae
- model_hub_mixin
---

# {name}

A {kind} of dvae, a framework for discrete VAEs: images of {image} (channels x height x width)
become {integers} integers of {codes} categories each, in the shape {shape} ({bits:.0f} bits), and
images again. {parameters:,} parameters.

## Figures

{figures}

## Use

```python
from dvae.sharing import from_pretrained

model = from_pretrained("{name}"{trusted})
index = model.encode(images)  # pixels in [0, 1], (B, {axes}) to integers (B, {index})
images = model.decode(index)
images = model.sample(16)  # codes drawn from the prior
```

## Settings

```json
{config}
```
"""


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
    return _CARD.format(
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
