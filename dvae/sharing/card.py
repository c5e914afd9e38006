"""The model card: what a shared model is, what was measured of it, how to use it."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvae.models import DiscreteVAE
from dvae.priors import FactorisedPrior

__all__ = ["CARD", "RECONSTRUCTIONS", "SAMPLES", "Facts", "has_samples", "model_card"]

CARD = "README.md"
RECONSTRUCTIONS = "reconstructions.png"
SAMPLES = "samples.png"
"""Files of the card, and of the pictures that it shows."""

# Identifiers as the Hub has them: mit, apache-2.0, cc-by-sa-4.0.
_LICENSE = re.compile(r"[\w.+-]*")
# Files beside a card that it shows or links.
_LINKED = re.compile(r"\]\(([\w.-]+)\)")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_SAID = re.compile(r"No licence was given\.|Licence: [\w.+-]+\.")

_PICTURE = f"""
![Inputs and their reconstructions]({RECONSTRUCTIONS})
"""


@dataclass(frozen=True)
class Facts:
    """What a card says of a model beside what the model itself shows.

    Args:
        figures: What was measured, by the names of a run; nothing else is claimed.
        data: What it was measured on; ``""`` where that is not known.
        trusted: Packages whose classes it is made of, which whoever loads it has to trust too.
        license: Identifier of the licence, such as ``mit``; ``""`` where none was given.
        picture: File of its reconstructions, or None.
        card: Card that it has already, which is kept with the files beside it that it shows; else
            None, and one is written.

    Raises:
        ValueError: The licence is not an identifier.
        FileNotFoundError: There is no such picture or card.
    """

    figures: Mapping[str, float]
    data: str
    trusted: Sequence[str]
    license: str
    picture: Path | None
    card: Path | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if not _LICENSE.fullmatch(self.license):
            raise ValueError(f"license must be an identifier such as mit; got {self.license!r}")
        if self.picture is not None and not self.picture.is_file():
            raise FileNotFoundError(f"there is no picture {self.picture}")
        if self.card is not None and not self.card.is_file():
            raise FileNotFoundError(f"there is no card {self.card}")

    @property
    def files(self) -> dict[str, Path]:
        """Files that go with the card, by the names it has for them."""
        named = _LINKED.findall(self.card.read_text(encoding="utf-8")) if self.card else []
        beside = {name: self.card.parent / name for name in named} if self.card else {}
        found = {name: path for name, path in beside.items() if path.is_file()}
        return found | ({RECONSTRUCTIONS: self.picture} if self.picture else {})


def model_card(name: str, model: DiscreteVAE, config: Mapping[str, Any], facts: Facts) -> str:
    """Write the card as Markdown.

    Args:
        name: Name of the model: a folder, or ``user/name`` on the Hub.
        model: The model.
        config: What it is built from.
        facts: What else it says.
    """
    if facts.card is not None:
        return _kept(facts.card.read_text(encoding="utf-8"), name, facts.license)
    shape, pixels = model.index_shape, model.likelihood.pixels
    size = "x".join(map(str, model.event_shape))
    template = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    return template.format(
        name=name,
        trusted=f", trusted={facts.trusted!r}" if facts.trusted else "",
        license_id=f"license: {facts.license}\n" if facts.license else "",
        license=f"Licence: {facts.license}." if facts.license else "No licence was given.",
        picture=_PICTURE if facts.picture else "",
        kind=type(model).__name__,
        events=f"images of {size} (channels x height x width)" if pixels else f"events of {size}",
        what="images" if pixels else "events",
        values="pixels in [0, 1]" if pixels else "events",
        integers=math.prod(shape),
        codes=model.num_codes,
        shape="x".join(map(str, shape)),
        bits=math.prod(shape) * math.log2(model.num_codes),
        parameters=sum(p.numel() for p in model.parameters()),
        prior=_prior(model, facts.figures),
        label=", label=0" if model.prior.num_classes else "",
        figures=_figures(facts, model.evaluation.iwae_samples),
        axes=", ".join(map(str, model.event_shape)),
        index=", ".join(map(str, shape)),
        config=json.dumps(config, indent=2, sort_keys=True),
    )


def _kept(card: str, name: str, license: str) -> str:
    """Say a card's name for the model, and the licence where one is given, anew."""
    title = _TITLE.search(card)
    if title:
        card = card.replace(title[0], f"# {name}", 1)
        card = card.replace(f'from_pretrained("{title[1]}"', f'from_pretrained("{name}"')
    return _SAID.sub(f"Licence: {license}.", card, count=1) if license else card


def _prior(model: DiscreteVAE, figures: Mapping[str, float]) -> str:
    prior, uniform = model.prior, f"{math.log2(model.num_codes):.3g}"
    text = f"`{type(prior).__name__}({prior.extra_repr()})`"
    found = [(s, figures.get(f"{s}/prior_bits_per_token")) for s in ("test", "val")]
    measured = [f"{bits:.3g} in {stage}" for stage, bits in found if bits is not None]
    if measured:
        text += f": bits an integer {' and '.join(measured)}, where a uniform prior takes {uniform}"
    if has_samples(model):
        by_class = ", a class a column" if prior.num_classes else ""
        text += f".\n\n![Samples{by_class}]({SAMPLES})\n\nThe picture shows samples{by_class}"
    return text


def has_samples(model: DiscreteVAE) -> bool:
    """Tell whether the card shows samples: images, of a prior that looks at the whole code.

    Args:
        model: The model.
    """
    return model.likelihood.pixels and not isinstance(model.prior, FactorisedPrior)


def _figures(facts: Facts, draws: int) -> str:
    figures = facts.figures
    where = f"Data: {facts.data}." if facts.data else "The data set was not recorded."
    if not figures:
        return f"{where} No figures were recorded for these weights."
    rows = "\n".join(f"| `{name}` | {value:.4g} |" for name, value in sorted(figures.items()))
    bound = f", and `iwae` is the bound of {draws} draws" if "test/iwae" in figures else ""
    return (
        f"{where} Nats per example, summed over pixels and positions, where nothing else is said "
        f"by the name; at hard codes, drawn from q(z given x){bound}.\n\n| name | value |\n"
        f"|---|---|\n{rows}"
    )
