"""Trained models for others: saved, uploaded, loaded, exported."""

from dvae.sharing.folder import is_shared, shared_folder, shipped
from dvae.sharing.load import load
from dvae.sharing.onnx import Exported, export_onnx
from dvae.sharing.pretrained import from_pretrained, push_to_hub, save_pretrained
from dvae.sharing.source import Source, load_checkpoint

__all__ = [
    "Exported",
    "Source",
    "export_onnx",
    "from_pretrained",
    "is_shared",
    "load",
    "load_checkpoint",
    "push_to_hub",
    "save_pretrained",
    "shared_folder",
    "shipped",
]
