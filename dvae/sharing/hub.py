"""The Hugging Face side of a shared model; imported only where the extra is installed."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dvae.models import DiscreteVAE
from dvae.models.samples import sample_rows
from dvae.models.weights import check_weights
from dvae.plotting import labelled_rows
from dvae.runs.former import modern_settings, modern_state
from dvae.sharing.card import SAMPLES, has_samples
from dvae.sharing.config import build_model

__all__ = ["SharedModel"]

WEIGHTS = "model.safetensors"


class SharedModel(ModelHubMixin, library_name="dvae"):
    """A model as the Hub's mixin wants it: weights in safetensors, settings in ``config.json``.

    Attributes:
        model: The model.
        card: Its card.
    """

    model: DiscreteVAE
    card: str

    def _save_pretrained(self, save_directory: Path) -> None:
        # Cloned: safetensors refuses tensors that share memory.
        state = {
            n: t.detach().cpu().contiguous().clone() for n, t in self.model.state_dict().items()
        }
        save_file(state, save_directory / WEIGHTS, metadata={"format": "pt"})
        # safetensors makes it readable to its owner alone.
        (save_directory / WEIGHTS).chmod(0o644)
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
        if config is None:
            raise ValueError(f"{model_id} is no shared model: it has no config.json")
        shared = cls()
        settings = copy.deepcopy(dict(config))
        modern_settings(settings.get("init_args"))
        shared.model = build_model(settings, trusted)
        path = Path(model_id) / WEIGHTS
        if not Path(model_id).is_dir():
            path = Path(hf_hub_download(model_id, WEIGHTS, **where))
        if not path.is_file():
            raise FileNotFoundError(f"{model_id} has no {WEIGHTS}")
        try:
            state = modern_state(load_file(path))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is cut short or damaged: get it anew") from error
        check_weights(shared.model, state).require(f"{path} is of another model")
        shared.model.load_state_dict(state)
        return shared

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return our card instead of the mixin's template."""
        return ModelCard(self.card)
