"""How the model is trained, evaluated and tracked."""

from typing import Annotated, Literal

from pydantic import ByteSize, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mtl_ray.config.base import Section

Rate = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Section):
    kind: Literal["adamw", "adam", "sgd", "adagrad"] = "adamw"
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    """Of the dense layers."""
    embedding_weight_decay: NonNegativeFloat = 0.0
    """Of the embedding tables."""
    momentum: Rate = 0.0
    """SGD only."""


class SparseTablesConfig(Section):
    """Large embedding tables: a step costs what the rows cost that its batch reads, however many rows there are."""

    rows: PositiveInt = 100_000
    """Tables with at least so many rows. Only rows that a batch reads are decayed and moved."""
    kind: Literal["lazy_adam", "rowwise_adagrad"] = "lazy_adam"
    """Adam whose moments move with their row alone; or Adagrad with one number of state a row."""
    lr: PositiveFloat | None = None
    """Learning rate of these tables; that of the optimizer by default."""


class ScheduleConfig(Section):
    """Learning-rate factor: linear warm-up, then decay to `final` over the planned steps."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    final: Rate = 0.0
    """Factor at the last step (linear and cosine)."""
    epochs: dict[NonNegativeInt, PositiveFloat] = Field(default={})
    """First epoch (from 0) of a further factor -> the factor, e.g. `{5: 0.1}`; 1 before the first one."""


class EarlyStoppingConfig(Section):
    metric: str = "valid/loss"
    """Any key of the metrics, e.g. `valid/rating/rmse` or `valid/click/auc/new_user`."""
    patience: PositiveInt = 3
    """Epochs without improvement before the run stops."""


class EntityMaskingConfig(Section):
    """Rates, per training row, at which an entity's inputs are hidden; the draws are independent."""

    id: Rate = 0.0
    """The id alone: an entity that has a history, but whose id was not seen in training."""
    new: Rate = 0.0
    """The id and the history: a new entity."""
    attributes: Rate = 0.0
    """All attributes: an entity without profile."""


class MaskingConfig(Section):
    user: EntityMaskingConfig = EntityMaskingConfig(new=0.1)
    item: EntityMaskingConfig = EntityMaskingConfig(new=0.1)


class ElasticConfig(Section):
    """As many workers as the cluster has room for, within bounds."""

    min: PositiveInt
    """Training waits while there is room for fewer."""
    max: PositiveInt
    every: PositiveFloat = 60.0
    """Seconds between two looks for room for more; to grow, training goes back to the last checkpoint."""

    @model_validator(mode="after")
    def _ordered(self) -> "ElasticConfig":
        if self.min > self.max:
            raise ValueError(f"expected min of at most max, {self.max}; found {self.min}")
        return self


class TrainingConfig(Section):
    num_workers: PositiveInt | ElasticConfig = 1
    """A number, or `{min: 1, max: 4}`: with a node lost, training goes on with fewer, and grows when it is back."""
    use_gpu: bool = False
    cpus_per_worker: PositiveFloat = 0.5
    """CPUs that Ray reserves for a worker; below 1 leaves room for Ray Data on a small machine."""
    threads_per_worker: PositiveInt | None = None
    """Torch threads of a worker; by default the machine's cores divided among its workers."""
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 1024
    """Rows of a global batch: the sum over all workers."""
    micro_batch: PositiveInt | None = None
    """Rows of a worker whose activations are in memory at once: a larger batch goes through the model in parts, whose
    gradients add up to what it gives as a whole. The parts are computed again in the backward pass, and once more for
    each task by weightings that compare gradients."""
    optimizer: OptimizerConfig = OptimizerConfig()
    sparse_tables: SparseTablesConfig | None = SparseTablesConfig()
    """How large embedding tables are trained; null trains all tables densely."""
    schedule: ScheduleConfig = ScheduleConfig()
    masking: MaskingConfig = MaskingConfig()
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all parameters."""
    precision: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    """bfloat16 and float16 are mixed precision (autocast)."""
    compile: bool = False
    """Whether torch.compile makes one program of the network above the embeddings: worth it on a GPU, for large
    networks; the first steps wait for it. Without a compiler training goes on as it is, with a warning. Not with
    weightings that compare gradients inside of the network."""
    average: Rate = 0.0
    """Decay per step of the exponential moving average of the weights that is evaluated and kept; 0 turns it off."""
    early_stopping: EarlyStoppingConfig | None = None
    warm_start: str | None = None
    """Checkpoint folder or model URI (`models:/NAME@champion`) whose weights training starts from. Values that are new
    since begin as unseen ones do."""
    affinity_every: NonNegativeInt = 0
    """Steps between two measurements of the lookahead affinity of all pairs of tasks (`affinity/...` metrics), 0 for
    none. One costs about as much as T steps."""
    checkpoint_steps: PositiveInt | None = None
    """Also write a checkpoint every so many steps within an epoch."""
    max_failures: NonNegativeInt = 2
    """Restarts from the last checkpoint after a worker died."""
    timeout: PositiveInt = 1800
    """Seconds that a worker waits for its part of an exchange with the others before it fails, which starts all of them
    again from the last checkpoint: what ends the wait for one that hangs."""
    cache_memory: ByteSize = ByteSize(2 * 2**30)
    """A worker's training rows are kept as tensors if they fit in so many bytes; otherwise they are streamed."""
    output: str = "runs"
    """Folder of run folders with checkpoints: a path that every node mounts, or any URL that pyarrow opens."""

    @property
    def fewest_workers(self) -> int:
        """The number of workers, or the fewest that training goes on with."""
        return self.num_workers.min if isinstance(self.num_workers, ElasticConfig) else self.num_workers

    @property
    def most_workers(self) -> int:
        """The number of workers, or the most that there may be."""
        return self.num_workers.max if isinstance(self.num_workers, ElasticConfig) else self.num_workers

    def is_sparse(self, num_embeddings: int) -> bool:
        """Whether a table of so many rows is trained row by row."""
        return self.sparse_tables is not None and num_embeddings >= self.sparse_tables.rows


class EvaluationConfig(Section):
    batch_size: PositiveInt = 8192
    """Rows of a forward pass on one worker."""
    support_buckets: tuple[PositiveInt, ...] = (1, 5, 20)
    """Lower ends of the buckets of training interactions: (1, 5, 20) gives 0, 1-4, 5-19, 20+."""


class TrackingConfig(Section):
    uri: str | None = None
    """MLflow tracking server; SQLite in the working folder by default."""
    experiment: str | None = None
    """MLflow experiment; the experiment's name by default."""
    register_as: str | None = None
    """Registers the trained model under this name."""
