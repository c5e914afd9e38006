"""What the reference shows: the public names of packages, their docstrings as pages are written."""

import pkgutil
import re
from importlib import import_module
from typing import Any

import griffe

import dvae

INLINE = re.compile(r":math:`([^`]+)`")
# To the end of the paragraph.
DISPLAYED = re.compile(r"^\.\. math::(.+?)(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites docstrings, and says what each package makes public."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put dollars in place of Sphinx's marks, and the name that griffe knows of examples."""
        if obj.docstring is not None:
            text = DISPLAYED.sub(lambda m: f"$${m[1].strip()}$$", obj.docstring.value)
            text = INLINE.sub(lambda m: f"${m[1]}$", text)
            obj.docstring.value = EXAMPLE.sub("Examples:", text)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Take what is public from the packages themselves, which find it in their files."""
        for name in (found.name for found in pkgutil.iter_modules(dvae.__path__) if found.ispkg):
            package, module = import_module(f"dvae.{name}"), pkg[name]
            module.exports = list(package.__all__)
            for public in module.exports:
                home = getattr(getattr(package, public), "__module__", None)
                if public not in module.members and home:
                    module.set_member(public, griffe.Alias(public, f"{home}.{public}"))
