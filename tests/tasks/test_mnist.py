"""MNIST against the files' own bytes and torchvision's reading; what is told where files are missing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST
from torchvision.transforms.functional import to_tensor

from alss_ray.config import UsageError
from alss_ray.oracles.base import ImageBatch
from alss_ray.tasks import Mnist, TaskData
from alss_ray.tasks.base import to_unit
from alss_ray.tasks.mnist import FILES


def idx(path: Path) -> np.ndarray:
    """An IDX file as LeCun describes it: magic number, sizes, bytes."""
    content = path.read_bytes()
    sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


@pytest.fixture(scope="module")
def data(mnist_dir: Path) -> TaskData:
    return Mnist(data_dir=mnist_dir).load()


def test_images_and_labels_are_those_of_the_files(data: TaskData, mnist_dir: Path) -> None:
    raw = mnist_dir / "MNIST" / "raw"
    everything = torch.arange(60_000)
    labels = data.oracle.label(ImageBatch(data.images, everything))
    assert data.images.shape == (60_000, 1, 28, 28)
    assert data.test_images.shape == (10_000, 1, 28, 28)
    assert labels.refusals == {}
    for ours, file in (
        (data.images[:, 0], "train-images-idx3-ubyte"),
        (data.test_images[:, 0], "t10k-images-idx3-ubyte"),
        (labels.values, "train-labels-idx1-ubyte"),
        (data.test_targets, "t10k-labels-idx1-ubyte"),
    ):
        assert np.array_equal(ours.numpy(), idx(raw / file)), file
    assert data.test_targets.dtype == labels.values.dtype == torch.int64


@pytest.mark.parametrize("train", [True, False])
def test_networks_see_what_torchvision_shows(data: TaskData, mnist_dir: Path, train: bool) -> None:
    theirs, ours = MNIST(mnist_dir, train=train), data.images if train else data.test_images
    for k in (0, 1, 4321, 9999):
        image, target = theirs[k]
        torch.testing.assert_close(to_unit(ours[k]), to_tensor(image), rtol=0, atol=0)
        if not train:
            assert data.test_targets[k] == target


def test_the_network_takes_them(data: TaskData) -> None:
    network = Mnist().network()
    assert sum(p.numel() for p in network.parameters()) == 431_080
    assert network(to_unit(data.images[:3])).shape == (3, 10)


@pytest.mark.parametrize("there", [[], FILES[:1], FILES[:3]], ids=["none", "one", "three"])
def test_missing_files_are_named_with_how_to_get_them(tmp_path: Path, there: list[str]) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in there:
        (raw / name).touch()
    with pytest.raises(UsageError) as caught:
        Mnist(data_dir=tmp_path).load()
    told = str(caught.value)
    assert [name for name in FILES if name in told] == [name for name in FILES if name not in there]
    assert len(FILES) == 4
    assert all(word in told for word in (str(raw), "--data-dir", "--download"))
    assert "\n" not in told


def test_a_folder_that_does_not_exist_is_told_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data-dir"):
        Mnist(data_dir=tmp_path / "nowhere").load()
    assert [*tmp_path.iterdir()] == []
