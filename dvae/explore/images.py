"""Images to look at: the test split of a data set, a folder, or a file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from dvae.data import DATA_SETS, MNIST, ImageDataModule, ImageFolder, Images
from dvae.data.batch import as_pixels
from dvae.data.folder_layout import find_images
from dvae.data.images import class_name
from dvae.data.reading import ImageReader, common_bits, size_of
from dvae.runs.config import read_config
from dvae.runs.former import modern_data
from dvae.runs.layout import CONFIG, RunFolder
from dvae.runs.trust import allowed, build, class_of

__all__ = ["Gallery", "image_size", "load_gallery", "read_image"]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Gallery:
    """Images by number.

    Attributes:
        name: Name of the data set, for people.
        size: How many there are, at least one.
        read: Number to pixels in [0, 1], ``(C, H, W)``, and what the image is called.
        open: Reads a file that is not among them as they are read, to pixels of the same shape, or
            of the shape that is given beside it.
        class_names: Names of the classes, in order, where the data set has them.
        label: Number to the class of an image in words; empty where it has none.
    """

    name: str
    size: int
    read: Callable[[int], tuple[Tensor, str]]
    open: Callable[..., Tensor]
    class_names: Sequence[str] | None = None
    label: Callable[[int], str] = lambda number: ""

    def __getitem__(self, number: int) -> tuple[Tensor, str]:
        """Read an image.

        Args:
            number: Number in [0, size).

        Returns:
            Pixels in [0, 1], ``(C, H, W)``, and what the image is called.

        Raises:
            ValueError: There is no such image, or it cannot be read.
        """
        if not 0 <= number < self.size:
            raise ValueError(f"the image must be in [0, {self.size}) of {self.name}; got {number}")
        return self.read(number)


def load_gallery(
    shape: Shape,
    checkpoint: Path,
    data: Path | None = None,
    trusted: Sequence[str] = (),
) -> Gallery:
    """Open the images that go with a model.

    Args:
        shape: Channels, height and width that the model wants.
        checkpoint: Checkpoint of the model: where its run has left its settings, the run's data set
            is taken.
        data: Folder of a run, whose data set is taken, or a folder of images, which are cut and
            scaled to the shape; the run's own data by default, or else the bundled MNIST.
        trusted: Packages beside dvae whose data sets the settings of a run may name.

    Raises:
        FileNotFoundError: There is no such folder, or a file of the data set is missing.
        ValueError: The images are of another shape, or the settings describe no data set.
    """
    if data is not None and not data.is_dir():
        raise FileNotFoundError(f"there is no folder {data}: --data is that of a run or of images")
    run = RunFolder.of_checkpoint(checkpoint.resolve()) if data is None else RunFolder(data)
    if run.config.is_file():
        module = _data_of(run.config, trusted)
    elif data is None:
        module = MNIST()
    else:
        return _folder(data, shape)
    if tuple(module.image_shape) != tuple(shape):
        raise ValueError(
            f"{module.name} has images of {_words(module.image_shape)} and the model wants "
            f"{_words(shape)}: name a folder of a run or of images with --data"
        )
    return _test_split(module)


def read_image(path: Path, shape: Shape) -> Tensor:
    """Read an image file as a model wants it: as training reads one, on white.

    Args:
        path: The file.
        shape: Channels (1 for grayscale, 3 for colour), height and width.

    Returns:
        Pixels in [0, 1], ``(C, H, W)``.

    Raises:
        ValueError: The file is not an image, or is damaged or huge, or images of so many channels
            have no files.
    """
    return _read(path, reader=ImageReader(shape))


def image_size(path: Path) -> tuple[int, int]:
    """Read the height and width of an image file.

    Args:
        path: The file.

    Raises:
        ValueError: The file is not an image, or is damaged or huge.
    """
    with _in_words(path):
        return size_of(path)


def _read(path: Path, shape: Shape | None = None, *, reader: ImageReader) -> Tensor:
    with _in_words(path):
        return as_pixels(replace(reader, shape=shape or reader.shape)(path))


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        reason = str(error).removeprefix(f"cannot read {path}: ")
        raise ValueError(f"{path.name} is no image that can be read: {reason}") from error


def _test_split(module: ImageDataModule) -> Gallery:
    rows = module.rows("test")
    images, labels, names = rows.images, rows.images.labels, rows.files

    def label(number: int) -> str:
        return str(class_name(int(labels[number]), module.class_names)) if module.labelled else ""

    def read(number: int) -> tuple[Tensor, str]:
        stored = images.images[number] if isinstance(images, Images) else images[number].image
        title = f"test image {number}" if names is None else names[number]
        if module.labelled:
            title += f", label {label(number)}"
        return as_pixels(stored), title

    def reads(path: Path, shape: Shape = module.image_shape) -> Tensor:
        reader = module.reader if isinstance(module, ImageFolder) else ImageReader(shape)
        return _read(path, shape, reader=reader)

    named = module.class_names if module.labelled else None
    return Gallery(f"{module.name}, test split", len(labels), read, reads, named, label)


def _folder(folder: Path, shape: Shape) -> Gallery:
    found = find_images(folder)
    root = found.roots["test"]
    paths = found.paths["test"] if found.own & {"val", "test"} else found.files
    if not paths:
        left_out = f"; it has {found.left_out}" if found.left_out else ""
        raise FileNotFoundError(f"{root} has no {CONFIG} of a run and no images{left_out}")
    reader = ImageReader(shape, bits=common_bits(paths))

    def read(number: int) -> tuple[Tensor, str]:
        return _read(paths[number], reader=reader), paths[number].relative_to(root).as_posix()

    return Gallery(f"folder {root.name}", len(paths), read, partial(_read, reader=reader))


def _data_of(path: Path, trusted: Sequence[str]) -> ImageDataModule:
    node = read_config(path).get("data")
    modern_data(node)
    if not isinstance(node, Mapping) or "class_path" not in node:
        raise ValueError(f"{path} names no data set: it has no data.class_path")
    given, packages = str(node["class_path"]), allowed(["dvae.data"], trusted)
    full = given if "." in given else f"dvae.data.{given}"
    try:
        if not issubclass(class_of(full, packages), ImageDataModule):
            raise ValueError("it is not an ImageDataModule")
    except ValueError as error:
        raise ValueError(
            f"{path} names the data set {given}, which is none of dvae's ({', '.join(DATA_SETS)}): "
            f"name a folder of images with --data ({error})"
        ) from error
    # Without what only training does to them, by classes of whatever package.
    settings = {k: v for k, v in (node.get("init_args") or {}).items() if k != "augment"}
    try:
        module: ImageDataModule = build({"class_path": full, "init_args": settings}, packages)
    except ValueError as error:
        raise ValueError(f"the data settings of {path} do not fit: {error}") from error
    return module


def _words(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
