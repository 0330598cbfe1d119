"""cluster/slurm.sh: its body, with a stand-in for Slurm's `srun` that starts the tasks as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.stand_ins import REPOSITORY, SWEEP, environment, program, until

JOB = 20_000 + os.getpid() % 10_000

# Runs the command once for each task, with the number of the task, and passes a signal on, as srun does.
SRUN = """#!/usr/bin/env bash
for word in "$@"; do
  case $word in
    --ntasks=*) tasks=${TASKS:-${word#*=}} ;;
    --*) ;;
    *) break ;;
  esac
  shift
done
for ((task = 0; task < tasks; task++)); do
  SLURM_PROCID=$task "$@" &
  running="$running $!"
done
trap 'kill $running' TERM
wait
wait
"""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a job on two machines of one CPU."""
    tools = tmp_path / "bin"
    environment(tools)
    program(tools, "srun", SRUN)
    yield os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(JOB),
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }
    shutil.rmtree(f"/tmp/ray-{JOB}", ignore_errors=True)


@contextlib.contextmanager
def submitted(job: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    """The body of the script in a session of its own, of which nothing is left afterwards whatever happens."""
    process = subprocess.Popen(
        ["bash", str(REPOSITORY / "cluster" / "slurm.sh"), *words],
        cwd=REPOSITORY, env=job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        for pid in members(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(30)


def members(session: int) -> list[int]:
    """The processes of a session that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its, *_ = stat.read_text().rpartition(")")[2].split()
            if int(its) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found


def test_a_job_runs_a_sweep_on_all_its_machines_and_leaves_nothing(
    job: dict[str, str], tmp_path: Path
) -> None:
    with submitted(job, *SWEEP.split(), "--trials", "4", "--results", str(tmp_path / "results")) as process:
        shown, _ = process.communicate(timeout=240)
        assert process.returncode == 0, shown
        assert "2 machines, 2 CPUs" in shown
        assert "The best of 4 finished trials" in shown
        assert members(process.pid) == []
    assert not Path(f"/tmp/ray-{JOB}").exists()


def test_a_job_whose_time_is_over_stops_its_sweep_and_can_be_resumed(
    job: dict[str, str], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    with submitted(job, *SWEEP.split(), "--trials", "100", "--results", str(results)) as process:
        until(lambda: any(results.glob("records/*.rounds.arrow")) or process.poll() is not None, 240)
        os.kill(process.pid, signal.SIGUSR1)  # as --signal=B:USR1 says
        shown, _ = process.communicate(timeout=120)
        assert process.returncode == 130, shown
        assert f"Add --results {results} --resume to go on." in shown
        assert members(process.pid) == []


def test_a_job_takes_no_port_that_the_system_may_have_given_to_another_process(
    job: dict[str, str], tmp_path: Path
) -> None:
    shown = tmp_path / "shown"
    text = f'#!/usr/bin/env bash\necho "$@" > {shown}.new; mv {shown}.new {shown}\n'
    program(tmp_path / "bin", "ray", text)
    with submitted(job | {"TASKS": "1", "SLURM_JOB_ID": "9999"}, "false"):
        until(shown.exists, 60)
    ports = [int(port) for port in re.findall(r"port=(\d+)", shown.read_text())]
    assert len(set(ports)) == 2
    assert max(ports) < 32_768  # where net.ipv4.ip_local_port_range begins unless an administrator changed it


def test_a_machine_that_does_not_come_is_told(job: dict[str, str]) -> None:
    with submitted(job | {"TASKS": "1", "ALSS_RAY_JOIN_SECONDS": "5"}, "false") as process:
        shown, _ = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "of 2 machines have joined" in shown
        assert members(process.pid) == []
