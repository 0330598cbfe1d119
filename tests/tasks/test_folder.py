"""The reader of images and the task on a folder of them, against torchvision's ImageFolder and Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from alss_ray.config import UsageError, Waiting
from alss_ray.oracles.base import ImageBatch
from alss_ray.places import Place
from alss_ray.tasks import Folder
from alss_ray.tasks.image_files import decoded, find_images, read_images
from alss_ray.testing import check_task

SIDE = 16
RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def tree(
    folder: Path, per_class: int = 6, classes: tuple[str, ...] = ("cat", "dog"), side: int = SIDE
) -> Path:
    """Colour PNGs, each different from the others."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for k in range(per_class):
            Image.fromarray(noise(side, side, 3)).save(folder / name / f"{k}.png")
    return folder


def task(folder: Path, **options: object) -> Folder:
    return Folder(**{"side": SIDE, "data_dir": folder, **options})  # type: ignore[arg-type]


# --- the reader ------------------------------------------------------------------------------------------


def test_images_of_the_right_size_come_out_as_they_are(tmp_path: Path) -> None:
    """And in torchvision's order of files."""
    theirs = ImageFolder(str(tree(tmp_path)))
    files = find_images(tmp_path)
    assert [str(tmp_path / file.name) for file in files] == [path for path, _ in theirs.samples]
    images, faults = read_images(files, SIDE, 3)
    assert faults == {}
    assert torch.equal(images, torch.stack([pil_to_tensor(image) for image, _ in theirs]))


GREY = (np.add.outer(np.arange(SIDE) * 5, np.arange(SIDE) * 9) % 256).astype(np.uint8)


def rotated(path: Path) -> None:
    """A picture that lies on its side, with the mark (EXIF orientation 6) that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(GREY)).save(path, exif=exif)


def palette(path: Path) -> None:
    image = Image.fromarray(GREY).convert("P")
    image.save(path, transparency=b"\x00\x80\xff")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("grey.png", lambda path: Image.fromarray(GREY).save(path)),
        ("colour.png", lambda path: Image.fromarray(GREY).convert("RGB").save(path)),
        ("opaque.PNG", lambda path: Image.fromarray(GREY).convert("RGBA").save(path)),
        ("grey_alpha.png", lambda path: Image.fromarray(GREY).convert("LA").save(path)),
        ("sixteen.png", lambda path: Image.fromarray(GREY.astype(np.uint16) * 257).save(path)),
        ("sixteen.tif", lambda path: Image.fromarray(GREY.astype(np.uint16) * 257).save(path)),
        ("share.tiff", lambda path: Image.fromarray((GREY / 255).astype(np.float32)).save(path)),
        ("grey.bmp", lambda path: Image.fromarray(GREY).save(path)),
        ("lossless.webp", lambda path: Image.fromarray(GREY).convert("RGB").save(path, lossless=True)),
        ("rotated.png", rotated),
        ("palette.png", palette),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_one_picture_in_every_kind_of_file_reads_alike(
    name: str, write: Callable[[Path], None], channels: int, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (image,), faults = read_images(find_images(tmp_path), SIDE, channels)
    assert faults == {}
    assert np.array_equal(image.numpy(), np.stack([GREY] * channels))


def test_a_jpeg_reads_as_pillow_decodes_it(tmp_path: Path) -> None:
    Image.fromarray(noise(SIDE, SIDE, 3)).save(tmp_path / "a.jpeg")
    with Image.open(tmp_path / "a.jpeg") as image:
        assert np.array_equal(decoded(tmp_path / "a.jpeg", SIDE, 3), pil_to_tensor(image).numpy())


@pytest.mark.parametrize(("height", "width"), [(64, 32), (32, 64), (8, 4), (300, 150)])
def test_an_image_is_fitted_whole_with_black_borders(height: int, width: int, tmp_path: Path) -> None:
    """A white picture: its aspect and its place can be read off."""
    for suffix in ("png", "jpg"):
        Image.fromarray(np.full((height, width), 255, np.uint8)).save(tmp_path / f"a.{suffix}")
        (image,) = decoded(tmp_path / f"a.{suffix}", SIDE, 1)
        wide = width > height
        filled = slice(SIDE // 4, 3 * SIDE // 4)
        wanted = np.zeros((SIDE, SIDE))
        wanted[(filled, slice(None)) if wide else (slice(None), filled)] = 255
        assert np.abs(image - wanted).max() <= 1


def test_a_large_image_is_reduced_by_area(tmp_path: Path) -> None:
    """Stripes of one pixel become even grey, and large squares stay what they are: no aliasing."""
    stripes = np.tile(np.array([0, 255], np.uint8), (160, 80))
    squares = np.kron([[10, 200], [90, 160]], np.ones((80, 80))).astype(np.uint8)
    for array, wanted in (
        (stripes, np.full((4, 4), 128)),
        (squares, np.kron([[10, 200], [90, 160]], np.ones((2, 2)))),
    ):
        Image.fromarray(array).save(tmp_path / "a.png")
        image = decoded(tmp_path / "a.png", SIDE, 1)[0].astype(int)
        assert np.abs(image[1::4, 1::4] - wanted).max() <= 6


def truncated(path: Path) -> None:
    whole = tree(path.parent / "whole", 1) / "cat" / "0.png"
    path.write_bytes(whole.read_bytes()[:200])
    for file in (path.parent / "whole").rglob("*.png"):
        file.unlink()


def stack(path: Path) -> None:
    pages = [Image.fromarray(noise(8, 8)) for _ in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("text.png", lambda path: path.write_text("no image"), "cannot identify"),
        ("empty.jpg", lambda path: path.write_bytes(b""), "cannot identify"),
        ("truncated.png", truncated, "truncated|broken"),
        ("stack.tif", stack, "3 pictures"),
        ("float.tif", lambda path: Image.fromarray(np.full((4, 4), 7, np.float32)).save(path), "from 7 to 7"),
        (
            "vector.png",
            lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            "cannot identify",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_told(
    name: str, write: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    Image.fromarray(noise(SIDE, SIDE, 3)).save(tmp_path / "good.png")
    files = find_images(tmp_path)
    images, faults = read_images(files, SIDE, 3)
    (position,) = faults
    assert files[position].name == name
    with pytest.raises(UsageError, match=told):
        decoded(tmp_path / name, SIDE, 3)
    assert images.any(dim=(1, 2, 3)).tolist() == [file.name == "good.png" for file in files]


# --- the task --------------------------------------------------------------------------------------------


def test_classes_and_labels_are_those_of_torchvision(tmp_path: Path) -> None:
    theirs = ImageFolder(str(tree(tmp_path, 10, ("b", "a", "c"))))
    data = task(tmp_path, test_share=0.2).load()
    assert data.classes == tuple(theirs.classes)
    assert (len(data.images), len(data.test_images)) == (24, 6)
    every = torch.arange(24)
    labels = data.oracle.label(ImageBatch(data.images, every)).values
    known = {Path(path).relative_to(tmp_path).as_posix(): k for k, (path, _) in enumerate(theirs.samples)}
    for name, image, label in zip(data.names, data.images, labels, strict=True):
        picture, target = theirs[known.pop(name)]
        assert torch.equal(image, pil_to_tensor(picture))
        assert label == target
    rest = sorted((theirs[k][1], pil_to_tensor(theirs[k][0]).sum().item()) for k in known.values())
    held = zip(data.test_targets.tolist(), data.test_images.sum((1, 2, 3)).tolist(), strict=True)
    assert rest == sorted(held)


@pytest.mark.parametrize("train", ["train", "."])
def test_a_test_tree_is_the_test_set(train: str, tmp_path: Path) -> None:
    tree(tmp_path / train, 4)
    tree(tmp_path / "test", 2)
    if train == "train":
        tree(tmp_path / "raw", 3, ("ignored",))
    data = task(tmp_path).load()
    assert (len(data.images), len(data.test_images)) == (8, 4)
    assert data.test_targets.tolist() == [0, 0, 1, 1]
    assert data.classes == ("cat", "dog")


def test_it_conforms_and_its_split_is_always_the_same(tmp_path: Path) -> None:
    tree(tmp_path, 20)
    torch.manual_seed(1)
    check_task(task(tmp_path, architecture="lenet"))
    data = task(tmp_path).load()
    torch.manual_seed(2)
    assert task(tmp_path).load().fingerprint() == data.fingerprint()


class Mine(nn.Sequential):
    """A network of the user's own."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(channels * SIDE * SIDE, classes))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("architecture", ["lenet", "resnet18", "vgg16", f"{__name__}:Mine"])
def test_networks_by_name_take_the_images(architecture: str, channels: int, tmp_path: Path) -> None:
    side = 32 if architecture == "vgg16" else SIDE
    folder = tree(tmp_path, 2, ("a", "b", "c"), side)
    one = Folder(side=side, channels=channels, architecture=architecture, data_dir=folder)  # type: ignore[arg-type]
    network = one.network().eval()
    assert network(one.load().images / 255).shape[1] == 3


def test_a_user_s_own_network_is_taken_by_name(tmp_path: Path) -> None:
    assert isinstance(task(tree(tmp_path), architecture=f"{__name__}:Mine").network(), Mine)


def damaged(folder: Path) -> None:
    (folder / "cat" / "0.png").write_text("no image")


def contradiction(folder: Path) -> None:
    (folder / "dog" / "copy.png").write_bytes((folder / "cat" / "0.png").read_bytes())


def stray_test_class(folder: Path) -> None:
    tree(folder / "test", 1, ("cat", "dog", "Cat"))


@pytest.mark.parametrize(
    ("spoil", "named", "left"),
    [
        (damaged, ["cat/0.png"], 11),
        (contradiction, ["cat/0.png", "dog/copy.png"], 11),
        (stray_test_class, ["test/Cat/0.png"], 14),
    ],
)
def test_spoilt_images_are_named_and_refused_or_skipped(
    spoil: Callable[[Path], None], named: list[str], left: int, tmp_path: Path
) -> None:
    spoil(tree(tmp_path))
    with pytest.raises(UsageError, match="--unusable skip") as caught:
        task(tmp_path).load()
    with pytest.warns(UserWarning, match="are left out") as told:
        data = task(tmp_path, unusable="skip").load()
    assert len(data.images) + len(data.test_images) == left
    for name in named:
        assert name in str(caught.value)
        assert f"{name}: " in str(told[0].message)
    assert "\n" not in str(caught.value)


def test_of_many_spoilt_images_some_are_named_and_all_counted(tmp_path: Path) -> None:
    for path in tree(tmp_path, 20).glob("cat/*.png"):
        path.write_text("no image")
    with pytest.raises(UsageError, match=r"20 of 40 images.*and 10 more"):
        task(tmp_path).load()


def test_images_without_a_label_are_told(tmp_path: Path) -> None:
    Image.fromarray(noise(SIDE, SIDE)).save(tree(tmp_path) / "loose.png")
    with pytest.raises(UsageError, match=r"1 of 13 images have no label \(the first is loose.png\)"):
        task(tmp_path).load()
    read = task(tmp_path).read()
    assert read.targets.tolist() == [0] * 6 + [1] * 6 + [-1]
    assert read.names[-1] == "loose.png"


def test_people_may_be_asked_for_the_labels_of_images_that_have_none(tmp_path: Path) -> None:
    for k in range(5):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(noise(SIDE, SIDE)).save(tmp_path / "images" / f"{k}.png")
    with pytest.raises(UsageError, match="two classes or more"):
        task(tmp_path / "images", oracle="folder", inbox=tmp_path / "inbox").load()
    tree(tmp_path / "images" / "test", 2)
    asked = task(
        tmp_path / "images", oracle="folder", inbox=tmp_path / "inbox", labels=Place(tmp_path / "labels")
    )
    data = asked.load()
    assert data.names == tuple(f"{k}.png" for k in range(5))
    assert data.test_targets.tolist() == [0, 0, 1, 1]
    assert data.label_folder is not None
    with pytest.raises(Waiting):
        data.oracle.label(ImageBatch(data.images[:2], torch.arange(2)))
    assert len([*(tmp_path / "inbox").rglob("*.png")]) == 2


def test_people_see_whole_pictures_and_are_not_asked_for_known_classes(tmp_path: Path) -> None:
    Image.fromarray(noise(40, 60, 3)).save(tree(tmp_path / "images") / "wide.png")
    data = task(
        tmp_path / "images", oracle="folder", inbox=tmp_path / "inbox", labels=Place(tmp_path / "labels")
    ).load()
    every = ImageBatch(data.images, torch.arange(len(data.images)))
    with pytest.raises(Waiting, match="1 of 1 labels"):
        data.oracle.label(every)
    [shown] = (tmp_path / "inbox").rglob("*.png")
    with Image.open(shown) as theirs, Image.open(tmp_path / "images" / "wide.png") as own:
        assert np.array_equal(theirs, own)
    [batch] = (tmp_path / "inbox").glob("0*")
    (batch / "labels.csv").write_text(f"image,label\n{shown.name},dog\n")
    labels = data.oracle.label(every)
    assert labels.bought == 1
    named = dict(zip(data.names, labels.values.tolist(), strict=True))
    assert named.pop("wide.png") == 1
    assert all(label == int(name.startswith("dog/")) for name, label in named.items())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"architecture": "vgg16"}, "vgg16 needs images of 32 pixels or more"),
        ({"architecture": "lenet", "side": 12}, "lenet needs images of 16 pixels or more"),
        ({"architecture": "alexnet"}, "There is no architecture 'alexnet'"),
        ({"architecture": "no.such:Net"}, "The architecture 'no.such:Net' cannot be imported"),
        ({"test_share": 1.0}, "test_share is 1.0"),
        ({"side": 2}, "side is 2"),
    ],
)
def test_options_that_cannot_be_are_told_before_anything_is_read(
    options: dict[str, object], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        task(Path("nowhere"), **options)


def test_folders_that_hold_nothing_are_told(tmp_path: Path) -> None:
    for folder, told in ((tmp_path, "holds no images"), (tmp_path / "nowhere", "is no folder")):
        with pytest.raises(UsageError, match=told):
            task(folder).load()
    tree(tmp_path / "one", 2, ("only",))
    with pytest.raises(UsageError, match="two classes or more; found only"):
        task(tmp_path / "one").load()
