"""The embedded task against scikit-learn's own reading of it."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.metrics import log_loss

from alss_ray.oracles.base import ImageBatch
from alss_ray.tasks import Digits, TaskData
from alss_ray.tasks.base import to_bytes, to_unit


@pytest.fixture(scope="module")
def data() -> TaskData:
    return Digits().load()


def labels_of(data: TaskData, indices: torch.Tensor) -> torch.Tensor:
    return data.oracle.label(ImageBatch(data.images[indices], indices)).values


def test_all_digits_are_there_once_each_with_its_label(data: TaskData) -> None:
    assert (len(data.images), len(data.test_images)) == (1347, 450)
    images = torch.cat([data.images, data.test_images])
    targets = torch.cat([labels_of(data, torch.arange(1347)), data.test_targets])
    grey = np.rint(images.numpy().reshape(-1, 64) / 255 * 16).astype(int)
    ours = sorted((*row, target) for row, target in zip(grey.tolist(), targets.tolist(), strict=True))
    theirs = load_digits()
    rows = theirs.data.astype(int).tolist()
    assert ours == sorted((*row, target) for row, target in zip(rows, theirs.target.tolist(), strict=True))


def test_images_are_bytes_of_the_right_shape(data: TaskData) -> None:
    assert data.images.dtype == data.test_images.dtype == torch.uint8
    assert data.image_shape == (1, 8, 8)
    assert data.test_targets.dtype == torch.int64
    assert (data.images.min(), data.images.max()) == (0, 255)


def test_the_test_set_is_one_fixed_draw_with_every_class(data: TaskData) -> None:
    torch.manual_seed(5)
    again = Digits().load()
    assert torch.equal(again.test_images, data.test_images)
    assert again.fingerprint() == data.fingerprint()
    assert data.test_targets.bincount(minlength=10).min() >= 30


@pytest.mark.parametrize("part", ["images", "test_images", "test_targets"])
def test_the_fingerprint_sees_a_single_value(data: TaskData, part: str) -> None:
    changed = {name: getattr(data, name) for name in ("images", "test_images", "test_targets", "oracle")}
    changed[part] = changed[part].clone()
    changed[part].view(-1)[7] += 1
    assert TaskData(**changed).fingerprint() != data.fingerprint()


def test_the_fingerprint_sees_the_shape(data: TaskData) -> None:
    reshaped = TaskData(data.images.view(-1, 1, 4, 16), data.test_images, data.test_targets, data.oracle)
    assert reshaped.fingerprint() != data.fingerprint()


def test_the_oracle_refuses_what_is_not_in_the_data_set(data: TaskData) -> None:
    indices = torch.tensor([3, -1, 5])
    labels = data.oracle.label(ImageBatch(data.images[indices], indices))
    assert [*labels.refusals] == [1]
    assert labels.values[[0, 2]].tolist() == labels_of(data, torch.tensor([3, 5])).tolist()


def test_the_network_has_the_size_it_says() -> None:
    network = Digits().network()
    assert sum(p.numel() for p in network.parameters()) == 38_282
    assert "38,282" in (Digits.network.__doc__ or "")
    assert network(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_the_network_is_drawn_from_the_global_stream() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(torch.cat([p.flatten() for p in Digits().network().parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_loss_and_score_of_each_sample() -> None:
    outputs = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(40) % 10
    task = Digits()
    shares = outputs.double().softmax(1).numpy()
    for k, (loss, score) in enumerate(
        zip(task.loss(outputs, targets), task.score(outputs, targets), strict=True)
    ):
        assert loss.item() == pytest.approx(
            log_loss([targets[k]], shares[k : k + 1], labels=range(10)), rel=1e-5
        )
        assert score.item() == float(shares[k].argmax() == targets[k])


def test_the_guess_is_that_of_a_dummy_classifier(data: TaskData) -> None:
    targets = data.test_targets
    images = np.zeros((len(targets), 1))
    dummy = DummyClassifier(strategy="most_frequent").fit(images, targets)
    assert Digits().guess(images, targets) == pytest.approx(dummy.score(images, targets))


def test_bytes_and_units_are_each_others_inverse() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    unit = to_unit(every)
    assert unit.dtype == torch.float32
    assert (unit.min(), unit.max()) == (0, 1)
    assert torch.equal(to_bytes(unit), every)
    assert to_bytes(torch.tensor([-0.5, 1.7, 0.499 / 255, 0.501 / 255])).tolist() == [0, 255, 0, 1]
    assert torch.equal(every, torch.arange(256, dtype=torch.uint8))
