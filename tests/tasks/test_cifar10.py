"""CIFAR-10 against torchvision's reading of the same files; what is told where they are missing or are not those."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.datasets import CIFAR10
from torchvision.transforms.functional import normalize, to_tensor

from alss_ray.config import UsageError
from alss_ray.oracles.base import ImageBatch
from alss_ray.tasks import Cifar10, TaskData
from alss_ray.tasks.base import to_unit
from alss_ray.tasks.cifar10 import CLASSES, DEVIATION, FOLDER, MEAN


@pytest.fixture(scope="module")
def data(cifar10_dir: Path) -> TaskData:
    return Cifar10(data_dir=cifar10_dir).load()


def test_images_and_labels_are_those_that_torchvision_unpickles(data: TaskData, cifar10_dir: Path) -> None:
    train, test = (CIFAR10(cifar10_dir, train=part) for part in (True, False))
    labels = data.oracle.label(ImageBatch(data.images, torch.arange(50_000)))
    assert labels.refusals == {}
    for images, targets, theirs in (
        (data.images, labels.values, train),
        (data.test_images, data.test_targets, test),
    ):
        assert torch.equal(images, torch.from_numpy(theirs.data).permute(0, 3, 1, 2))
        assert targets.tolist() == theirs.targets
        assert targets.dtype == torch.int64
    assert data.classes == CLASSES == tuple(train.classes)


def test_networks_see_what_is_usual(data: TaskData, cifar10_dir: Path) -> None:
    """torchvision's to_tensor and normalize; mean and deviation are those of the training images."""
    first, _ = Cifar10().network().children()
    image, _ = CIFAR10(cifar10_dir, train=False)[7]
    torch.testing.assert_close(
        first(to_unit(data.test_images[7:8]))[0], normalize(to_tensor(image), MEAN, DEVIATION)
    )
    values = torch.arange(256) / 255
    shares = torch.stack([data.images[:, k].flatten().bincount(minlength=256) for k in range(3)]) / (
        50_000 * 1024
    )
    means = shares @ values
    assert means.tolist() == pytest.approx(MEAN, abs=5e-5)
    assert (shares @ values.square() - means.square()).sqrt().tolist() == pytest.approx(DEVIATION, abs=1e-4)


@pytest.mark.parametrize("architecture", ["vgg16", "resnet18", "lenet"])
def test_networks_take_the_images(data: TaskData, architecture: str) -> None:
    network = Cifar10(architecture=architecture, augment=True).network()
    assert network(to_unit(data.images[:4])).shape == (4, 10)


def test_missing_files_are_named_with_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "data_batch_3").touch()
    with pytest.raises(UsageError) as caught:
        Cifar10(data_dir=tmp_path).load()
    told = str(caught.value)
    assert all(
        word in told for word in ("data_batch_1, data_batch_2, data_batch_4", "--data-dir", "--download")
    )
    assert "data_batch_3" not in told


def test_a_file_that_was_changed_is_refused_and_not_run(cifar10_dir: Path, tmp_path: Path) -> None:
    """A pickle that would make a folder when it is loaded stands in the place of a batch."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    for path in (cifar10_dir / FOLDER).iterdir():
        (folder / path.name).symlink_to(path)
    made = tmp_path / "made"
    (folder / "data_batch_2").unlink()
    (folder / "data_batch_2").write_bytes(f"cos\nmkdir\n(V{made}\ntR.".encode())
    with pytest.raises(UsageError, match="data_batch_2 is not the published file"):
        Cifar10(data_dir=tmp_path).load()
    assert not made.exists()
