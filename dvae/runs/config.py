"""Settings of a run, read from its ``config.yaml``."""

from pathlib import Path
from typing import Any

import yaml

from dvae.runs.files import read_text

__all__ = ["read_config"]


def read_config(path: Path) -> dict[str, Any]:
    """Read the settings of a run; only plain values are made of what the file says.

    Args:
        path: File that the run has left.

    Raises:
        ValueError: The file is missing, empty or malformed; the message is one line.
    """
    text = read_text(path)
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" at line {mark.line + 1}"
        what = getattr(error, "problem", None) or "it cannot be read"
        raise ValueError(f"{path} is no plain YAML{where}: {what}") from None
    except (ValueError, RecursionError) as error:
        # A date such as 2026-13-45, say, or lists in lists without an end.
        raise ValueError(f"{path} is no plain YAML: {error}") from None
    if not isinstance(config, dict) or not config:
        got = "nothing" if config is None else f"a {type(config).__name__}"
        raise ValueError(f"{path} must hold keys with values; got {got}")
    return config
