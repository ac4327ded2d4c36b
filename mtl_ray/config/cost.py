"""What a model costs, as numbers; `models.complexity` finds them."""

from mtl_ray.config.base import Section


class Complexity(Section):
    """Size of a model, work for a row and memory on one worker."""

    parameters: dict[str, int]
    """Trainable numbers by part of the model."""
    multiply_adds: float
    """Of a row's forward pass, in matrix products and convolutions; embedding look-ups are none."""
    parameter_bytes: int
    """Weights, and averaged weights where they are kept."""
    summed_bytes: int
    """Dense gradients, which the workers sum in each step."""
    row_bytes: int
    """At most what a worker's rows of large tables take in a step: their gradients and numbers, which it sends to all
    others."""
    optimizer_bytes: int
    """State of the optimizers."""
    activation_bytes: int
    """What the forward pass of a worker's part of a batch keeps for the backward pass. Under mixed precision it is that
    of float32, hence too much; the passes that `meta_embedding` and `mwuf` add are left out."""

    @property
    def weight_bytes(self) -> int:
        """Weights, gradients, optimizer state and averaged weights."""
        return self.parameter_bytes + self.summed_bytes + self.row_bytes + self.optimizer_bytes

    @property
    def memory_bytes(self) -> int:
        """Estimated training memory of a worker, without the data and without temporaries."""
        return self.weight_bytes + self.activation_bytes

    def to_dict(self) -> dict[str, float]:
        """By the names under which they are logged."""
        return {
            "model/parameters": sum(self.parameters.values()),
            "model/multiply_adds_per_row": self.multiply_adds,
            "model/memory_bytes": self.memory_bytes,
        }
