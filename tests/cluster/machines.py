"""A cluster of several nodes on loopback whose parts tests kill, and a command that runs on it as its driver."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster
from ray.util import get_node_ip_address

from tests.cluster.servers import free_port
from tests.support import wait_for

ROOT = Path(__file__).parents[2]
QUICK = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""Faults are seen within seconds."""

COMMAND = """
from mtl_ray.cli.main import main
from mtl_ray.data.preparation import parallel

parallel.IN_PROCESS_ROWS = 0
main()
"""
"""`mtl-ray`, for which no log is small enough to be prepared without the cluster."""

LEFT = """
import json, ray
from ray._private.state import actors
ray.init(logging_level="ERROR")
groups = [g["state"] for g in ray.util.placement_group_table().values() if g["state"] != "REMOVED"]
alive = [a["ActorClassName"] for a in actors().values() if a["State"] != "DEAD"]
of_the_cluster = ("_AutoscalingCoordinatorActor", "_StatsActor", "ActorLocationTracker")  # one each, for all jobs
print(json.dumps(groups + [name for name in alive if not name.startswith(of_the_cluster)]))
"""


class Machines:
    """A head that takes no workers of training, and nodes that take one each."""

    def __init__(self, num_nodes: int) -> None:
        os.environ.update(QUICK)
        self.num_nodes, self.cluster, self.nodes = num_nodes, Cluster(), []
        self.start()

    def start(self) -> None:
        """Bring the head and the nodes up."""
        port = free_port()
        # Ray's own actors ask for the state of the cluster by this address; without it by whatever they find here.
        os.environ["RAY_ADDRESS"] = f"{get_node_ip_address()}:{port}"
        head = {"num_cpus": 0, "include_dashboard": True, "gcs_server_port": port, "dashboard_port": free_port()}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add() for _ in range(self.num_nodes)]

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=1)

    def lose_node(self, index: int, *, replace: bool = True) -> None:
        """A machine is gone at once, and maybe another one comes."""
        self.cluster.remove_node(self.nodes.pop(index), allow_graceful=False)
        if replace:
            self.nodes.append(self.add())

    def restart(self) -> None:
        """The head goes down, and the nodes with it; then the cluster is started anew."""
        self.cluster.shutdown()
        self.start()

    def processes(self, name: str) -> list[psutil.Process]:
        """The processes of Ray on all nodes with such a name, but for its agents, with which a node would end."""
        found = []
        for node in self.cluster.list_all_nodes():
            for info in node.all_processes.get("raylet", []):
                try:
                    children = psutil.Process(info.process.pid).children(recursive=True)
                    names = {child: " ".join(child.cmdline()).strip() for child in children}
                    found += [child for child, own in names.items() if name in own and not own.endswith("Agent")]
                except psutil.NoSuchProcess:
                    continue
        return found

    def left(self) -> list[str]:
        """Placement groups and actors that are there although no driver is."""
        done = subprocess.run(
            [sys.executable, "-c", LEFT], env=self.environment(), capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])

    def environment(self) -> dict[str, str]:
        return os.environ | {"RAY_ADDRESS": self.cluster.address, "PYTHONPATH": str(ROOT)}

    def close(self) -> None:
        self.cluster.shutdown()
        os.environ.pop("RAY_ADDRESS", None)


class Driver:
    """A command of `mtl-ray` as a process, its log and its result."""

    def __init__(self, machines: Machines, folder: Path, *arguments: str) -> None:
        self.result_file, self.log = folder / "result.json", folder / "driver.log"
        self.result_file.unlink(missing_ok=True)
        command = [sys.executable, "-c", COMMAND, *arguments, "--json", str(self.result_file)]
        with self.log.open("a") as log:
            print(*arguments, file=log, flush=True)
            self.begin = log.tell()
            self.process = subprocess.Popen(
                command, env=machines.environment(), cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        """What this command has printed."""
        return self.log.read_bytes()[self.begin :].decode(errors="replace")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def result(self, seconds: float = 240) -> dict[str, Any]:
        """What the command gives; its log where it fails."""
        wait_for(lambda: self.ended, seconds)
        assert self.process.returncode == 0, self.log.read_text()[-3000:]
        return json.loads(self.result_file.read_text())
