"""The balancing union: how the task losses become one scalar."""

from typing import Literal

from mtl_ray.experiment.section import Section


class StaticBalancing(Section):
    """L = sum_t w_t L_t with the weights that the tasks declare, 1/T where they declare none."""

    kind: Literal["static"] = "static"


Balancing = StaticBalancing
"""Union of all task weightings, discriminated by `kind`."""
