"""optuna-dashboard and TensorBoard on a sweep's folder, by the README's commands: started, asked, stopped."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest
import synthetic
from synthetic import NOON, script, snn, write

from alss_ray.results import STUDY

README = (synthetic.ROOT / "README.md").read_text()


@contextlib.contextmanager
def served(program, *words):
    """A program that serves pages on a free port of loopback; yields where, once it answers."""
    # Beside the interpreter, as in a virtual environment that is not activated.
    path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed (pip install -e '.[dashboard]')")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, path, *map(str, words), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 120
        while True:
            assert process.poll() is None, f"{program} ended with status {process.returncode}"
            assert time.monotonic() < limit, f"{program} does not answer"
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def asked(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two experiments, and their event files."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    folder = tmp_path_factory.mktemp("sweep")
    for k in range(2):
        write(folder, snn(alpha=1.0 + k), range(1, 5), recorded_at=NOON, higher_is_better=True)
    done = script("event_files.py", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{folder / 'tensorboard'}\n"
    return folder


def test_tensorboard_shows_the_records(runs):
    assert "tensorboard --logdir DIR/tensorboard" in README
    with served("tensorboard", "--logdir", runs / "tensorboard") as url:
        assert "<title>TensorBoard</title>" in asked(url)
        limit = time.monotonic() + 60
        while len(tags := json.loads(asked(f"{url}/data/plugin/scalars/tags"))) < 2:
            assert time.monotonic() < limit, "TensorBoard does not find the runs"
            time.sleep(0.2)
        name = f"snn-seed0-{snn(alpha=2.0).identity}"
        assert {"test_metric", "val_aulc", "inside_rounds/val_metric"} <= tags[name].keys()
        scalars = json.loads(asked(f"{url}/data/plugin/scalars/scalars?run={name}&tag=test_metric"))
    expected = [
        [NOON.timestamp(), 10 * t, pytest.approx(synthetic.metric(0, t), rel=1e-6)] for t in range(1, 5)
    ]
    assert scalars == expected


def test_event_files_hold_the_configuration(runs):
    """As TensorBoard's own reader finds it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    name = f"snn-seed0-{snn(alpha=2.0).identity}"
    found = EventAccumulator(str(runs / "tensorboard" / name)).Reload()
    content = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    assert values["alpha"].number_value == 2.0
    assert values["strategy"].string_value == "snn"
    inside = found.Scalars("inside_rounds/val_metric")
    assert [event.step for event in inside] == [50, 100, 150, 200, 250, 300, 350, 400]


def test_event_files_are_replaced_and_thinned_out(runs, tmp_path):
    done = script("event_files.py", runs, "--out", tmp_path / "events", "--runs", 1)
    assert done.returncode == 0
    assert "1 of 2 experiments were left out" in done.stderr
    again = script("event_files.py", runs, "--out", tmp_path / "events")
    assert again.returncode == 0
    files = list((tmp_path / "events").rglob("*tfevents*"))
    assert len(files) == 1 + 2  # the definition, and a file a run


def test_event_files_tell_of_bad_input(runs, tmp_path):
    (tmp_path / "file").touch()
    for words, said in (
        ((tmp_path / "none",), "There is no results folder"),
        ((runs, "--runs", 0), "--runs is 0"),
        ((runs, "--out", tmp_path / "file" / "x"), "choose another --out"),
    ):
        done = script("event_files.py", *words)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
        assert said in done.stderr


def test_optuna_dashboard_shows_the_study(tmp_path):
    assert "optuna-dashboard sqlite:///" in README
    storage = f"sqlite:///{tmp_path / STUDY}"
    study = optuna.create_study(study_name="latent_dim", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("alpha", 0, 1), n_trials=2)
    with served("optuna-dashboard", storage, "--host", "127.0.0.1") as url:
        assert "Optuna Dashboard" in asked(url + "/dashboard")
        studies = json.loads(asked(url + "/api/studies"))["study_summaries"]
    assert [study["study_name"] for study in studies] == ["latent_dim"]


def test_neither_torch_nor_ray_is_imported(runs, tmp_path):
    assert synthetic.heavy_modules("event_files.py", runs, "--out", tmp_path) == "heavy []"
