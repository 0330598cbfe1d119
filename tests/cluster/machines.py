"""Machines of a test: namespaces of this one, each with its own network, processes, name, home, /tmp and SSH server.

They hang on a bridge inside the first of them, which stands for the user's own computer. No interface leads out of
it, so that no packet does. A machine ends, with all that runs on it and its network, when its first process is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from cluster.stand_ins import REPOSITORY, until

TOOLS = ("ip", "unshare", "nsenter", "setpriv", "ps", "ssh", "ssh-keygen", "rsync", "/usr/sbin/sshd")
PACKAGES = "iproute2, util-linux, procps, openssh-client, openssh-server, rsync"
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
SUBNET = "10.77.0"

BOOT = """
set -e
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount -t tmpfs tmpfs /dev/shm
mount --bind "$FOLDER/passwd" /etc/passwd
for path in $SEEN; do mkdir -p "$FOLDER$path"; mount --rbind "$path" "$FOLDER$path"; done
mount --rbind "$FOLDER/tmp" /tmp
hostname "$NAME"
ip link set lo up
/usr/sbin/sshd -f "$FOLDER/sshd_config" -E "$FOLDER/sshd.log"
touch "$FOLDER/booted"
while true; do sleep 3600 & wait $!; done
"""

SSHD = """
ListenAddress 0.0.0.0
HostKey {key}
AuthorizedKeysFile {key}.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
"""


def needed() -> None:
    """Skip the test where machines cannot be made."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"needs {', '.join(missing)} (Debian: {PACKAGES})")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    tried = subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"needs namespaces: {tried.stderr.strip()}")


class Machine:
    """A machine that has booted.

    Args:
        folder: of the machine; its home is below.
        key: private SSH key, with its public half beside it, by which every machine lets every other in.
        lan: machine that holds the bridge; none for that machine itself.
    """

    def __init__(self, name: str, number: int, folder: Path, key: Path, lan: Machine | None = None) -> None:
        self.name, self.address, self.folder = name, f"{SUBNET}.{number}", folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        (folder / "tmp").mkdir()
        (folder / "passwd").write_text(
            f"root:x:0:0::{self.home}:/bin/bash\nsshd:x:100:65534::/run/sshd:/bin/false\n"
        )
        (folder / "sshd_config").write_text(SSHD.format(key=key))
        # What lies below /tmp and must be seen under its own name on the machine, too.
        seen = {sys.prefix, sys.base_prefix, str(REPOSITORY), str(folder.parent)}
        environment = {
            "PATH": os.environ["PATH"],
            "FOLDER": str(folder),
            "NAME": name,
            "SEEN": " ".join(sorted(path for path in seen if path.startswith("/tmp/"))),
        }
        # It ends with this process, too, however that ends.
        ending = ["setpriv", "--pdeathsig", "KILL"]
        apart = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc"]
        self.process = subprocess.Popen([*ending, *apart, "bash", "-c", BOOT], env=environment)
        until(lambda: (folder / "booted").exists() or self.process.poll() is not None, 20)
        assert self.process.poll() is None, f"{name} did not boot"
        self.pid = int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text())
        if lan is None:
            self.do("ip link add lan type bridge && ip link set lan up")
            self.do(f"ip address add {self.address}/24 dev lan")
        else:
            # The host's own view of process ids is needed, so only the network is entered.
            enter = ["nsenter", f"--target={lan.pid}", "--net", "ip", "link"]
            subprocess.run(
                [*enter, "add", name, "type", "veth", "peer", "eth0", "netns", str(self.pid)], check=True
            )
            subprocess.run([*enter, "set", name, "master", "lan", "up"], check=True)
            self.do(f"ip link set eth0 up && ip address add {self.address}/24 dev eth0")
            # A default route, as machines have one; it ends at the bridge.
            self.do(f"ip route add default via {lan.address}")

    def start(
        self, command: str, log: IO[str] | int = subprocess.PIPE, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a command on the machine, in the folder of the repository."""
        enter = ["nsenter", f"--target={self.pid}", *NAMESPACES, "--", "bash", "-c"]
        return subprocess.Popen(
            [*enter, f"cd {REPOSITORY}; {command}"],
            env={"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "HOME": str(self.home), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def do(self, command: str, timeout: float = 60.0, **environment: str) -> str:
        """What a command prints on the machine; it must succeed."""
        process = self.start(command, **environment)
        try:
            printed, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert process.returncode == 0, f"{self.name}: {command}\n{printed}"
        return printed

    def unplug(self) -> None:
        """Cut the machine off and stop it, as if its plug were pulled: nobody is told."""
        self.do("ip link set eth0 down")
        self.stop()

    def stop(self) -> None:
        """End the machine with all that runs on it."""
        self.process.kill()
        self.process.wait(20)
