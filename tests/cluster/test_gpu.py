"""cluster/gpu.yaml: what Ray makes of it, and what a real `ray up` asks a stand-in for AWS on loopback for."""

from __future__ import annotations

import copy
import os
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.stand_ins import REPOSITORY, environment, program, until
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import GangResourceRequest

from alss_ray.sweep import SweepOptions

FOLDER = REPOSITORY / "cluster"
REGION = "us-west-2"


def described(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return config


@pytest.mark.parametrize("name", ["gpu.yaml", "local.yaml"])
def test_ray_accepts_it(name: str) -> None:
    config = described(name)
    validate_config(prepare_config(copy.deepcopy(config)))
    config["available_node_typos"] = {}
    with pytest.raises(Exception, match="available_node_typos"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", ["gpu.yaml", "local.yaml"])
def test_the_whole_tree_travels_and_nothing_else(name: str) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    tracked = {line.split("/")[0] for line in listed.stdout.splitlines()}
    mounts = described(name)["file_mounts"]
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    assert mounts == {f"~/alss_ray/{entry}": entry for entry in {*tracked, ".git"}}


def launched(singles: Sequence[dict[str, float]], together: Sequence[dict[str, float]] = ()) -> Counter[str]:
    """The machines that Ray's own autoscaler adds for what waits, by kind."""
    config = AutoscalingConfig(described("gpu.yaml"), skip_content_hash=True)
    reply = ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(
                [ResourceRequestUtil.make(single) for single in singles]
            ),
            gang_resource_requests=[
                GangResourceRequest(requests=[ResourceRequestUtil.make(bundle) for bundle in together])
            ]
            if together
            else [],
        )
    )
    assert not reply.infeasible_resource_requests
    assert not reply.infeasible_gang_resource_requests
    return Counter({request.instance_type: request.count for request in reply.to_launch})


def test_trials_and_oracle_get_machines_of_their_own() -> None:
    trial = {"CPU": float(SweepOptions().cpus_per_trial), "GPU": 1.0}
    assert launched([trial] * 3) == {"trials": 3}
    assert launched([trial | {"GPU": 0.25}] * 8) == {"trials": 2}
    worker = {"CPU": 1.0, "oracle": 1.0}  # as open_service asks with resource='oracle'
    assert launched([], [worker] * 32) == {"oracle": 2}


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A session with a stand-in for AWS on loopback, for this process and those it starts."""
    boto3 = pytest.importorskip("boto3", reason="needs boto3: pip install -e '.[test]'")
    server = pytest.importorskip("moto.server", reason="needs moto: pip install -e '.[test]'")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    try:
        yield boto3.Session()
    finally:
        running.stop()


def prepared(session: Any) -> None:
    """The account as README.md has it prepared: the stack of aws.yaml."""
    session.client("cloudformation").create_stack(
        StackName="alss-ray",
        TemplateBody=(FOLDER / "aws.yaml").read_text(),
        Parameters=[{"ParameterKey": "Bucket", "ParameterValue": "results-of-mine"}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )


def test_ray_up_asks_for_one_head_that_only_ssh_reaches(aws: Any, tmp_path: Path) -> None:
    prepared(aws)
    # No packet may leave for the address that the stand-in makes up: Ray gets an ssh that only notes what it was told.
    told, tools = tmp_path / "told", tmp_path / "bin"
    environment(tools)
    program(tools, "ssh", f'#!/bin/sh\necho "$@" >> {told}\nexit 255\n')
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    process = subprocess.Popen(
        [tools / "ray", "up", "--yes", "--no-config-cache", FOLDER / "gpu.yaml"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    try:
        until(lambda: told.exists() or process.poll() is not None)
    finally:
        process.kill()
        shown, _ = process.communicate(timeout=30)
    assert told.exists(), shown

    ec2 = aws.client("ec2")
    head = described("gpu.yaml")["available_node_types"]["head"]["node_config"]
    [machine] = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    assert (machine["InstanceType"], machine["ImageId"]) == (head["InstanceType"], head["ImageId"])
    assert machine["IamInstanceProfile"]["Arn"].endswith(":instance-profile/alss-ray-head")
    tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
    assert tags["ray-cluster-name"] == "alss-ray"
    assert (tags["ray-node-type"], tags["ray-user-node-type"]) == ("head", "head")
    assert tags["ray-node-status"] == "waiting-for-ssh"

    [group] = ec2.describe_security_groups(GroupIds=[g["GroupId"] for g in machine["SecurityGroups"]])[
        "SecurityGroups"
    ]
    within = [rule for rule in group["IpPermissions"] if rule["UserIdGroupPairs"]]
    assert [pair["GroupId"] for rule in within for pair in rule["UserIdGroupPairs"]] == [group["GroupId"]]
    outside = [rule for rule in group["IpPermissions"] if rule not in within]
    assert [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in outside] == [("tcp", 22, 22)]

    words = shlex.split(told.read_text().splitlines()[0])
    assert f"ubuntu@{machine['PublicIpAddress']}" in words
    key = Path(words[words.index("-i") + 1])
    assert key.stem == machine["KeyName"]
    assert key.stat().st_mode & 0o77 == 0
