"""The command line: fit, validate, test and predict from a YAML file."""

from dvae.cli.main import DVAECLI, main

__all__ = ["DVAECLI", "main"]
