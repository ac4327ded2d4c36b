"""Settings of training, evaluation and tracking."""

from typing import Annotated, Literal

from pydantic import ByteSize, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mtl_ray.config.base import Section
from mtl_ray.config.callbacks import CallbackConfig, DriverCallbackConfig

Rate = Annotated[float, Field(ge=0, lt=1)]
BatchSize = Annotated[int, Field(ge=1, lt=2**31)]


class OptimizerConfig(Section):
    """The optimizer of all parameters but large embedding tables, which `sparse_tables` describes."""

    kind: Literal["adamw", "adam", "sgd", "adagrad"] = "adamw"
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of the dense layers."""
    embedding_weight_decay: NonNegativeFloat = 0.0
    """Weight decay of the embedding tables. As each step decays them, it grows with the number of rows."""
    embedding_decay: NonNegativeFloat | None = None
    """Share of the embedding tables that decays in an epoch at the full learning rate, in place of
    `embedding_weight_decay`: each of the S steps of an epoch multiplies them by 1 - f embedding_decay / S, where f is
    the factor of the schedule. So it means the same for any number of rows and any batch size."""
    momentum: Rate = 0.0
    """Momentum of SGD."""

    @model_validator(mode="after")
    def _one_decay(self) -> "OptimizerConfig":
        if self.embedding_decay is not None and self.embedding_weight_decay:
            raise ValueError("expected either `embedding_decay` or `embedding_weight_decay`; found both")
        if self.embedding_decay and self.kind != "adamw":
            raise ValueError(f"`embedding_decay` needs kind adamw, whose decay is no gradient; found {self.kind}")
        return self

    def table_decay(self, steps: int, lr: float) -> float:
        """Return the weight decay of embedding tables that an optimizer with learning rate `lr` takes.

        Args:
            steps: number of steps in an epoch.
            lr: full learning rate; a step takes the share lr x decay of the tables.
        """
        if self.embedding_decay is None:
            return self.embedding_weight_decay
        return self.embedding_decay / (lr * max(1, steps))

    @property
    def state_per_parameter(self) -> int:
        """Numbers of state that the optimizer keeps for each parameter."""
        return {"adamw": 2, "adam": 2, "adagrad": 1, "sgd": int(self.momentum > 0)}[self.kind]


class SparseTablesConfig(Section):
    """Training of large embedding tables row by row: a step costs as much as the rows that its batch reads."""

    rows: PositiveInt = 100_000
    """Fewest rows of a table that is trained so. Only rows that a batch reads are decayed and moved."""
    kind: Literal["lazy_adam", "rowwise_adagrad"] = "lazy_adam"
    """Adam whose moments move with their row alone; or Adagrad with one number of state a row."""
    lr: PositiveFloat | None = None
    """Learning rate of these tables; that of the optimizer by default."""

    def state_per_row(self, dim: int) -> int:
        """Return the numbers of state that the optimizer keeps for each row of `dim` numbers."""
        return {"lazy_adam": 2 * dim, "rowwise_adagrad": 1}[self.kind]


class ScheduleConfig(Section):
    """Learning-rate factor: linear warm-up, then decay to `final` over the planned steps."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    final: Rate = 0.0
    """Factor at the last step (linear and cosine)."""
    epochs: dict[NonNegativeInt, PositiveFloat] = Field(default={})
    """A further factor by the first epoch (from 0) in which it holds, e.g. `{5: 0.1}`; 1 before the first one."""


class EarlyStoppingConfig(Section):
    """The epoch with the best value on validation rows is kept, and a run without improvement stops."""

    metric: str | None = None
    """Any key of the metrics, e.g. `valid/rating/rmse` or `valid/click/auc/new_user`. By default it is the loss of the
    main task (of a ranking task its first metric), if a validation row has a label of it; else the last epoch is
    kept."""
    patience: PositiveInt = 3
    """Epochs without improvement before the run stops."""


class EntityMaskingConfig(Section):
    """Rates, per training row, at which an entity's inputs are hidden; draws are independent."""

    id: Rate = 0.0
    """Rate of hiding the id alone: an entity with a history or an audience, whose id was not seen in training."""
    new: Rate = 0.0
    """Rate of hiding the id and the history or the audience: a new entity."""
    attributes: Rate = 0.0
    """Rate of hiding all attributes: an entity without a profile."""


class MaskingConfig(Section):
    """Rates at which training hides inputs, so that the model knows rows of new users and items."""

    user: EntityMaskingConfig = EntityMaskingConfig(new=0.1)
    item: EntityMaskingConfig = EntityMaskingConfig(new=0.1)
    values: Rate = 0.0
    """Rate of reading a value of a categorical, multi-categorical or text feature as one that training has not seen;
    draws are independent between features, and between the values of a list. Without it nothing teaches the model what
    an unseen value means, unless `min_count` makes rare values unknown."""


class ElasticConfig(Section):
    """As many workers as fit on the cluster, within bounds."""

    min: PositiveInt
    """Fewest workers; training waits until there is room for them."""
    max: PositiveInt
    every: PositiveFloat = 60.0
    """Seconds between two attempts to add workers; to grow, training goes back to the last checkpoint."""

    @model_validator(mode="after")
    def _ordered(self) -> "ElasticConfig":
        if self.min > self.max:
            raise ValueError(f"expected min of at most max, {self.max}; found {self.min}")
        return self


class TrainingConfig(Section):
    """Workers, epochs, batches, optimizer, what stops a training and what it starts from."""

    num_workers: PositiveInt | ElasticConfig = 1
    """A number, or `{min: 1, max: 4}`: training continues with fewer workers if a node is lost, and grows later."""
    use_gpu: bool = False
    cpus_per_worker: PositiveFloat = 0.5
    """CPUs that Ray reserves for a worker; below 1 leaves room for Ray Data on a small machine."""
    threads_per_worker: PositiveInt | None = None
    """Torch threads of a worker; by default the machine's cores divided among its workers."""
    epochs: PositiveInt = 10
    batch_size: BatchSize = 1024
    """Rows of a global batch: the sum over all workers."""
    micro_batch: PositiveInt | None = None
    """Rows of a worker whose activations are in memory at once: a larger batch goes through the model in parts, whose
    gradients add up to those of the whole. The parts are computed again in the backward pass, and once more for each
    task by weightings that compare gradients."""
    optimizer: OptimizerConfig = OptimizerConfig()
    sparse_tables: SparseTablesConfig | None = SparseTablesConfig()
    """Training of large embedding tables; null trains all tables densely."""
    schedule: ScheduleConfig = ScheduleConfig()
    masking: MaskingConfig = MaskingConfig()
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all parameters."""
    precision: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    """bfloat16 and float16 are mixed precision (autocast)."""
    compile: bool = False
    """True to compile the network above the embeddings by torch.compile. This pays on a GPU, for large networks; the
    first steps wait for it. Without a compiler training continues uncompiled, with a warning. It does not go with
    weightings that compare gradients inside of the network."""
    ensemble: PositiveInt = 1
    """Number of members: so many models are trained from different seeds, side by side where the cluster has room, and
    the mean of their outputs is the prediction. They become one checkpoint and one registered model."""
    average: Rate = 0.0
    """Decay per step of the exponential moving average of the weights that is evaluated and kept; 0 turns it off."""
    early_stopping: EarlyStoppingConfig | None = EarlyStoppingConfig()
    """Null trains all epochs and keeps the last one."""
    choose_epochs: bool = True
    """Where the split has no validation rows: true trains twice, first with a tenth of the training rows held out, to
    choose the number of epochs, then on all rows for as many. False trains all epochs."""
    last_epoch: PositiveInt | None = None
    """Epoch after which training ends, though the schedule plans all `epochs`."""
    warm_start: str | None = None
    """Checkpoint folder or model URI (`models:/NAME@champion`) whose weights training starts from. Values that are new
    since then start like unseen ones."""
    distill: str | None = None
    """Checkpoint folder or model URI, such as an ensemble's, of the same data set, whose outputs the model learns in
    place of labels, on every row. Ranking tasks, and tasks that it lacks, learn from labels. Training losses are then
    differences from it; validation losses are those from labels, and without validation rows all epochs are trained."""
    affinity_every: NonNegativeInt = 0
    """Steps between two measurements of the lookahead affinity of all pairs of tasks (`affinity/...` metrics), 0 for
    none. One costs about as much as T steps."""
    checkpoint_steps: PositiveInt | None = None
    """Steps between two checkpoints within an epoch; none by default."""
    max_failures: NonNegativeInt = 2
    """Restarts from the last checkpoint after a worker died."""
    timeout: PositiveInt = 1800
    """Seconds that a worker waits in an exchange with the others before it fails. Then all start again from the last
    checkpoint, so that one that hangs does not block the others forever."""
    cache_memory: ByteSize = ByteSize(2 * 2**30)
    """Bytes in which a worker may keep its training rows as tensors; rows that do not fit are streamed."""
    callbacks: tuple[CallbackConfig, ...] = ()
    """Classes of your own that see every step and epoch, in each worker: `{class: shop.watch:Patience}`. They may stop
    the training, or freeze parts of the model for some epochs."""
    driver_callbacks: tuple[DriverCallbackConfig, ...] = ()
    """Subclasses of Ray Train's `UserCallback` that its controller runs, once for all workers."""
    output: str = "runs"
    """Folder of run folders with checkpoints: a path that every node mounts, or any URL that pyarrow opens."""

    @property
    def fewest_workers(self) -> int:
        """The number of workers, or the fewest with which training continues."""
        return self.num_workers.min if isinstance(self.num_workers, ElasticConfig) else self.num_workers

    @property
    def most_workers(self) -> int:
        """The number of workers, or the most that there may be."""
        return self.num_workers.max if isinstance(self.num_workers, ElasticConfig) else self.num_workers

    @property
    def sparse_rows(self) -> int | None:
        """Fewest rows of a table that is trained row by row; None if all are trained densely."""
        return None if self.sparse_tables is None else self.sparse_tables.rows


def is_sparse(num_embeddings: int, sparse_rows: int | None) -> bool:
    """Return whether a table is trained row by row: if it has at least `sparse_rows` rows, None for no table."""
    return sparse_rows is not None and num_embeddings >= sparse_rows


class EvaluationConfig(Section):
    """Passes over evaluated rows, and the segments by known interactions."""

    batch_size: BatchSize = 8192
    """Rows of a forward pass on one worker."""
    support_buckets: tuple[PositiveInt, ...] = (1, 5, 20)
    """Lower ends of the buckets of training interactions: (1, 5, 20) gives 0, 1-4, 5-19, 20+."""


class TrackingConfig(Section):
    """The MLflow server, and the names that runs and models have there."""

    uri: str | None = None
    """MLflow tracking server; SQLite in the working folder by default."""
    experiment: str | None = None
    """MLflow experiment; the experiment's name by default."""
    register_as: str | None = None
    """Registers the trained model under this name."""
