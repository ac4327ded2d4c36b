"""Processes of a gloo group that run the functions of tests; started once, they serve one test after the other."""

import atexit
import io
import pickle
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing import connection, forkserver, get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def run_workers(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return the results of `function(rank, world_size, *arguments)` of each process of a group."""
    group = _group(world_size)
    try:
        return group.run(function, *arguments)
    except BaseException:  # the others may wait for the one that failed
        group.close()
        _group.cache_clear()
        raise


class _Group:
    def __init__(self, world_size: int) -> None:
        # Forked from one process that has loaded the libraries already: each would otherwise take seconds to load them.
        forkserver.set_forkserver_preload(["mtl_ray.training.trainer", "mtl_ray.evaluation.evaluate"])
        context, folder = get_context("forkserver"), tempfile.mkdtemp(prefix="gloo")
        self.ends, self.processes = [], []
        for rank in range(world_size):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, world_size, folder, theirs), daemon=True)
            process.start()
            theirs.close()
            self.ends.append(mine)
            self.processes.append(process)
        atexit.register(self.close)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        call = pickle.dumps((function, arguments))
        for end in self.ends:
            end.send_bytes(call)
        found: dict[Any, Any] = {}
        while len(found) < len(self.ends):
            for end in connection.wait([end for end in self.ends if end not in found]):
                result = torch.load(io.BytesIO(end.recv_bytes()), weights_only=False)  # EOFError: the process has died
                if "error" in result:
                    raise AssertionError(f"a worker failed:\n{result['error']}")
                found[end] = result["value"]
        return [found[end] for end in self.ends]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


_group = cache(_Group)


def _serve(rank: int, world_size: int, folder: str, end: connection.Connection) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{Path(folder) / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world_size)
    while True:
        try:
            function, arguments = pickle.loads(end.recv_bytes())  # noqa: S301 - of the test above
        except EOFError:  # the tests have ended
            return
        try:
            result = {"value": function(rank, world_size, *arguments)}
        except BaseException:
            result = {"error": traceback.format_exc()}
        buffer = io.BytesIO()
        torch.save(result, buffer)
        end.send_bytes(buffer.getvalue())
