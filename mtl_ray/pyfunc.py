"""The registered model as MLflow loads it: this file is stored in the model ("models from code"), no pickle is.

Input: a frame of raw rows. Output: one column a task; class probabilities are lists.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from mtl_ray.score import Scorer


class RegisteredModel(PythonModel):
    """A checkpoint folder behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load the checkpoint that was logged with the model."""
        self.scorer = Scorer(Path(context.artifacts["checkpoint"]))

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Predictions on each task's natural scale."""
        columns = {
            name: pa.array([_value(v) for v in model_input[name]], from_pandas=True)
            if model_input[name].dtype == object
            else pa.array(model_input[name], from_pandas=True)
            for name in model_input.columns
        }
        scores = self.scorer.score(pa.table(columns))
        return pd.DataFrame({n: v if v.ndim == 1 else v.tolist() for n, v in scores.items()}, index=model_input.index)


def _value(value: Any) -> Any:
    """Cells of a frame may hold arrays; a column that mixes texts and numbers is read as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


set_model(RegisteredModel())
