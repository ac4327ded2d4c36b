"""Several hosts on one machine, for root: each has a network namespace on a common switch, and a name, processes,
`/tmp`, `/dev/shm` and a home folder of its own, in which sshd listens. They share `/mnt` and see the rest of the disk
and the environment of this Python, wherever it lies.

Needs iproute2, util-linux, openssh-server and rsync. Nothing outside of the namespaces is touched; leaving the block
ends all processes in them, and so does the end of the process that made them.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

NEEDED = {"sshd": "openssh-server", "rsync": "rsync", "ip": "iproute2", "nsenter": "util-linux"}
"""Programs, and the packages that have them."""
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
CONFIG = """
HostKey /root/host_key
AuthorizedKeysFile /root/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
"""


def missing() -> str:
    """Return what this machine lacks for hosts; nothing if it can have them."""
    if os.geteuid():
        return "hosts in network namespaces need root"
    if packages := [package for program, package in NEEDED.items() if not shutil.which(program, path=PATH)]:
        return f"hosts need {', '.join(packages)}"
    if subprocess.run(["unshare", "--net", "--mount", "true"], check=False, capture_output=True).returncode:
        return "this machine lets nobody make network namespaces"
    return ""


class Hosts:
    """Hosts with the addresses 10.77.0.10, .11, ...; the first is where a person sits."""

    def __init__(self, folder: Path, number: int) -> None:
        """Make `number` hosts, whose homes and shared `/mnt` are below `folder`."""
        self.folder, self.prefix = folder, f"mtl{os.getpid()}"
        self.addresses = [f"10.77.0.{10 + place}" for place in range(number)]
        self._started: list[subprocess.Popen[bytes]] = []
        self._inside: list[int] = []

    def __enter__(self) -> "Hosts":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        _sweep()
        (self.folder / "shared").mkdir(parents=True)
        for name in ("id", "host_key"):
            _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)])
        switch = f"{self.prefix}s"
        _run(["ip", "netns", "add", switch])
        _run(["ip", "-n", switch, "link", "add", "br0", "type", "bridge"])
        _run(["ip", "-n", switch, "link", "set", "br0", "up"])
        for place, address in enumerate(self.addresses):
            host = f"{self.prefix}h{place}"
            _run(["ip", "netns", "add", host])
            ends = ["link", "add", "e0", "netns", host, "type", "veth", "peer", "name", f"p{place}", "netns", switch]
            _run(["ip", *ends])
            _run(["ip", "-n", switch, "link", "set", f"p{place}", "master", "br0", "up"])
            _run(["ip", "-n", host, "address", "add", f"{address}/24", "dev", "e0"])
            for device in ("lo", "e0"):
                _run(["ip", "-n", host, "link", "set", device, "up"])
            # Leads nowhere; Ray takes the address of a node from the route to the world.
            _run(["ip", "-n", host, "route", "add", "default", "via", "10.77.0.1"])
            self._started.append(self._boot(host, self.home(place)))
        for process in self._started:
            end = time.monotonic() + 20
            while not (children := psutil.Process(process.pid).children()):
                assert process.poll() is None, "a host did not start"
                assert time.monotonic() < end
                time.sleep(0.1)
            self._inside.append(children[0].pid)
        for address in self.addresses[1:]:
            while self.run(["ssh", "-o", "StrictHostKeyChecking=no", address, "true"], check=False).returncode:
                assert time.monotonic() < end, "sshd does not answer"
                time.sleep(0.2)

    def _boot(self, host: str, home: Path) -> subprocess.Popen[bytes]:
        (home / ".ssh").mkdir(parents=True)
        (home / "host_key").write_bytes((self.folder / "host_key").read_bytes())
        (home / "host_key").chmod(0o600)
        (home / "sshd_config").write_text(CONFIG)
        (home / ".ssh" / "authorized_keys").write_bytes((self.folder / "id.pub").read_bytes())
        (home / ".ssh" / "id_ed25519").write_bytes((self.folder / "id").read_bytes())
        (home / ".ssh" / "id_ed25519").chmod(0o600)
        names = [f"{address} {self.prefix}h{place}" for place, address in enumerate(self.addresses)]
        (home / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
        lines = ["set -e", "mount --make-rprivate /", f"hostname {host}", f"mount --bind {home}/hosts /etc/hosts"]
        # Python and its environment may lie in a folder that is hidden next.
        kept = {f"{home}/kept/{number}": place for number, place in enumerate((sys.prefix, sys.base_prefix))}
        lines += [f"mkdir -p {here} && mount --bind {place} {here}" for here, place in kept.items()]
        lines += [f"mount --bind {self.folder}/shared /mnt", f"mount --rbind {home} /root"]
        lines += ["mount -t tmpfs tmpfs /tmp", "mount -t tmpfs tmpfs /dev/shm"]
        lines += [f"mkdir -p {place} && mount --bind {here} {place}" for here, place in kept.items()]
        lines += ["mkdir -p /run/sshd", "exec $(command -v sshd) -D -e -f /root/sshd_config"]
        space = [
            "unshare",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            "\n".join(lines),
        ]
        log = (home / "sshd.log").open("wb")
        command = ["setpriv", "--pdeathsig=KILL", "ip", "netns", "exec", host, *space]
        return subprocess.Popen(command, stdout=log, stderr=log, cwd="/", env=os.environ | {"PATH": PATH})

    def home(self, host: int) -> Path:
        """The place outside of the hosts of a host's home folder."""
        return self.folder / f"{self.prefix}h{host}"

    def command(self, words: Sequence[str], host: int = 0, folder: str = "/") -> list[str]:
        """The command that runs another one on a host, in a folder there."""
        space = [
            "nsenter",
            "--target",
            str(self._inside[host]),
            "--net",
            "--mount",
            "--uts",
            "--pid",
        ]
        clean = ["env", "-i", f"--chdir={folder}", "HOME=/root", f"PATH={PATH}"]
        return [*space, *clean, "TERM=dumb", "LANG=C.UTF-8", "USER=root", *words]

    def run(
        self, words: Sequence[str], host: int = 0, folder: str = "/", check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host; its output is returned."""
        done = subprocess.run(
            self.command(words, host, folder),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def processes(self, host: int) -> list[str]:
        """Command lines of all that runs on a host but sshd."""
        listed = self.run(["ps", "-eo", "args="], host).stdout.splitlines()
        return [line for line in listed if "sshd" not in line and line != "ps -eo args="]

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()  # --kill-child ends the first process of the host, and with it all others
            process.wait()
        for name in (f"{self.prefix}s", *(f"{self.prefix}h{place}" for place in range(len(self.addresses)))):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _sweep() -> None:
    """Delete the namespaces of processes that were killed."""
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    for name, made_by in re.findall(r"^(mtl(\d+)\w+)", listed, re.MULTILINE):
        if not psutil.pid_exists(int(made_by)):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)
