"""A server's processes give back what requests leave."""

import inspect
import json
import threading
import weakref

from ray._common.utils import import_attr
from ray.serve._private import constants

from mtl_ray.cluster.ray_compat import PROXY_CALLBACK
from mtl_ray.inference import upkeep


class Left:
    """What a request leaves: it refers to itself."""

    def __init__(self) -> None:
        self.own = self


def test_cycles_are_collected():
    left = weakref.ref(Left())
    upkeep._give_back()
    assert left() is None


def test_work_is_repeated_beside_all_else():
    done: list[int] = []
    over, kept = threading.Event(), threading.Event()

    def work() -> None:
        done.append(threading.get_ident())
        if len(done) == 3:
            over.set()
            kept.wait()  # for the rest of the process

    upkeep.repeat(work, 0.001)
    assert over.wait(30)
    assert len(set(done)) == 1
    assert threading.get_ident() not in done


def test_the_proxy_calls_what_its_variable_names():
    assert f'"{PROXY_CALLBACK}"' in inspect.getsource(constants), "this Ray knows the variable"
    assert import_attr(upkeep.ENVIRONMENT[PROXY_CALLBACK]) is upkeep.middlewares_of_proxy


def test_the_proxy_reads_bodies_within_the_limits_of_the_settings(monkeypatch):
    monkeypatch.setattr(upkeep, "keep_small", lambda: None)
    monkeypatch.setenv(upkeep.LIMITS, json.dumps([1000, 2.5, 9000]))
    (middleware,) = upkeep.middlewares_of_proxy()
    bodies = middleware.cls(None, *middleware.args, **middleware.kwargs).bodies
    assert (bodies.max_bytes, bodies.max_seconds, bodies.max_total) == (1000, 2.5, 9000)
