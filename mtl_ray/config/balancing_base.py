"""The base of every task weighting in the experiment file."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from mtl_ray.config.base import Section

Space = Literal["representation", "parameters"]


class BalancingSection(Section):
    """The settings and facts that every task weighting has."""

    diagnostics_every: NonNegativeInt = 50
    """Steps between two looks at weights, losses and gradients of the tasks (`balance/...` metrics); 0 for none."""
    comparable_losses: bool | Annotated[float, Field(ge=0, le=1)] = True
    """True to divide each loss by that of the best constant output on the training labels, before it is weighted: a
    loss of 1 then means that nothing has been learned, whatever the kind of the task. A number between 0 (false) and 1
    (true) divides by that power of it: rare labels count more than by their number, but less than plentiful ones."""
    uses_declared_weights: ClassVar[bool] = False
    """True if the weights are those that the tasks declare, so that a search may change them."""
    keys_of_tasks: ClassVar[tuple[str, ...]] = ()
    """Keys of the section that name tasks."""
    looks_ahead: ClassVar[bool] = False
    """True if steps on single tasks are tried on the side."""

    @property
    def gradient_space(self) -> Space | None:
        """Tensors on which the tasks' gradients are compared; None for a method by loss values."""
        return None

    @property
    def reads_gradients(self) -> bool:
        """True if gradients inside the network are read."""
        return self.gradient_space is not None or self.looks_ahead

    @property
    def sampled_share(self) -> float:
        """Share of the batch's rows on which losses are measured again after the step."""
        return 1.0

    def rewarding_tasks(self, main: str) -> tuple[str, ...]:
        """Return the tasks whose loss on validation rows is read, where `main` is the main task."""
        return ()

    @property
    def named_tasks(self) -> dict[str, tuple[str, ...]]:
        """The tasks that each of `keys_of_tasks` names."""
        values = {key: getattr(self, key) for key in self.keys_of_tasks}
        return {key: (value,) if isinstance(value, str) else tuple(value) for key, value in values.items()}


class GradientBalancingConfig(BalancingSection):
    """The base of methods that compare the tasks' gradients."""

    space: Space = "representation"
    """Tensors on which the tasks' gradients are compared: the representation that the tasks share (cheap), or all
    parameters below it (slower; T gradients of their size are kept and summed over workers)."""

    @property
    def gradient_space(self) -> Space:
        return self.space
