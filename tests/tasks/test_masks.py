"""Masks from files: what can be read, what is left out and told, and the resampling against block means."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alss_ray.config import UsageError
from alss_ray.tasks.masks import Masks, read_masks, resampled, wall_share

SIDE = 64
GREY = (np.add.outer(np.arange(SIDE) * 3, np.arange(SIDE) * 5) % 256).astype(np.uint8)
BINARY = GREY > 128


def read(folder: Path, side: int = SIDE, spacing: float = 0.1, wall_label: int | None = None) -> Masks:
    """Without a word on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_masks(folder, side, spacing, wall_label)


def picture(array: np.ndarray, mode: str | None = None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        image = Image.fromarray(array)
        (image.convert(mode) if mode else image).save(path)

    return write


def big_endian(path: Path) -> None:
    Image.frombytes("I;16B", (SIDE, SIDE), (GREY.astype(">u2") * 257).astype(">u2").tobytes()).save(path)


def compressed(path: Path) -> None:
    Image.fromarray(GREY).save(path, compression="tiff_lzw")


WIDE = GREY.astype(np.uint16) * 257
GREY_FILES = {
    "grey.png": picture(GREY),
    "sixteen.png": picture(WIDE),
    "colour.png": picture(GREY, "RGB"),
    "opaque.png": picture(GREY, "RGBA"),
    "grey.TIF": picture(GREY),
    "lzw.tiff": compressed,
    "sixteen.tif": picture(WIDE),
    "big_endian.tif": big_endian,
    "float.tiff": picture((GREY / 255).astype(np.float32)),
    "grey.npy": lambda path: np.save(path, GREY),
    "sixteen.npy": lambda path: np.save(path, WIDE),
    "big_endian.npy": lambda path: np.save(path, WIDE.astype(">u2")),
    "share.npy": lambda path: np.save(path, GREY / 255),
    "single.npy": lambda path: np.save(path, (GREY / 255).astype(np.float32)),
    "integers.npy": lambda path: np.save(path, GREY.astype(np.int64)),
    "one_channel.npy": lambda path: np.save(path, GREY[None]),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(GREY)),
    "grey.npz": lambda path: np.savez(path, mask=GREY),
    "packed.npz": lambda path: np.savez_compressed(path, anything=WIDE),
}
BINARY_FILES = {
    "bits.png": picture(BINARY.astype(np.uint8) * 255, "1"),
    "ones.png": picture(BINARY.astype(np.uint8)),
    "full.png": picture(BINARY.astype(np.uint8) * 255),
    "ones.tif": picture(BINARY.astype(np.uint8)),
    "bool.npy": lambda path: np.save(path, BINARY),
    "ones.npy": lambda path: np.save(path, BINARY.astype(np.uint8)),
    "ones_16.npy": lambda path: np.save(path, BINARY.astype(np.uint16)),
    "ones_float.npy": lambda path: np.save(path, BINARY.astype(np.float64)),
    "bool.npz": lambda path: np.savez(path, BINARY),
}


@pytest.mark.parametrize("name", GREY_FILES)
def test_grey_masks_of_every_kind_read_alike(name: str, tmp_path: Path) -> None:
    GREY_FILES[name](tmp_path / name)
    got = read(tmp_path)
    assert got.images.dtype == np.uint8
    assert got.images.shape == (1, 1, SIDE, SIDE)
    assert np.array_equal(got.images[0, 0], GREY)


@pytest.mark.parametrize("name", BINARY_FILES)
def test_binary_masks_of_every_kind_read_alike(name: str, tmp_path: Path) -> None:
    BINARY_FILES[name](tmp_path / name)
    assert np.array_equal(read(tmp_path).images[0, 0], BINARY * 255)


LABELS = (np.add.outer(np.arange(SIDE) // 9, np.arange(SIDE) // 7) % 4).astype(np.uint8)


def palette(path: Path) -> None:
    image = Image.fromarray(LABELS).copy()
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.save(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("map.png", picture(LABELS)),
        ("palette.png", palette),
        ("map.tif", picture(LABELS)),
        ("map.npy", lambda path: np.save(path, LABELS.astype(np.int32))),
        ("map.npz", lambda path: np.savez(path, LABELS.astype(np.float32))),
    ],
)
@pytest.mark.parametrize("label", [1, 3])
def test_of_label_maps_one_label_is_the_wall(
    name: str, write: Callable[[Path], None], label: int, tmp_path: Path
) -> None:
    write(tmp_path / name)
    assert np.array_equal(read(tmp_path, wall_label=label).images[0, 0], (label == LABELS) * 255)


def test_a_label_that_is_not_there_is_told_with_the_file(tmp_path: Path) -> None:
    picture(LABELS)(tmp_path / "with.png")
    picture(np.zeros_like(LABELS))(tmp_path / "without.png")
    with pytest.warns(UserWarning, match=r"(?s)1 of 2 masks.*without\.png.*label 2 does not occur") as told:
        got = read_masks(tmp_path, SIDE, 0.1, 2)
    assert "with.png" not in str(told[0].message).replace("without.png", "")
    assert got.groups == ("with.png",)


# --- size ------------------------------------------------------------------------------------------------


def area_mean(square: np.ndarray, side: int) -> np.ndarray:
    """Each output pixel's mean, by repeating the input so often that whole pixels fall into each."""
    whole = len(square)
    times = side // np.gcd(whole, side)
    fine = square.repeat(times, 0).repeat(times, 1)
    block = len(fine) // side
    return fine.reshape(side, block, side, block).mean((1, 3))


@pytest.mark.parametrize("whole", [64, 128, 256, 100, 96, 65, 63, 48, 32])
def test_resampling_takes_the_mean_over_each_pixels_area(whole: int) -> None:
    mask = np.random.default_rng(whole).random((whole, whole)) ** 2
    got = resampled(mask, SIDE)
    assert np.abs(got / 255 - area_mean(mask, SIDE)).max() <= 0.5 / 255 + 1e-9
    assert got.mean() / 255 == pytest.approx(mask.mean(), abs=2e-4)  # 64 x 64 independent roundings


def test_a_pixel_that_is_shared_counts_by_its_parts() -> None:
    """100 to 64, by hand: a pixel covers 25/16 of the input's, the first one whole and 9/16 of the second."""
    mask = np.zeros((100, 100))
    mask[:, 0], mask[:, 1] = 1.0, 0.5
    got = resampled(mask, SIDE)
    first, second = (16 + 9 * 0.5) / 25, 7 * 0.5 / 25
    assert (got[:, 0] == round(255 * first)).all()
    assert (got[:, 1] == round(255 * second)).all()
    assert not got[:, 2:].any()


def test_constant_masks_stay_constant() -> None:
    for whole in (37, 64, 101, 512):
        assert (resampled(np.ones((whole, whole)), SIDE) == 255).all()


@pytest.mark.parametrize("shape", [(100, 60), (60, 100), (64, 63), (31, 64), (128, 7)])
def test_masks_that_are_not_square_get_empty_borders_on_both_sides(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).random(shape)
    gaps = [max(shape) - n for n in shape]
    square = np.pad(mask, [(gap // 2, gap - gap // 2) for gap in gaps])
    assert np.abs(resampled(mask, SIDE) / 255 - area_mean(square, SIDE)).max() <= 0.5 / 255 + 1e-9


@pytest.mark.parametrize(
    ("shape", "spacing"), [((128, 128), 0.2), ((32, 32), 0.05), ((64, 64), 0.1), ((100, 60), 0.15625)]
)
def test_the_spacing_follows_the_size(shape: tuple[int, int], spacing: float, tmp_path: Path) -> None:
    """The field of view stays what it was: 0.1 mm times the longer side."""
    np.save(tmp_path / "a.npy", np.ones(shape, bool))
    assert read(tmp_path).spacing == pytest.approx(spacing)


def test_different_sizes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((64, 64), bool))
    np.save(tmp_path / "b.npy", np.ones((128, 96), bool))
    with pytest.raises(UsageError, match=r"different sizes \(64x64, 128x96\); .*\.$"):
        read_masks(tmp_path, SIDE, 0.1, None)


# --- folders ---------------------------------------------------------------------------------------------


def test_subfolders_are_groups_and_loose_files_their_own(tmp_path: Path) -> None:
    for k, name in enumerate(["b/2.png", "b/1.npy", "a/deep/1.png", "a/deep/2.tif", "a/1.png", "loose.png"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.full((SIDE, SIDE), 40 * k + 10, np.uint8)
        np.save(path, array) if path.suffix == ".npy" else picture(array)(path)
    (tmp_path / "readme.txt").write_text("not a mask")
    got = read(tmp_path)
    found = dict(zip(got.images[:, 0, 0, 0].tolist(), got.groups, strict=True))
    assert {value: group.replace("\\", "/") for value, group in found.items()} == {
        10: "b", 50: "b", 90: "a/deep", 130: "a/deep", 170: "a", 210: "loose.png",
    }  # fmt: skip
    again = read(tmp_path)
    assert np.array_equal(got.images, again.images)
    assert got.groups == again.groups


def test_a_folder_that_is_missing_or_holds_no_masks_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match=r"holds no masks; looked for .*\.png.*\.npz\.$") as told:
            read_masks(folder, SIDE, 0.1, None)
        assert str(folder) in str(told.value)


# --- damage ----------------------------------------------------------------------------------------------


def saved(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def stored(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def drawn(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, format=kind)
    return stream.getvalue()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


HALF = SIDE * SIDE // 2
DAMAGED: dict[str, bytes] = {
    "empty.png": b"",
    "empty.npy": b"",
    "empty.npz": b"",
    "text.png": b"this is no picture",
    "text.npy": b"this is no array",
    "text.npz": b"this is no archive",
    "cut.png": drawn("PNG")[: len(drawn("PNG")) // 2],
    "cut.tif": drawn("TIFF")[:HALF],
    "cut.npy": stored(GREY)[:HALF],
    "cut.npz": saved(mask=GREY)[:-30],
    "flipped.npz": flipped(saved(mask=GREY), 400),
    "header.npy": stored(GREY).replace(b"(64, 64)", b"(64, 64 "),
    "renamed.npz": stored(GREY),
    "renamed.npy": saved(mask=GREY),
    "two.npz": saved(a=GREY, b=GREY),
    "none.npz": saved(),
    "pickled.npy": stored(np.array([[1, None]], dtype=object)),
    "pickled.npz": saved(mask=np.array([[1, None]], dtype=object)),
    "words.npy": stored(np.array([["a", "b"], ["c", "d"]])),
    "fields.npy": stored(np.zeros((64, 64), [("a", "f4"), ("b", "f4")])),
    "volume.npy": stored(np.zeros((3, 64, 64))),
    "number.npy": stored(np.float64(1.0)),
    "nothing.npy": stored(np.zeros((0, 64))),
    "negative.npy": stored(np.where(BINARY, 1.0, -1.0)),
    "nan.npy": stored(np.where(BINARY, 1.0, np.nan)),
    "large.npy": stored(np.where(BINARY, 300, 0)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_and_left_out(name: str, tmp_path: Path) -> None:
    picture(GREY)(tmp_path / "good.png")
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.warns(UserWarning, match="1 of 2 masks") as told:
        got = read_masks(tmp_path, SIDE, 0.1, None)
    (message,) = [str(one.message) for one in told if "1 of 2 masks" in str(one.message)]
    sentences = message.splitlines()
    assert len(sentences) == 2, "one line a file"
    assert name in sentences[1]
    assert "good.png" not in sentences[1]
    assert got.groups == ("good.png",)
    assert np.array_equal(got.images[0, 0], GREY)


def test_a_folder_of_damaged_files_only_is_refused(tmp_path: Path) -> None:
    for name in ("cut.png", "text.npy", "nan.npy"):
        (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.warns(UserWarning, match="3 of 3"), pytest.raises(UsageError, match="None of the 3 files"):
        read_masks(tmp_path, SIDE, 0.1, None)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def test_pickled_arrays_are_never_opened(tmp_path: Path) -> None:
    folder, trap = tmp_path / "masks", tmp_path / "sprung"
    folder.mkdir()
    np.save(folder / "trap.npy", np.array([[Trap(trap)]], dtype=object), allow_pickle=True)
    with pytest.warns(UserWarning, match=r"trap\.npy"), pytest.raises(UsageError, match="None of the 1"):
        read_masks(folder, SIDE, 0.1, None)
    assert not trap.exists()
    np.load(folder / "trap.npy", allow_pickle=True)
    assert trap.exists(), "the trap must work, or this test says nothing"


def test_shares_of_every_type_have_their_own_full_scale() -> None:
    half = np.array([[0, 127, 254]])
    for kind, top in ((np.uint8, 255), (np.int32, 255), (np.float32, 255)):
        assert np.allclose(wall_share(half.astype(kind), None), half / top)
    assert np.allclose(wall_share((half * 257).astype(np.uint16), None), half / 255)
    assert np.allclose(wall_share(half / 254, None), half / 254)
    assert not wall_share(np.zeros((2, 2), np.uint8), None).any()
