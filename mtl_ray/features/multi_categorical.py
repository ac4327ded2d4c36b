"""A set of categories."""

import pyarrow as pa

from mtl_ray.config.features import MultiCategoricalFeatureConfig
from mtl_ray.features.value_list import ValueListKind
from mtl_ray.values.spelling import spelled_lists


class MultiCategoricalKind(ValueListKind[MultiCategoricalFeatureConfig]):
    """Categories as a list, or as one text with separators."""

    @property
    def separator(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Separator of the categories in a text."""
        return self.config.separator

    def read(self, values: pa.Array) -> pa.Array:
        return spelled_lists(values, self.separator, self.config)
