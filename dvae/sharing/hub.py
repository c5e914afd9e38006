"""The Hugging Face side of a shared model; imported only where the extra is installed."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from safetensors.torch import save_file

from dvae.models import DiscreteVAE
from dvae.models.samples import sample_rows
from dvae.plotting import labelled_rows
from dvae.sharing.card import SAMPLES, has_samples
from dvae.sharing.folder import WEIGHTS, model_of

__all__ = ["SharedModel"]


class SharedModel(ModelHubMixin, library_name="dvae"):
    """A model as the Hub's mixin wants it: weights in safetensors, settings in ``config.json``.

    Attributes:
        model: The model.
        card: Its card.
        license: Identifier of its licence, or ``""``.
        files: Files that go with the card, by name.
    """

    model: DiscreteVAE
    card: str
    license: str
    files: Mapping[str, Path]

    def _save_pretrained(self, save_directory: Path) -> None:
        # Cloned: safetensors refuses tensors that share memory.
        state = {
            n: t.detach().cpu().contiguous().clone() for n, t in self.model.state_dict().items()
        }
        save_file(state, save_directory / WEIGHTS, metadata={"format": "pt"})
        # safetensors makes it readable to its owner alone.
        (save_directory / WEIGHTS).chmod(0o644)
        for name, path in self.files.items():
            shutil.copyfile(path, save_directory / name)
        if has_samples(self.model):
            labelled_rows(sample_rows(self.model)).save(save_directory / SAMPLES)

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls,
        *,
        model_id: str,
        config: Mapping[str, Any] | None = None,
        trusted: Sequence[str] = (),
        **where: Any,
    ) -> "SharedModel":
        shared = cls()
        weights = Path(hf_hub_download(model_id, WEIGHTS, **where)) if config else Path(WEIGHTS)
        shared.model = model_of(model_id, config, weights, trusted)
        return shared

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return our card instead of the mixin's template."""
        card = ModelCard(self.card)
        # A card that was kept has another, or none.
        if self.license and card.data.get("license") != self.license:
            card.data["license"] = self.license
        return card
