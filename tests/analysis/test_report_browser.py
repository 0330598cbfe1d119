"""analysis/report.py's page in a real browser: headless Chromium, driven through chromedriver, from a file."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import report
import synthetic
from chromium import chromium
from test_report import claimed, record

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium of its own."""
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The report of a small comparison in which one strategy's name is HTML."""
    folder = tmp_path_factory.mktemp("sweep")
    facts = {
        "data_hash": "d",
        "parameters": 1,
        "device": "cpu",
        "cpu": "p",
        "test_guess": 0.1,
        "oracle_bought": 5,
    }
    for seed in range(3):
        record(folder, synthetic.random(seed), range(1, 5), **facts)
        for k, direction in enumerate(("gradient", "random")):
            arm = synthetic.snn(seed, direction=direction)
            record(folder, arm, range(1, 5), lambda t, s=seed, k=k: 0.2 * t + 0.01 * s - 0.05 * k, strategy=HOSTILE,
                   refusal_reasons=json.dumps({HOSTILE: 1}), **facts)  # fmt: skip
    claimed(folder, {"kind": "sweep", "name": HOSTILE, "experiments": {}}, ["a/b.py", HOSTILE])
    out = folder / "report.html"
    report.report(report.ReportOptions(str(folder), str(out)))
    return out


@pytest.fixture
def opened(browser, page):
    """The page, drawn, at its usual size and in light mode."""
    emulate(browser, 1200)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    drawn = "const done = arguments[0]; window.drawn.then(() => done(''), (error) => done(String(error)));"
    assert browser.execute_async_script(drawn) == ""
    return browser


def emulate(browser, width, scheme="light", media=""):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features, "media": media})


def requested(browser):
    """What the page asked for, the page itself left out."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [
        one["request"]["url"]
        for one in sent
        if one["documentURL"].startswith("file:") and one["type"] != "Document"
    ]


def luminance(colour):
    """Relative luminance of 'rgb(r, g, b)' (WCAG 2)."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def colours(browser, selector, name="color"):
    """The computed colours of the elements that a selector finds."""
    script = (
        "return [...document.querySelectorAll(arguments[0])].map((e) => getComputedStyle(e)[arguments[1]])"
    )
    return set(browser.execute_script(script, selector, name))


def test_it_opens_from_a_file_without_a_request_or_an_error(opened):
    assert requested(opened) == []
    assert opened.get_log("browser") == []
    counts = opened.execute_script(
        "return [...document.querySelectorAll('.plot')].map("
        "(plot) => plot.querySelectorAll('[aria-roledescription=datum]').length)"
    )
    assert counts[:2] == [
        3 * 4,
        2 * 4,
    ]  # curves: three arms of four rounds; differences: without the baseline
    assert counts[2] > 1


def test_text_from_the_records_is_text_and_nothing_else(opened):
    assert opened.title.startswith(HOSTILE)
    assert opened.execute_script("return document.querySelectorAll('img, [onerror]').length") == 0
    keys = opened.execute_script(
        "return [...document.querySelectorAll('#curves .keys span')].map((e) => e.textContent)"
    )
    assert f"{HOSTILE}, direction=gradient" in ", ".join(keys).replace("iterations=100, ", "")
    # The tooltip too is filled with text.
    hover(opened, "curves-chart", 4)
    assert (
        opened.execute_script("return document.querySelector('.vg-tooltip').querySelectorAll('img').length")
        == 0
    )
    assert HOSTILE in opened.find_element("css selector", ".vg-tooltip").text


def hover(browser, chart, k):
    from selenium.webdriver import ActionChains

    mark = browser.find_elements("css selector", f"#{chart} [aria-roledescription=datum]")[k]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(browser).move_to_element(mark).perform()


def tooltip(browser):
    told = browser.find_element("css selector", ".vg-tooltip")
    return told.text if told.is_displayed() else ""


def test_tooltips_show_by_pointer_and_by_keyboard(opened):
    from selenium.webdriver import Keys

    hover(opened, "curves-chart", 1)
    pointed = tooltip(opened)
    assert "training labels bought" in pointed
    assert "20" in pointed
    assert "standard deviation" in pointed
    plot = opened.find_element("id", "curves-chart")
    plot.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert tooltip(opened) == pointed
    live = plot.find_element("xpath", "../p[@aria-live]")
    assert "training labels bought: 20" in live.get_attribute("textContent")
    first = live.get_attribute("textContent")
    plot.send_keys(Keys.ARROW_DOWN)  # the next series
    assert live.get_attribute("textContent") != first
    assert HOSTILE in live.get_attribute("textContent")
    plot.send_keys(Keys.ESCAPE)
    assert tooltip(opened) == ""


def test_series_are_hidden_and_shown_by_their_keys(opened):
    count = "return document.querySelectorAll('#curves-chart [aria-roledescription=datum]').length"
    key = opened.find_element("css selector", "#curves .keys button")
    opened.execute_script("arguments[0].focus()", key)
    key.send_keys(" ")
    assert key.get_attribute("aria-pressed") == "false"
    wait(opened, f"{count} === 8")
    key.send_keys(" ")
    wait(opened, f"{count} === 12")


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda b: b.execute_script(condition))


def test_series_are_told_apart_by_more_than_colour(opened):
    shapes = opened.execute_script(
        "return [...document.querySelectorAll('#curves .keys .mark')].map((e) => e.getAttribute('d'))"
    )
    dashes = opened.execute_script(
        "return [...document.querySelectorAll('#curves .keys .line')].map((e) => e.getAttribute('stroke-dasharray'))"
    )
    assert len(set(shapes)) == len(set(dashes)) == 3
    drawn = opened.execute_script(
        "return [...document.querySelectorAll('#curves-chart .mark-line path')].map("
        "(line) => line.getAttribute('stroke-dasharray'))"
    )
    assert len(set(drawn)) == 3


def test_tables_sort_by_number_and_by_text(opened):
    table = opened.find_element("css selector", "#best table")

    def column(k):
        return [
            row.find_elements("tag name", "td")[k].text
            for row in table.find_elements("css selector", "tbody tr")
        ]

    headings = table.find_elements("css selector", "th button")
    names = [heading.text for heading in headings]
    for name, numeric in (("test", True), ("direction", False)):
        at = next(k for k, text in enumerate(names) if text.startswith(name))
        key = (lambda text: float(text.split()[0])) if numeric else lambda text: text.strip("–")
        headings[at].click()
        assert column(at) == sorted(column(at), key=key, reverse=numeric)
        headings[at].send_keys("\n")  # by keyboard, the other way round
        assert column(at) == sorted(column(at), key=key, reverse=not numeric)
        cell = table.find_elements("tag name", "th")[at]
        assert cell.get_attribute("aria-sort") == ("ascending" if numeric else "descending")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_in_dark(opened, scheme):
    emulate(opened, 1200, scheme)
    (paper,) = colours(opened, "body", "backgroundColor")
    assert (luminance(paper) > 0.5) == (scheme == "light")
    texts = colours(opened, "p, td, th, a, li, summary, h1, h2, code, figcaption")
    assert min(contrast(text, paper) for text in texts) >= 4.5
    labels = colours(opened, ".plot text", "fill")
    assert min(contrast(label, paper) for label in labels) >= 4.5
    lines = colours(opened, ".plot .mark-line path", "stroke") | colours(opened, ".keys .mark", "fill")
    assert min(contrast(line, paper) for line in lines) >= 3


def test_a_phone_scrolls_down_only(opened):
    emulate(opened, 340)
    opened.refresh()
    wait(opened, "return document.querySelectorAll('.plot svg').length === 3")
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 340
    widths = opened.execute_script(
        "return [...document.querySelectorAll('.plot svg')].map((e) => e.getBoundingClientRect().width)"
    )
    assert max(widths) <= 340 - 16


def test_it_prints_on_white_with_its_commands(opened):
    emulate(opened, 1200, "dark", "print")
    assert colours(opened, "h1") == {"rgb(27, 31, 36)"}
    assert not opened.find_element("tag name", "nav").is_displayed()
    printed = base64.b64decode(
        opened.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.7})["data"]
    )
    assert printed.startswith(b"%PDF")
    assert len(printed) > 30_000
    assert opened.find_element("css selector", "details.again code").is_displayed()


def test_it_is_walked_through_by_keyboard(opened):
    """Tab reaches the link that skips the sections' list first, then headings, charts and keys."""
    from selenium.webdriver import Keys

    reached = []
    for _ in range(60):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(
            opened.execute_script("const e = document.activeElement; return e.className || e.tagName")
        )
    assert reached[0] == "skip"
    assert "plot" in " ".join(reached)
    assert "scroll" in reached
    outline = colours(opened, ":focus-visible", "outlineStyle")
    assert outline == {"solid"}
