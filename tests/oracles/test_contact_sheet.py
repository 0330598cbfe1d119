"""The contact sheet in a real browser: classes are given by clicks and keys, and come back through the saved file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium import chromium

from alss_ray.oracles.base import Why
from alss_ray.oracles.folder import FolderAnnotators
from alss_ray.oracles.people import Classes, Maps, Suggestion, Wanted

HOSTILE = '<img src=x onerror="document.title=1">, "quoted"'


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


def asked(
    folder: Path, wanted: Wanted, predicted: torch.Tensor | None = None, count: int = 4
) -> FolderAnnotators:
    annotators = FolderAnnotators(folder / "inbox", wanted, f"Which of {HOSTILE}?")
    images = np.random.default_rng(0).integers(0, 255, (count, 1, 8, 8), dtype=np.uint8)
    why = Why(0.25, predicted, 0.5)
    annotators.ask(
        [Suggestion(f"{k:064x}", image, k, HOSTILE, "e", 1, why) for k, image in enumerate(images)]
    )
    return annotators


def opened(browser: Any, annotators: FolderAnnotators) -> Any:
    browser.get((annotators.inbox / "001-round-1" / "index.html").as_uri())
    return lambda css: browser.find_elements("css selector", css)


def test_classes_given_by_clicks_and_keys_come_back(browser: Any, tmp_path: Path) -> None:
    annotators = asked(tmp_path, Classes(("0", "1", HOSTILE)), torch.tensor(1))
    batch = annotators.inbox / "001-round-1"
    found = opened(browser, annotators)
    assert "Which of <img" in found("h1")[0].text
    assert not found("h1 img")
    assert "The network says 1, margin 0.50; gradient 0.25" in found(".why")[0].text
    assert not found("#save")[0].is_enabled()
    cards = found("article")
    cards[0].find_elements("css selector", "button")[2].click()
    cards[1].find_elements("css selector", "button")[0].click()
    cards[1].find_elements("css selector", "button")[0].click()  # taken back
    browser.execute_script("arguments[0].focus()", cards[2])
    browser.switch_to.active_element.send_keys("1")
    browser.switch_to.active_element.send_keys("0")  # the next image is at hand
    assert found("#count")[0].text == "3"
    browser.refresh()
    assert found("#count")[0].text == "3", "a closed window loses nothing"
    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(batch)})
    found("#save")[0].click()
    until = time.monotonic() + 30
    while not (batch / "labels.csv").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not browser.get_log("browser")
    returned = annotators.returned()
    assert not returned.complaints
    labels = {int(key, 16): int(verdict.value) for key, verdict in returned.verdicts.items()}  # type: ignore[arg-type]
    assert labels == {0: 2, 2: 1, 3: 0}


def test_many_classes_are_a_list(browser: Any, tmp_path: Path) -> None:
    found = opened(browser, asked(tmp_path, Classes(tuple(f"class {k}" for k in range(30))), torch.tensor(7)))
    assert len(found("article select")) == 4
    browser.execute_script(
        "const list = document.querySelector('select'); list.value = 'class 9'; list.dispatchEvent(new Event('change'))"
    )
    assert found("#count")[0].text == "1"
    assert not browser.get_log("browser")


def test_maps_are_shown_beside_their_images(browser: Any, tmp_path: Path) -> None:
    stress = torch.linspace(0, 143, 64).reshape(1, 8, 8)
    found = opened(browser, asked(tmp_path, Maps((8, 8), "kPa"), stress))
    assert len(found("article img")) == 8
    assert "predicted, 0 to 143 kPa" in found("figcaption")[0].text
    assert "a map of 8 x 8 pixels" in found("header")[0].text
    assert not browser.get_log("browser")
