"""The cost of a model as numbers; `models.complexity` computes them."""

from mtl_ray.config.base import Section


class Complexity(Section):
    """The size of a model, its work per row and its memory on one worker."""

    parameters: dict[str, int]
    """Trainable numbers by part of the model."""
    multiply_adds: float
    """Multiply-adds of a row's forward pass, in matrix products and convolutions; embedding look-ups have none."""
    parameter_bytes: int
    """Weights, and averaged weights where they are kept."""
    summed_bytes: int
    """Dense gradients, which the workers sum in each step."""
    row_bytes: int
    """Upper bound for a worker's rows of large tables in a step: their gradients and row numbers, which it sends to all
    others."""
    optimizer_bytes: int
    """State of the optimizers."""
    activation_bytes: int
    """Tensors that the forward pass of a worker's part of a batch keeps for the backward pass. Under mixed precision it
    is the value of float32, an overestimate; the extra passes of `meta_embedding` and `mwuf` are left out."""

    @property
    def weight_bytes(self) -> int:
        """Weights, gradients, optimizer state and averaged weights."""
        return self.parameter_bytes + self.summed_bytes + self.row_bytes + self.optimizer_bytes

    @property
    def memory_bytes(self) -> int:
        """Estimated training memory of a worker, without the data and without temporaries."""
        return self.weight_bytes + self.activation_bytes

    def to_dict(self) -> dict[str, float]:
        """Return the numbers by the names under which they are logged."""
        return {
            "model/parameters": sum(self.parameters.values()),
            "model/multiply_adds_per_row": self.multiply_adds,
            "model/memory_bytes": self.memory_bytes,
        }
