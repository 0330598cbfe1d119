"""cluster/local.yaml: a real `ray up` of two machines, a sweep over both, and one of them cut off while it runs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.machines import Machine, needed
from cluster.stand_ins import REPOSITORY, SWEEP, environment, program, until

from alss_ray import reading

SMALL = (
    """export RAY_OVERRIDE_RESOURCES='{"CPU":1}' RAY_health_check_period_ms=500 RAY_health_check_timeout_ms=2000 """
    "RAY_health_check_failure_threshold=3; "
)
"""Before Ray's start commands: a trial at a time on each machine, and a machine that is silent for seconds is lost."""


class Cluster:
    """The user's computer and two machines that they own, with a folder that both share."""

    def __init__(self, folder: Path) -> None:
        self.key, self.shared, self.config = folder / "key", folder / "shared", folder / "local.yaml"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.shared.mkdir()
        self.machines: list[Machine] = []
        for number, name in enumerate(("laptop", "head", "worker"), 1):
            lan = self.machines[0] if self.machines else None
            self.machines.append(Machine(name, number, folder / name, self.key, lan))
        self.laptop, self.head, self.worker = self.machines
        self.config.write_text(yaml.safe_dump(self.described()))
        for machine in (self.head, self.worker):
            # cluster/setup.sh installs from a package index: what runs this test stands for that.
            installed = machine.home / "alss_ray_env" / "bin"
            environment(installed)
            program(installed, "pip", f'#!/bin/sh\necho "$@" > {installed}/asked\n')
            (machine.home / ".bashrc").write_text("export PYTHONPATH=~/alss_ray\n")
        self.laptop.do("ray get-auth-token --generate")

    def described(self) -> dict[str, Any]:
        """cluster/local.yaml with what users write into it: addresses, user and key."""
        config: dict[str, Any] = yaml.safe_load((REPOSITORY / "cluster" / "local.yaml").read_text())
        config["provider"].update(head_ip=self.head.address, worker_ips=[self.worker.address])
        config["auth"].update(ssh_user="root", ssh_private_key=str(self.key))
        for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
            config[commands] = [SMALL + command for command in config[commands]]
        return config

    def ray(self, command: str, timeout: float = 120.0) -> str:
        """What one of Ray's cluster commands prints on the user's computer."""
        verb, *words = command.split(" ", 1)
        words = [str(self.config), *words]
        return self.laptop.do(f"ray {verb} {' '.join(words)}", timeout, RAY_USAGE_STATS_ENABLED="0")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    needed()
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.ray("up --yes --no-config-cache")
        yield made
    finally:
        for machine in reversed(made.machines):
            machine.stop()


def cpus(cluster: Cluster) -> float:
    """CPUs of the cluster, as `ray status` tells a user."""
    told = re.search(r"/([0-9.]+) CPU", cluster.ray("exec 'ray status'"))
    return float(told[1]) if told else 0.0


def test_all_machines_join(cluster: Cluster) -> None:
    until(lambda: cpus(cluster) == 2, 120, 2)
    for machine in (cluster.head, cluster.worker):
        asked = (machine.home / "alss_ray_env" / "bin" / "asked").read_text().split()
        assert asked[asked.index("-c") + 1] == f"{machine.home}/alss_ray/cluster/constraints.txt"
        assert (machine.home / "alss_ray/sweeps/latent_dim.py").read_text() == (
            REPOSITORY / "sweeps/latent_dim.py"
        ).read_text()
        assert (machine.home / ".ray/auth_token").stat().st_mode & 0o77 == 0


def test_who_has_another_token_is_kept_out(cluster: Cluster) -> None:
    ask = f"ray status --address {cluster.head.address}:6379"
    assert "CPU" in cluster.laptop.do(ask, RAY_AUTH_MODE="token")
    with pytest.raises(AssertionError, match=r"[Uu]nauth"):
        cluster.laptop.do(ask, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)


def test_a_sweep_outlives_a_machine(cluster: Cluster) -> None:
    until(lambda: cpus(cluster) == 2, 120, 2)
    results, shown = cluster.shared / "results", cluster.shared / "shown"
    with shown.open("w") as log:
        command = f"cd alss_ray && {SWEEP} --address auto --trials 24 --results {results}"
        sweep = cluster.laptop.start(f"ray exec {cluster.config} '{command}'", log)

    def hosts() -> set[str]:
        begun = any(results.glob("records/*.rounds.arrow"))
        return set(reading.read("rounds", [results]).table["host"].to_pylist()) if begun else set()

    until(lambda: len(hosts()) == 2 or sweep.poll() is not None, 200, 0.5)
    assert sweep.poll() is None, shown.read_text()
    cluster.worker.unplug()
    assert sweep.wait(240) == 0, shown.read_text()
    rows = reading.read("rounds", [results]).table.to_pylist()
    assert sum(row["n_labels"] == row["label_budget"] for row in rows) == 24
    assert len({(row["experiment"], row["t"]) for row in rows}) == len(rows), "no round is recorded twice"
    assert len(hosts()) == 2, "what the lost machine did stays"


def test_ray_down_stops_the_head(cluster: Cluster) -> None:
    assert "gcs_server" in cluster.head.do("ps -eo args")
    cluster.ray("down --yes")
    assert "gcs_server" not in cluster.head.do("ps -eo args")
