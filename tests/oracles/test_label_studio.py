"""People in Label Studio, against a real server.

It runs where label-studio is installed in an environment of its own, whose program stands on the PATH or in
ALSS_RAY_LABEL_STUDIO, and Label Studio's SDK beside alss_ray (pip install -e ".[label-studio]"):

    python -m venv DIR && DIR/bin/pip install label-studio
    ALSS_RAY_LABEL_STUDIO=DIR/bin/label-studio python -m pytest tests/oracles/test_label_studio.py
"""

import base64
import contextlib
import io
import itertools
import pickle
import re
import socket
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from chromium import chromium
from PIL import Image

from alss_ray import reading
from alss_ray.__main__ import run
from alss_ray.config import UsageError, Waiting
from alss_ray.oracles import label_studio
from alss_ray.oracles.base import Why
from alss_ray.oracles.cache import image_key
from alss_ray.oracles.label_forms import BrushForm, ChoiceForm, enlarged
from alss_ray.oracles.label_studio import MODEL, LabelStudio
from alss_ray.oracles.people import Suggestion
from alss_ray.oracles.studio_client import TOKEN
from alss_ray.tasks import Digits

pytest.importorskip("label_studio_sdk", reason="Label Studio's SDK is not installed (.[label-studio])")
from label_studio_server import PROGRAM, LabelStudioServer, program

if program() is None:
    pytest.skip(f"label-studio is neither on the PATH nor named by {PROGRAM}", allow_module_level=True)

DIGITS = ChoiceForm(tuple("0123456789"), "Which digit is this?")
MASKS = BrushForm((64, 64), "Paint the vessel's wall.")
titles = (f"project {number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for all tests here: its start takes most of their time."""
    running = LabelStudioServer(tmp_path_factory.mktemp("label-studio"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def second(server):
    """The token of another annotator."""
    return server.signed_up("second@example.org")


@pytest.fixture
def studio(server, tmp_path, monkeypatch):
    """Makes people of a new project, unless it is given the title of one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(TOKEN, server.token)

    def made(form=DIGITS, **options):
        return LabelStudio(form, **{"project": next(titles), "url": server.url, **options})

    return made


def suggested(count, first=0, shape=(1, 8, 8), **why):
    """Images that differ, whose keys are k0, k1, ..."""
    images = np.random.default_rng(0).integers(0, 256, (first + count, *shape), dtype=np.uint8)
    return [
        Suggestion(f"k{k}", images[k], k, "", "experiment", 3, Why(**why))
        for k in range(first, first + count)
    ]


def tasks(server, people):
    """The project's tasks by the key of their image."""
    return {task.meta["key"]: task for task in server.client().tasks.list(project=people.number)}


def chosen(name):
    return [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [name]}}]


def annotate(server, people, key, name=None, token=None, **about):
    """What the annotator's page sends: a class, or a skip."""
    words = {"result": chosen(name)} if name is not None else {"result": [], "was_cancelled": True}
    return server.client(token).annotations.create(tasks(server, people)[key].id, **words, **about).id


def labels(people):
    """Key -> class, None for a refusal."""
    verdicts = people.returned().verdicts
    return {key: None if said.value is None else int(said.value) for key, said in verdicts.items()}


def test_tasks_are_made_once_and_shown_in_order(server, studio):
    people = studio()
    later, earlier = suggested(2), suggested(3, first=2)
    people.ask(earlier)
    people.ask([*later, *earlier])
    again = studio(project=people.project)
    again.ask([*later, *earlier])
    assert (again.number, again.where) == (people.number, f"{server.url}/projects/{people.number}/data")
    found = tasks(server, people)
    assert len(found) == 5
    png = base64.b64decode(found["k1"].data["image"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), enlarged(later[1].image)[0])
    # As the annotator gets them, one after the other.
    seen = []
    while task := server.next_task(people.number):
        seen.append(task["meta"]["key"])
        annotate(server, people, seen[-1], "3")
    assert seen == ["k2", "k3", "k4", "k0", "k1"]
    assert labels(people) == dict.fromkeys(seen, 3)


def test_experiments_that_ask_at_once_make_one_task(server, studio):
    title = next(titles)
    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(studio(project=title).ask, suggested(2, first=k)) for k in (0, 1, 0, 2)]
        for one in asking:
            one.result()
    people = studio(project=title)
    made = [task.meta["key"] for task in server.client().tasks.list(project=people.number)]
    assert sorted(made) == ["k0", "k1", "k2", "k3"]


def test_tasks_that_two_machines_made_count_as_one(server, studio, second):
    people = studio(annotators=2)
    people.ask(suggested(1))
    task = tasks(server, people)["k0"]
    server.client().projects.import_tasks(people.number, request=[{"data": task.data, "meta": task.meta}])
    one, other = server.client().tasks.list(project=people.number)
    server.client().annotations.create(one.id, result=chosen("4"))
    assert labels(people) == {}
    server.client(second).annotations.create(other.id, result=chosen("4"))
    assert labels(people) == {"k0": 4}


def test_an_interrupted_import_is_finished(server, studio, monkeypatch):
    monkeypatch.setattr("alss_ray.oracles.label_studio.CHUNK", 1)  # an import a task
    people, wanted = studio(), suggested(3)
    sent = itertools.count()

    def cut(tasks):
        for part in parts(tasks):
            if next(sent) == 2:
                raise KeyboardInterrupt
            yield part

    with monkeypatch.context() as patch:
        parts = label_studio._parts
        patch.setattr(label_studio, "_parts", cut)
        with pytest.raises(KeyboardInterrupt):
            people.ask(wanted)
    assert sorted(tasks(server, people)) == ["k0", "k1"]
    people.ask(wanted)
    assert [task.meta["key"] for task in server.client().tasks.list(project=people.number)] == [
        "k0",
        "k1",
        "k2",
    ]


def test_annotators_see_why_and_what_the_model_says(server, studio):
    people = studio()
    people.ask(suggested(1, gradient_norm=1.23456, predicted=torch.tensor(7), margin=0.05))
    people.ask(suggested(1, first=1))
    task = server.next_task(people.number)
    assert task["data"] | {"image": ""} == {
        "image": "", "why": "For round 3: the model says 7 by a margin of 0.05, gradient norm 1.23",
        "round": 3, "gradient_norm": 1.23, "margin": 0.05,
    }  # fmt: skip
    [prediction] = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == (MODEL, 0.05)
    assert prediction["result"][0]["value"] == {"choices": ["7"]}
    # The first annotation that the page makes of it is read as any other.
    server.client().annotations.create(task["id"], result=prediction["result"])
    assert labels(people) == {"k0": 7}
    assert not tasks(server, people)["k1"].predictions


def test_what_is_there_is_taken(server, studio):
    people = studio()
    people.ask(suggested(4))
    before = time.time()
    annotate(server, people, "k2", "9", lead_time=12.5)
    annotate(server, people, "k0")
    said = people.returned()
    assert labels(people) == {"k0": None, "k2": 9}
    assert said.complaints == []
    assert (said.verdicts["k0"].refusal, said.verdicts["k2"].refusal) == ("skipped", "")
    errand = said.verdicts["k2"].errand
    assert (errand.asker, errand.seconds, errand.votes) == ("experiment", 12.5, "")
    assert errand.asked < before < errand.came < time.time()
    # A draft is no answer, and a task of somebody else's is none of ours.
    server.client().projects.import_tasks(people.number, request=[{"data": {"image": "x.png", "why": ""}}])
    [other] = [task for task in server.client().tasks.list(project=people.number) if not task.meta]
    server.client().annotations.create(other.id, result=chosen("1"))
    assert labels(people) == {"k0": None, "k2": 9}


def test_an_updated_annotation_counts_in_its_newest_form(server, studio):
    people = studio()
    people.ask(suggested(1))
    number = annotate(server, people, "k0", "1")
    first = people.returned().verdicts["k0"]
    server.client().annotations.update(number, result=chosen("2"))
    second = people.returned().verdicts["k0"]
    assert (int(first.value), int(second.value)) == (1, 2)
    assert second.errand.came > first.errand.came
    server.client().annotations.delete(number)
    assert labels(people) == {}


def test_an_annotation_without_a_class_is_told(server, studio):
    people = studio()
    people.ask(suggested(1))
    task = tasks(server, people)["k0"].id
    number = server.client().annotations.create(task, result=[]).id
    said = people.returned()
    assert not said.verdicts
    [complaint] = said.complaints
    assert complaint == f"{people.where}: annotation {number} is left out, for it is empty; update it there."


def test_two_annotators(server, studio, second):
    people = studio(annotators=2)
    strict = studio(project=people.project, annotators=2, disagreement="refuse")
    people.ask(suggested(3))
    votes = {"k0": ("4", "4"), "k1": ("4", "9"), "k2": ("4", None)}
    for key, (first, _) in votes.items():
        annotate(server, people, key, first)
    assert labels(people) == {}  # one is missing
    assert server.next_task(people.number) is None
    seen = set()
    while task := server.next_task(people.number, second):
        seen.add(key := task["meta"]["key"])
        annotate(server, people, key, votes[key][1], second)
    assert seen == set(votes)
    assert labels(people) == labels(strict) == {"k0": 4, "k1": None, "k2": None}
    verdicts = people.returned().verdicts
    assert {key: (said.refusal, said.errand.votes) for key, said in verdicts.items()} == {
        "k0": ("", "2 for 4"),
        "k1": ("annotators differ", "1 for 4, 1 for 9"),
        "k2": ("skipped", "1 for 4, 1 skipped"),
    }


def test_an_annotator_who_answers_twice_is_one(server, studio):
    people = studio(annotators=2)
    people.ask(suggested(1))
    annotate(server, people, "k0", "4")
    annotate(server, people, "k0", "5")
    assert labels(people) == {}


def ring(inner, outer, shape=(64, 64)):
    across = np.hypot(*(np.mgrid[: shape[0], : shape[1]] - np.array(shape)[:, None, None] / 2))
    return torch.from_numpy(((across >= inner) & (across < outer)).astype(np.uint8))[None]


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (7, 5), (600, 520)])
def test_a_mask_comes_back_to_the_pixel(server, studio, shape):
    form = BrushForm(shape, MASKS.question)
    people = studio(form)
    painted = ring(min(shape) / 6, min(shape) / 2, shape)
    painted[0, 0, -1] = 1  # a single pixel in a corner
    people.ask(suggested(2, shape=(3, *shape), predicted=painted))
    found = tasks(server, people)
    prediction = found["k0"].predictions[0].result
    assert prediction[0]["value"]["brushlabels"] == ["mask"]
    server.client().annotations.create(found["k0"].id, result=prediction)
    server.client().annotations.create(found["k1"].id, result=[])  # nothing to be painted there
    verdicts = people.returned().verdicts
    assert torch.equal(verdicts["k0"].value, painted)
    assert torch.equal(verdicts["k1"].value, torch.zeros_like(painted))


def test_brushes_are_joined_and_other_tools_refused(server, studio):
    people = studio(MASKS)
    people.ask(suggested(2, shape=(1, 64, 64)))
    one, other = ring(10, 20), ring(18, 30)
    found = tasks(server, people)
    server.client().annotations.create(found["k0"].id, result=MASKS.fill(one) + MASKS.fill(other))
    box = {"x": 0, "y": 0, "width": 5, "height": 5, "rotation": 0, "rectanglelabels": ["mask"]}
    region = {"from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": box}
    server.client().annotations.create(found["k1"].id, result=[region])
    said = people.returned()
    assert torch.equal(said.verdicts["k0"].value, one | other)
    assert "a region of type 'rectanglelabels'" in said.complaints[0]
    assert "k1" not in said.verdicts


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    """A browser in which the first annotator has logged in."""
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        started.set_window_size(1300, 900)
        started.get(f"{server.url}/user/login")
        for name in ("email", "password"):
            started.find_element("name", name).send_keys(getattr(server, name))
        started.find_element("css selector", "button[type=submit]").click()
        yield started


def submitted(browser, people, button="Submit", key=None):
    """The verdict on the image that `Label All Tasks` shows, after a key and a click."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{people.where}?labeling=1")
    wait = WebDriverWait(browser, 60)
    wait.until(lambda b: b.find_elements("css selector", "canvas, img[src^='data:']"))
    found = wait.until(lambda b: b.find_elements("xpath", f"//button[normalize-space()='{button}']"))
    if key is not None:
        ActionChains(browser).send_keys(key).perform()
    found[0].click()
    [verdict] = wait.until(lambda b: people.returned().verdicts.values())
    return verdict


def test_the_page_sends_what_an_annotator_gives(browser, studio):
    """A class by its key in the place of the model's, a skip, and the model's mask as it is."""
    seven, skipped, painted = studio(), studio(), studio(MASKS)
    for people in (seven, skipped):
        people.ask(suggested(1, predicted=torch.tensor(3)))
    assert submitted(browser, seven, key="7").value == 7
    assert submitted(browser, skipped, "Skip").refusal == "skipped"
    mask = ring(12, 25)
    painted.ask(suggested(1, shape=(1, 64, 64), predicted=mask))
    assert torch.equal(submitted(browser, painted).value, mask)


def test_a_personal_access_token_serves_as_well(server, studio, monkeypatch):
    monkeypatch.setenv(TOKEN, server.client().tokens.create().token + "\n")
    people = studio()
    people.ask(suggested(1))
    assert labels(people) == {}


def test_no_secret_travels(server, studio):
    people = studio()
    people.ask(suggested(1))
    told = pickle.dumps(people)
    assert server.token.encode() not in told
    assert server.token not in repr(people)
    assert pickle.loads(told).where == people.where


def test_what_does_not_fit_is_told(server, studio, monkeypatch):
    people = studio()
    assert people.number
    for wrong, said in (
        ({"form": ChoiceForm(("cat", "dog"), "?")}, "<Choices name='label' toName='image'> with cat, dog"),
        ({"form": MASKS}, "<BrushLabels name='label'"),
        ({"annotators": 2}, "wants 1 annotations"),
        ({"project": "999999"}, "has no project 999999"),
        ({"project": "no"}, "3 to 50 characters"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            studio(**{"project": people.project, **wrong}).returned()
    assert studio(project=str(people.number)).where == people.where
    server.client().projects.create(title=people.project)
    with pytest.raises(UsageError, match="has 2 projects called"):
        studio(project=people.project).returned()
    for wrong in ({"annotators": 0}, {"disagreement": "toss a coin"}, {"url": "127.0.0.1:8080"}):
        with pytest.raises(UsageError, match="give "):
            studio(**wrong)


def test_tokens_that_are_none(server, studio, monkeypatch):
    for token, said in (
        ("", f"variable {TOKEN} is not set"),
        ("not a token", f"variable {TOKEN} holds blanks"),
        ("0123456789abcdef", f"does not accept the token in {TOKEN} (Invalid token)"),
    ):
        monkeypatch.setenv(TOKEN, token)
        with pytest.raises(UsageError) as caught:
            studio().returned()
        assert said in str(caught.value)
        assert not token or token not in "".join(traceback.format_exception(caught.value))


def test_servers_that_are_none(server, studio, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the SDK tries again
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(UsageError, match=f"Label Studio at {nobody} does not answer"):
        studio(url=nobody).returned()
    with pytest.raises(UsageError, match=r"does not answer .*SSL"):
        studio(url=server.url.replace("http", "https")).returned()
    with pytest.raises(UsageError, match=r"is something else \(it answers with status 404\)"):
        studio(url=server.url + "/label").returned()


def test_an_experiment_is_finished_by_an_annotator(server, studio, tmp_path):
    """Labels in unequal batches give the rows that the labels give which the data come with."""
    given = Digits(oracle="label-studio", project="experiment").load()
    truth = Digits().load().oracle.targets.tolist()
    digits = {
        image_key(given.oracle.identity, image.numpy()): digit
        for image, digit in zip(given.images, truth, strict=True)
    }
    options = "--task digits --strategy margin --round-size 6 --rounds 3 --iterations 20 --threads 1"
    words = options.split()
    assert run([*words, "--out", str(tmp_path / "stored")]) == 0
    words += ["--oracle", "label-studio", "--url", server.url, "--project", "experiment"]
    words += ["--out", str(tmp_path / "people")]
    with pytest.raises(Waiting, match="Waiting for 9 of 9 labels for the validation set"):
        run(words)
    people = studio(project="experiment")
    seen: dict[int, list[dict]] = {}
    for batch in itertools.cycle((4, 11, 2)):
        for _ in range(batch):
            if task := server.next_task(people.number):
                seen.setdefault(task["data"]["round"], []).append(task)
                server.client().annotations.create(
                    task["id"], result=chosen(str(digits[task["meta"]["key"]]))
                )
        with contextlib.suppress(Waiting):
            assert run([*words, "--resume"]) == 0
            break
    assert {round: len(tasks) for round, tasks in seen.items()} == {0: 9, 1: 6, 2: 6, 3: 6}
    for round in (2, 3):  # what F is least sure of comes first, and F's class stands there already
        margins = [task["data"]["margin"] for task in seen[round]]
        assert margins == sorted(margins)
        assert all(task["predictions"][0]["score"] == task["data"]["margin"] for task in seen[round])
    scores = ("t", "n_labels", "new_loss", "val_metric", "val_loss", "test_metric", "test_loss")
    rows = [
        reading.read("rounds", [tmp_path / name]).table.select(scores).to_pylist()
        for name in ("stored", "people")
    ]
    assert rows[0] == rows[1]
    told = reading.read("labels", [tmp_path / "people"]).table.to_pylist()
    assert len(told) == 27
    assert all(row["asked_at"] < row["came_at"] and row["votes"] is None for row in told)
    assert not any(
        server.token.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )
