"""The model that answers requests, and the alias that it follows."""

import logging
import re
import time
from dataclasses import dataclass

from mtl_ray.config.custom import Trust
from mtl_ray.errors import InputError, first_line
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.tracking.database import client_of
from mtl_ray.tracking.registry import opened_checkpoint

logger = logging.getLogger("ray.serve")

LONGEST_WAIT = 600.0
"""The most seconds between two attempts to load a version that could not be loaded."""


@dataclass(frozen=True)
class Live:
    """A model that answers requests."""

    scorer: Scorer
    version: str
    """Version of the registered model; for another URI or a folder, its name."""


def version_of(model: str, tracking_uri: str) -> str:
    """Return the version that the model URI names now. Raises InputError if there is none."""
    alias = re.fullmatch(r"models:/([^@/]+)@(.+)", model)
    if alias is None:
        return model.rpartition("/")[2]
    try:
        return str(client_of(tracking_uri).get_model_version_by_alias(*alias.groups()).version)
    except Exception as error:
        raise InputError(f"{model}: {first_line(error)}") from error


def load(model: str, tracking_uri: str, version: str, trust: Trust = False) -> Live:
    """Load a version of the model that a URI names. Raises InputError if it is missing or cannot score a row."""
    name, at, _ = model.partition("@")
    uri = f"{name}/{version}" if at and model.startswith("models:/") else model
    with opened_checkpoint(uri, tracking_uri) as folder:
        scorer = Scorer(folder, trust)
    scorer.check(uri)
    return Live(scorer, version)


class Follower:
    """The live model of a URI, exchanged when an alias moves.

    A version that cannot be loaded is tried again, each time after twice as long; until then it costs nothing.
    """

    def __init__(self, model: str, tracking_uri: str, poll: float, trust: Trust = False) -> None:
        """Load the version that the URI names now. Raises InputError if that is not possible."""
        self.model, self.tracking_uri, self.poll, self.trust = model, tracking_uri, poll, trust
        self.live = load(model, tracking_uri, version_of(model, tracking_uri), trust)
        self._failed, self._wait, self._again = "", 0.0, 0.0

    def look(self) -> None:
        """Exchange the live model if the URI names another version; when that fails, the present one goes on."""
        try:
            self._look()
        except Exception as error:  # the registry may be away for a while
            wait = f"; version {self._failed} is tried again in {self._wait:.0f} s" if self._failed else ""
            logger.warning("%s: version %s goes on: %s%s", self.model, self.live.version, first_line(error), wait)

    def _look(self) -> None:
        version = version_of(self.model, self.tracking_uri)
        if version != self._failed:
            self._failed, self._wait = "", self.poll
        if version == self.live.version or (self._failed and time.monotonic() < self._again):
            return
        try:
            self.live = load(self.model, self.tracking_uri, version, self.trust)
        except Exception:
            self._failed, self._wait = version, min(2 * self._wait, max(self.poll, LONGEST_WAIT))
            self._again = time.monotonic() + self._wait
            raise
        self._failed = ""
        logger.warning("%s: version %s answers now", self.model, version)
