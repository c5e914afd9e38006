"""Bad input, said in one line."""

import re

__all__ = ["one_line"]

_KEY = re.compile(r'(?:Parser|Validation|Problem with given class_path|Key)[^"]*"([^"]+)"')


def one_line(error: BaseException) -> str:
    """Reduce an error to one line for people.

    Args:
        error: Usually a `ValueError`, or what the parser raised with the whole history of its
            attempts in the text.
    """
    text = str(error).strip() or type(error).__name__
    return re.sub(r"\s+", " ", text)
