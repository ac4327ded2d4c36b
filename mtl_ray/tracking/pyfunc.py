"""The registered model as MLflow loads it. This file is stored in the model ("models from code"), no pickle.

Input: a frame of raw rows. Output: one column per task; class probabilities are lists. The model of an ensemble takes
the parameter `uncertainty`: true adds a column `TASK_std` with the standard deviation of each prediction.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from mtl_ray.scoring.scorer import Scorer, as_column, spread_column


class RegisteredModel(PythonModel):
    """A checkpoint with MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load the checkpoint that was logged with the model.

        This file runs code of the model already, and the code of its `custom` classes lies beside it.
        """
        self.scorer = Scorer(Path(context.artifacts["checkpoint"]), trust=True)

    # No type hints: MLflow reads them as a schema, and the logged signature is more precise.
    def predict(self, context, model_input, params=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return predictions on each task's natural scale, for a frame of raw rows."""
        columns = {name: _column(model_input[name]) for name in model_input.columns}
        if (params or {}).get("uncertainty"):
            scores, spread = self.scorer.score_with_spread(pa.table(columns))
            scores |= {spread_column(name): values for name, values in spread.items()}
        else:
            scores = self.scorer.score(pa.table(columns))
        return pd.DataFrame({n: v if v.ndim == 1 else v.tolist() for n, v in scores.items()}, index=model_input.index)


def _column(values: pd.Series) -> pa.Array:
    if values.dtype != object:
        return pa.array(values, from_pandas=True)
    return as_column([value.tolist() if hasattr(value, "tolist") else value for value in values])


set_model(RegisteredModel())
