"""The whole experiment."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mtl_ray.config.balancing import BalancingConfig, StaticBalancingConfig
from mtl_ray.config.base import Section, name_alone, texts_of
from mtl_ray.config.comparison import CompareConfig
from mtl_ray.config.data import DataConfig
from mtl_ray.config.feature_base import column_of, key_of, readers_of
from mtl_ray.config.features import FeatureConfig
from mtl_ray.config.model import ArchitectureConfig, SharedBottomConfig
from mtl_ray.config.promotion import PromotionConfig
from mtl_ray.config.tasks import TaskConfig, declared_weights, first_metric, relative_weights
from mtl_ray.config.training import EvaluationConfig, TrackingConfig, TrainingConfig
from mtl_ray.config.tuning import TuneConfig
from mtl_ray.config.validation import check_experiment
from mtl_ray.errors import refuse_credentials


class Experiment(Section):
    """One experiment: data, inputs, tasks, model, training and tracking.

    Values are the section classes of `mtl_ray.config`, or what a file would say in their place.

    Raises:
        InputError: the settings are not valid; one line names the dotted path.

    Example:
        >>> from mtl_ray.config import IdFeatureConfig
        >>> shop = Experiment(
        ...     name="shop",
        ...     data={"source": "synthetic", "time": "timestamp", "split": "time"},
        ...     features={"user_id": IdFeatureConfig(entity="user"), "item_id": IdFeatureConfig(entity="item")},
        ...     tasks={"click": "binary", "rating": {"kind": "regression", "weight": 0.5}},
        ... )
        >>> shop.weights()
        {'click': 0.6666666666666666, 'rating': 0.3333333333333333}
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Name of the experiment; run folders and MLflow runs start with it."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the split, of initial weights, of the order of rows, of masks and of dropout."""
    data: DataConfig
    features: dict[str, Annotated[FeatureConfig, name_alone(FeatureConfig)]] = Field(min_length=1)
    tasks: dict[str, Annotated[TaskConfig, name_alone(TaskConfig)]] = Field(min_length=1)
    main: str | None = None
    """The task that decides which epoch is kept; the first one by default."""
    defaults: Literal["recipe", "fixed"] = "recipe"
    """Where settings of features' encoders, of the model and of training come from if they are left out: `recipe`
    chooses them for the data (`mtl-ray check` prints them with the reasons), `fixed` are the defaults named here."""
    model: Annotated[ArchitectureConfig, name_alone(ArchitectureConfig)] = SharedBottomConfig()
    balancing: BalancingConfig = StaticBalancingConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    compare: CompareConfig | None = None
    """The grid of `mtl-ray compare`; other commands do not read it."""
    promotion: PromotionConfig = PromotionConfig()
    tune: TuneConfig | None = None
    """The search of `mtl-ray tune`; other commands do not read it."""

    @model_validator(mode="before")
    @classmethod
    def _without_credentials(cls, settings: Any) -> Any:
        for path, text in texts_of(settings):
            refuse_credentials(text, path)
        return settings

    @field_validator("model", mode="before")
    @classmethod
    def _shared_bottom_by_default(cls, model: Any) -> Any:
        return {"kind": "shared_bottom", **model} if isinstance(model, dict) else model

    @field_validator("balancing", mode="before")
    @classmethod
    def _static_by_default(cls, balancing: Any) -> Any:
        return {"kind": "static", **balancing} if isinstance(balancing, dict) else balancing

    @property
    def user(self) -> str:
        """Name of the feature that is the user's key."""
        return key_of(self.features, "user")

    @property
    def item(self) -> str:
        """Name of the feature that is the item's key."""
        return key_of(self.features, "item")

    @property
    def data_seed(self) -> int:
        """Seed of the split and of the stored order of training rows."""
        return self.seed if self.data.seed is None else self.data.seed

    def column_of(self, name: str) -> str:
        """Return the raw column of a feature or, if there is no such feature, of a task."""
        return column_of(self.features, name) if name in self.features else self.tasks[name].column or name

    @property
    def main_task(self) -> str:
        """Name of the main task."""
        return self.main or next(iter(self.tasks))

    @property
    def stopping_metric(self) -> str | None:
        """Key of the metric by which an epoch is kept; None if it is the last one."""
        stopping, task = self.training.early_stopping, self.tasks[self.main_task]
        if stopping is None or stopping.metric is not None:
            return stopping and stopping.metric
        return f"valid/{self.main_task}/{first_metric(task) if task.compares_rows else 'loss'}"

    def declared_weights(self) -> dict[str, float]:
        """Return the declared weight of each task, 1 for a task without one."""
        return declared_weights(self.tasks)

    def weights(self) -> dict[str, float]:
        """Return the static weight of each task: the declared one, divided by the sum of all."""
        return relative_weights(self.tasks)

    def inputs_of(self, task: str) -> list[str]:
        """Return the names of the features that read the task's label column."""
        return readers_of(self.features, self.tasks[task].column or task)

    @model_validator(mode="after")
    def _rules_across_sections(self) -> "Experiment":
        check_experiment(self)
        return self
