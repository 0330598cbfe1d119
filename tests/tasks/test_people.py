"""The options by which a task's labels come from people."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from alss_ray.config import UsageError
from alss_ray.oracles.label_forms import ChoiceForm, form_of
from alss_ray.oracles.label_studio import LabelStudio
from alss_ray.oracles.people import Maps, PeopleOracle
from alss_ray.tasks import Digits


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"oracle": "phone"}, "There is no oracle 'phone'; it can be stored, folder, label-studio"),
        ({"oracle": "label-studio"}, "--oracle label-studio needs --project"),
        ({"project": "wards"}, "--project belongs to --oracle label-studio, and the oracle is stored"),
        (
            {"oracle": "folder", "inbox": "in", "annotators": 2},
            "--annotators belongs to --oracle label-studio",
        ),
        ({"oracle": "label-studio", "project": "wards", "inbox": "in"}, "--inbox belongs to --oracle folder"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Digits(**options)


def people(**options: Any) -> PeopleOracle:
    oracle = Digits(oracle="label-studio", project="wards", **options).load().oracle
    assert isinstance(oracle, PeopleOracle)
    return oracle


def test_label_studio_is_asked_for_the_task_s_classes() -> None:
    asked = people(question="Which digit?", url="https://10.0.0.7:9000").annotators
    form = ChoiceForm(tuple("0123456789"), "Which digit?")
    assert asked == LabelStudio(form, "wards", "https://10.0.0.7:9000", 1, "majority")


@pytest.mark.parametrize("host", ["10.0.0.7", "labels.example.org"])
def test_a_token_in_the_clear_is_told(host: str) -> None:
    with pytest.warns(
        UserWarning, match=f"The token travels to http://{host}:9000 in the clear; https hides it"
    ):
        people(url=f"http://{host}:9000")
    for safe in (f"https://{host}", "http://localhost:9000", "http://127.0.0.9", "http://[::1]:80"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            people(url=safe)


def test_a_password_in_the_address_is_refused_and_not_told() -> None:
    with pytest.raises(UsageError, match="--url holds a name or a password") as caught:
        people(url="https://me:secret@labels.example.org")
    assert "secret" not in str(caught.value)


def test_labels_are_known_by_who_gives_them() -> None:
    """One annotator's labels serve whatever the way to them; several annotators' are labels of their own."""
    one = people().identity
    assert one == people(url="https://10.0.0.7:9000").identity
    panels = {people(annotators=n, disagreement=r).identity for n in (2, 3) for r in ("majority", "refuse")}
    assert len(panels | {one, people(question="Which?").identity}) == 6


def test_stress_maps_cannot_be_painted() -> None:
    with pytest.raises(UsageError, match="Nobody can paint numbers in kPa in Label Studio"):
        form_of(Maps((64, 64), "kPa"), "?")


def test_keys_of_classes() -> None:
    """A class that is one letter or digit is typed as it is called; others are numbered."""
    assert '<Choice value="7" hotkey="7"/>' in ChoiceForm(("7", "0", "x"), "?").config
    config = ChoiceForm(("a & b", *(f"class {k}" for k in range(40))), "<?>").config
    assert '<Choice value="a &amp; b" hotkey="1"/>' in config
    assert '<Choice value="class 39"/>' in config
    assert 'value="&lt;?&gt;"' in config
