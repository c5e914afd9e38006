"""What the reference shows: the public names of packages, their docstrings as pages are written."""

import inspect
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
# A name, and of a class perhaps what it has.
NAME = re.compile(r"(?<!`)`([A-Z]\w+)((?:\.\w+)*)`(?!`)")

PACKAGES = {
    found.name: import_module(f"dvae.{found.name}")
    for found in pkgutil.iter_modules(dvae.__path__)
    if found.ispkg
}
CLASSES = {
    public: f"dvae.{name}.{public}"
    for name, package in PACKAGES.items()
    for public in package.__all__
    if inspect.isclass(getattr(package, public))
}


class Docstrings(griffe.Extension):
    """Rewrites docstrings, and says what each package makes public."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Write equations and links as Markdown, and the name that griffe knows of examples."""
        if obj.docstring is not None:
            text = DISPLAYED.sub(lambda m: f"$${m[1].strip()}$$", obj.docstring.value)
            text = INLINE.sub(lambda m: f"${m[1]}$", text)
            obj.docstring.value = NAME.sub(_linked, EXAMPLE.sub("Examples:", text))

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Take what is public from the packages themselves, which find it in their files."""
        for name, package in PACKAGES.items():
            module = pkg[name]
            module.exports = list(package.__all__)
            for public in module.exports:
                home = getattr(getattr(package, public), "__module__", None)
                if public not in module.members and home:
                    module.set_member(public, griffe.Alias(public, f"{home}.{public}"))


def _linked(match: re.Match[str]) -> str:
    place = CLASSES.get(match[1])
    return f"[{match[0]}][{place}]" if place else match[0]
