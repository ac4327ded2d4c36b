"""A set of categories."""

from mtl_ray.config.features import MultiCategoricalFeatureConfig
from mtl_ray.features.value_list import ValueListKind


class MultiCategoricalKind(ValueListKind[MultiCategoricalFeatureConfig]):
    """Categories as a list, or as one text with separators."""

    @property
    def separator(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Separator of the categories in a text."""
        return self.config.separator
