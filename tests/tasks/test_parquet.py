"""The task on Parquet files, laid out as the Hugging Face hub does."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from alss_ray.config import UsageError
from alss_ray.oracles.base import ImageBatch
from alss_ray.tasks import Parquet
from alss_ray.testing import check_task

SIDE = 16
PIXELS = np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)
NAMES = ["owl", "bee", "ant"]
LABELS = [k % 3 for k in range(40)]


def png(k: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS[k]).save(file, "PNG")
    return file.getvalue()


def write(
    path: Path, rows: range, labels: list[object], struct: bool = True, names: list[str] | None = None
) -> None:
    images = [{"bytes": png(k), "path": f"{k}.png"} if struct else png(k) for k in rows]
    table = pa.table({"label": labels, "extra": [0.5] * len(rows), "image": images})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def task(folder: Path, **options: object) -> Parquet:
    return Parquet(**{"side": SIDE, "architecture": "lenet", "data_dir": folder, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("struct", [True, False], ids=["struct", "binary"])
@pytest.mark.parametrize("kind", ["numbers", "named numbers", "texts"])
def test_images_and_labels_are_those_of_the_files(struct: bool, kind: str, tmp_path: Path) -> None:
    labels = [NAMES[k] for k in LABELS] if kind == "texts" else LABELS
    names = NAMES if kind == "named numbers" else None
    write(tmp_path / "train-00000-of-00002.parquet", range(20), labels[:20], struct, names)
    write(tmp_path / "train-00001-of-00002.parquet", range(20, 30), labels[20:30], struct, names)
    write(tmp_path / "test-00000-of-00001.parquet", range(30, 40), labels[30:], struct, names)
    write(tmp_path / "validation-00000-of-00001.parquet", range(5), labels[:5], struct, names)
    data = task(tmp_path).load()
    assert (
        data.classes
        == {"numbers": ("0", "1", "2"), "named numbers": tuple(NAMES), "texts": ("ant", "bee", "owl")}[kind]
    )
    assert np.array_equal(torch.cat([data.images, data.test_images]).permute(0, 2, 3, 1), PIXELS)
    bought = data.oracle.label(ImageBatch(data.images, torch.arange(30))).values
    said = [data.classes[k] for k in torch.cat([bought, data.test_targets])]
    assert said == [str(k) if kind == "numbers" else NAMES[k] for k in LABELS]
    assert data.names[21].startswith("train-00001-of-00002.parquet row 1")


def test_it_conforms_and_one_file_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "all.parquet", range(40), LABELS)
    check_task(task(tmp_path / "all.parquet"))
    assert len(task(tmp_path).load().test_images) == 8


@pytest.mark.parametrize("folder", ["data/test", "test"])
def test_a_folder_may_name_the_split(folder: str, tmp_path: Path) -> None:
    write(tmp_path / "train" / "0.parquet", range(30), LABELS[:30])
    write(tmp_path / folder / "0.parquet", range(30, 40), LABELS[30:])
    assert len(task(tmp_path).load().test_images) == 10


def test_spoilt_rows_are_named(tmp_path: Path) -> None:
    labels = [9, *LABELS[1:]]
    table = {"label": labels, "image": [png(k) for k in range(40)]}
    table["image"][3] = b"no image"
    table["image"][5] = None
    table["image"][6], table["label"][6], table["label"][7] = table["image"][7], 0, 1
    features = {"label": {"names": NAMES, "_type": "ClassLabel"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(table).replace_schema_metadata(about), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="5 of 40 images cannot be used") as caught:
        task(tmp_path).load()
    for told in (
        "row 0: Its label 9 is none of the 3 classes",
        "row 3: ",
        "row 5: ",
        "row 6: It is labelled 'owl'",
    ):
        assert told in str(caught.value)
    with pytest.warns(UserWarning, match="5 of 40 images are left out"):
        data = task(tmp_path, unusable="skip").load()
    assert len(data.images) + len(data.test_images) == 35


def test_missing_labels_are_told_and_kept_apart(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", range(40), [-1, None, *LABELS[2:]])
    with pytest.raises(UsageError, match="2 of 40 images have no label"):
        task(tmp_path).load()
    assert task(tmp_path).read().targets.tolist() == [-1, -1, *LABELS[2:]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"image_column": "img"}, "has no column 'img' but label, extra, image"),
        ({"label_column": "fine_label"}, "has no column 'fine_label'"),
        ({"label_column": "extra"}, "the labels are double"),
        ({"data_dir": Path("nowhere")}, "nowhere holds no Parquet files"),
    ],
)
def test_what_cannot_be_read_is_told(options: dict[str, object], told: str, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", range(40), LABELS)
    with pytest.raises(UsageError, match=told):
        task(tmp_path, **options).load()


def test_a_file_that_is_no_parquet_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no table")
    with pytest.raises(UsageError, match=r"a\.parquet cannot be read as Parquet"):
        task(tmp_path).load()
