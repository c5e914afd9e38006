"""Which files below a folder are images, of which split and class, and what is left out."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvae.data.images import Part
from dvae.data.reading import missing_plugin, suffixes

__all__ = ["NO_CLASS", "FoundImages", "find_images"]

NO_CLASS = "(none)"
"""Name of the class of files that lie in no folder, where others do."""

# The names by which Hugging Face's `datasets` knows a split (its `data_files.py`).
_SPLITS: Mapping[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# Words that stand beside it, as in train_images, Test Set or val2017.
_BESIDE = frozenset({"set", "split", "data", "image", "images", "img", "imgs"})
# Besides all that begins with a dot: what archives, network drives and Windows leave behind.
_HIDDEN = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
# Of a folder without a test split, one file in ten is for the test.
_TEST_EVERY = 10
_NAMED = 5


@dataclass(frozen=True)
class FoundImages:
    """The images of a folder.

    Attributes:
        folder: The folder.
        roots: Folder of each split: a folder of its own, or that of all images.
        paths: Files of each split, in order of their names. There are `val` only where the folder
            has such a split.
        class_names: Folders directly below the splits, in order of their names, and `NO_CLASS`
            last where files lie beside them; empty where there are no such folders.
        own: The splits that the folder itself makes.
        left_out: What is not among them, for people; empty where nothing was left out.
    """

    folder: Path
    roots: Mapping[Part, Path]
    paths: Mapping[Part, list[Path]]
    class_names: list[str]
    own: frozenset[Part]
    left_out: str

    @property
    def files(self) -> list[Path]:
        """All files, in order of their names."""
        return sorted({path for paths in self.paths.values() for path in paths})

    def labels(self, part: Part, paths: Sequence[Path]) -> list[int]:
        """Number the classes of files.

        Args:
            part: Whose files they are.
            paths: Some of them.

        Returns:
            Places in `class_names`; 0 where there are no classes.
        """
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return [numbers.get(_class_of(path, self.roots[part]), 0) for path in paths]


def find_images(folder: Path) -> FoundImages:
    """Look through a folder, links to folders included.

    Folders named as splits (`train`, `Training`, `val2017`, `dev`, `test_images`) are these, if
    there is one to train on and no second one of the same split; what lies beside them is left out.
    Without a test split, the test is of the validation images if there are such, and otherwise of
    every tenth file, or of the last one of fewer than ten.

    Args:
        folder: Where to look.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Two folders are named as the same split.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    left_out: Counter[str] = Counter()
    files = sorted(_images(folder, left_out))
    root, splits = _own_splits(folder, files)
    roots: dict[Part, Path] = {part: root / name for part, name in splits.items()}
    paths = {part: _below(inside, files) for part, inside in roots.items()}
    if not splits:
        roots, paths = {"train": folder}, {"train": files}
    beside = len(files) - sum(map(len, paths.values()))
    left_out["{} images? beside the splits"] += beside
    if "test" not in paths and "val" in paths:
        roots["test"], paths["test"] = roots["val"], paths["val"]
    elif "test" not in paths:
        found = paths["train"]
        tested = found[_TEST_EVERY - 1 :: _TEST_EVERY] or found[1:][-1:]
        kept = set(tested)
        roots["test"], paths["test"] = roots["train"], tested
        paths["train"] = [path for path in found if path not in kept]
    names = {_class_of(path, roots[part]) for part, found in paths.items() for path in found}
    classes = sorted(names - {NO_CLASS})
    if classes and NO_CLASS in names:
        classes.append(NO_CLASS)
    return FoundImages(folder, roots, paths, classes, frozenset(splits), _say(left_out))


def _images(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Yield the images; count what else there is."""

    def closed(error: OSError) -> None:
        left_out["{} folders? that cannot be opened"] += 1

    ancestors = {str(folder): {_identity(folder)}}
    for place, folders, files in os.walk(folder, onerror=closed, followlinks=True):
        above = ancestors.pop(place)
        for name in list(folders):
            inside = os.path.join(place, name)
            if _is_hidden(name):
                left_out["{} hidden folders?"] += 1
            elif _identity(inside) in above:
                left_out["{} links? to a folder around it"] += 1
            else:
                ancestors[inside] = above | {_identity(inside)}
                continue
            folders.remove(name)
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if _is_hidden(name):
                left_out["{} hidden files?"] += 1
            elif suffix in suffixes():
                yield Path(place, name)
            elif package := missing_plugin(suffix):
                left_out[f"{{}} {suffix} (pip install {package} has them read)"] += 1
            else:
                left_out[f"{suffix or 'without a suffix'}"] += 1


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _HIDDEN


def _identity(path: str | Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _own_splits(folder: Path, files: Sequence[Path]) -> tuple[Path, dict[Part, str]]:
    """Find the folder with splits, the given one or one that is alone in it, and their names."""
    depth = len(folder.parts)
    while files:
        names = {path.parts[depth] if len(path.parts) > depth + 1 else "" for path in files}
        found: dict[Part, list[str]] = {}
        for name in sorted(names):
            if part := _split_named(name):
                found.setdefault(part, []).append(name)
        root = Path(*files[0].parts[:depth])
        if "train" in found and (len(found) > 1 or len(names) == 1):
            for part, (first, *more) in found.items():
                if more:
                    raise ValueError(
                        f"{root} has two folders for one split ({part}), {first} and {more[0]}: "
                        "rename or move one of them"
                    )
            return root, {part: names[0] for part, names in found.items()}
        if len(names) > 1 or "" in names:
            break
        depth += 1
    return folder, {}


def _split_named(name: str) -> Part | None:
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _BESIDE]
    return _SPLITS.get(words[0].removesuffix("set")) if len(words) == 1 else None


def _below(root: Path, files: Sequence[Path]) -> list[Path]:
    depth = len(root.parts)
    return [path for path in files if path.parts[:depth] == root.parts]


def _class_of(path: Path, root: Path) -> str:
    depth = len(root.parts)
    return path.parts[depth] if len(path.parts) > depth + 1 else NO_CLASS


def _say(left_out: Counter[str]) -> str:
    """Count what was left out, in words."""
    kinds = {text: count for text, count in left_out.items() if count and "{}" in text}
    words = [_plural(text, count) for text, count in sorted(kinds.items())]
    others = {text: count for text, count in left_out.items() if "{}" not in text}
    if others:
        named = sorted(others, key=lambda text: (-others[text], text))
        more = ", ..." if len(named) > _NAMED else ""
        total = sum(others.values())
        text = f"{{}} files? of other kinds ({', '.join(named[:_NAMED])}{more})"
        words.append(_plural(text, total))
    return ", ".join(words)


def _plural(text: str, count: int) -> str:
    return text.format(count).replace("s?", "" if count == 1 else "s")
