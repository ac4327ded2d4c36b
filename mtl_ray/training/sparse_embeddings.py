"""Large embedding tables, trained row by row: the cost of a step depends on the rows that its batch reads.

The gradient of such a table is sparse (`torch.nn.Embedding(sparse=True)`) and not handled by DDP. The workers exchange
the rows that they have read, so every worker moves the same rows by the gradient of the global batch.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mtl_ray.config import Experiment
from mtl_ray.config.training import SparseTablesConfig
from mtl_ray.distributed import gather_each, world_size
from mtl_ray.errors import InputError

PIECE = 2048
"""Rows that a CPU thread moves at once: few enough that they are still in its cache when they are written."""


def check_sparse(experiment: Experiment) -> None:
    """Raise InputError if anything needs the whole gradient of a table."""
    balancing, found = experiment.balancing, ""
    if balancing.gradient_space == "parameters":
        found = f"balancing.kind `{balancing.kind}` compares gradients on all parameters"
    elif balancing.looks_ahead or experiment.training.affinity_every:
        found = "lookahead affinity tries steps on all parameters"
    elif experiment.model.needs_dense_tables:
        found = f"model.kind `{experiment.model.kind}` ties all rows of the tables of different tasks"
    tables = experiment.training.sparse_tables
    if found and tables is not None:
        raise InputError(
            f"training.sparse_tables: {found}, and some table has the {tables.rows:,} rows from which on it is "
            "trained row by row; choose another method, or set training.sparse_tables to null"
        )


@torch.no_grad()
def share_rows(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each sparse gradient by the mean of all workers' gradients, coalesced; DDP does so with dense ones."""
    parameters = list(parameters)
    found = [_gradient(parameter) for parameter in parameters]
    if world_size() > 1:
        rows, values = gather_each([g.indices()[0] for g in found]), gather_each([g.values() for g in found])
        for place, parameter in enumerate(parameters):
            mean = values[place].div_(world_size())
            found[place] = torch.sparse_coo_tensor(rows[place][None], mean, parameter.shape).coalesce()
    for parameter, gradient in zip(parameters, found, strict=True):
        parameter.grad = gradient


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Return a parameter's gradient, coalesced; without any row if it has none."""
    if parameter.grad is not None:
        return parameter.grad.coalesce()
    rows, values = parameter.new_zeros((1, 0), dtype=torch.long), parameter.new_zeros(0, parameter.shape[1])
    return torch.sparse_coo_tensor(rows, values, parameter.shape, is_coalesced=True)


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) that moves weights and moments only in the rows r of a sparse gradient.

    m_r <- m_r + (1 - b1) (g_r - m_r), v_r <- v_r + (1 - b2) (g_r^2 - v_r) and w_r -= lr m'_r / (sqrt(v'_r) + eps), with
    the bias corrections of step t. This equals torch.optim.SparseAdam, which takes twice the time on a CPU.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move the rows of the gradients, which must be coalesced."""
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state |= {"step": 0, "means": torch.zeros_like(parameter), "squares": torch.zeros_like(parameter)}
                state["step"] += 1
                rate = group["lr"] * math.sqrt(1 - second ** state["step"]) / (1 - first ** state["step"])
                for rows, values in pieces(parameter.grad):
                    means = state["means"].index_select(0, rows).lerp_(values, 1 - first)
                    squares = state["squares"].index_select(0, rows).mul_(second)
                    squares.addcmul_(values, values, value=1 - second)
                    state["means"].index_copy_(0, rows, means)
                    state["squares"].index_copy_(0, rows, squares)
                    move_rows(parameter, rows, means.div_(squares.sqrt_().add_(group["eps"])), rate)


def pieces(gradient: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (n,) rows and (n, d) values of a coalesced gradient, in pieces of `PIECE` rows for each CPU thread."""
    rows, values = gradient.indices()[0], gradient.values()
    size = PIECE * torch.get_num_threads() if rows.device.type == "cpu" else len(rows)
    return zip(rows.split(size), values.split(size), strict=True)


def move_rows(parameter: nn.Parameter, rows: Tensor, directions: Tensor, rate: float) -> None:
    """Set w_r -= rate d_r for distinct rows: faster than `index_add_`, which cannot rely on that."""
    parameter.index_copy_(0, rows, parameter.index_select(0, rows).sub_(directions, alpha=rate))


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al. 2011) with one number of state per row, as is usual for the tables of recommenders.

    h_r += mean_k g_rk^2 and w_r -= lr g_r / (sqrt(h_r) + eps), for the rows r of a sparse gradient.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, eps: float = 1e-10) -> None:
        super().__init__(parameters, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move the rows of the gradients, which must be coalesced."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["sums"] = parameter.new_zeros(len(parameter))
                for rows, values in pieces(parameter.grad):
                    sums = state["sums"].index_add_(0, rows, values.square().mean(1))
                    move_rows(parameter, rows, values / (sums[rows, None].sqrt() + group["eps"]), group["lr"])


def build_sparse_optimizer(
    parameters: Iterable[nn.Parameter], settings: SparseTablesConfig, lr: float
) -> torch.optim.Optimizer:
    """Build the optimizer of tables that are trained row by row."""
    return {"rowwise_adagrad": RowwiseAdagrad, "lazy_adam": LazyAdam}[settings.kind](parameters, lr)


@torch.no_grad()
def decay_rows(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Apply decoupled weight decay (Loshchilov and Hutter 2019) to the rows that the step moves: w_r -= factor w_r."""
    for parameter in parameters:
        assert parameter.grad is not None, "share_rows"
        rows: Tensor = parameter.grad.indices()[0]
        move_rows(parameter, rows, parameter[rows], factor)


@torch.no_grad()
def decay_whole(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Apply decoupled weight decay to all rows: w -= factor w."""
    for parameter in parameters:
        parameter.mul_(1 - factor)
