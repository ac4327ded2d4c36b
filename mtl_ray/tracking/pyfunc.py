"""The registered model as MLflow loads it. This file is stored in the model ("models from code"), no pickle.

Input: a frame of raw rows. Output: one column per task; class probabilities are lists. The model of an ensemble takes
the parameter `uncertainty`: true adds a column `TASK_std` with the standard deviation of each prediction.
"""

from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from mtl_ray.scoring.scorer import Scorer, frame_of
from mtl_ray.values.frames import to_arrow


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
        rows, wants_spread = to_arrow(model_input, "rows"), (params or {}).get("uncertainty")
        scores, spread = self.scorer.score_with_spread(rows) if wants_spread else (self.scorer.score(rows), None)
        return frame_of(scores, spread, model_input.index)


set_model(RegisteredModel())
