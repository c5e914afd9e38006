"""Trained models for others: saved, uploaded, loaded, exported."""

from dvae.sharing.load import load
from dvae.sharing.onnx import Exported, export_onnx
from dvae.sharing.pretrained import from_pretrained, push_to_hub, save_pretrained
from dvae.sharing.source import Source, load_checkpoint

__all__ = [
    "Exported",
    "Source",
    "export_onnx",
    "from_pretrained",
    "load",
    "load_checkpoint",
    "push_to_hub",
    "save_pretrained",
]
