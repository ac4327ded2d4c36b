"""What a model carries of every user or item that a list may name: their encoded attributes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtl_ray.config.features import attributes_of, catalogued
from mtl_ray.data.attribute_catalog import catalog_file
from mtl_ray.features.base import EncodedColumn, FeatureKind
from mtl_ray.nn.containers import ModuleDict, attribute_of
from mtl_ray.schema import FittedFeature
from mtl_ray.storage import Folder
from mtl_ray.values.keys import flat
from mtl_ray.values.lists import from_arrow


class Catalog(nn.Module):
    """Encoded attributes by row: those of the embedding table of an id, then those of ids that training has not seen.

    They are read only where training hides an id, or has not seen it, so nothing in them tells its interactions.
    """

    def __init__(self, entity: str, known: int, size: int, columns: Mapping[str, EncodedColumn]) -> None:
        """Make room, with zeros.

        Args:
            entity: whose attributes they are.
            known: rows of the embedding table.
            size: rows in all.
            columns: the encoded attributes, by name.
        """
        super().__init__()
        self.entity, self.known, self.names = entity, known, list(columns)
        self.columns = nn.Module()
        for name, column in columns.items():
            dtype = torch.int32 if column.dtype == "int32" else torch.get_default_dtype()
            self.columns.register_buffer(attribute_of(name), torch.zeros(size, *column.shape, dtype=dtype))

    def at(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the columns, (n,) or (n, length), at (n,) rows."""
        return {name: self.columns.get_buffer(attribute_of(name))[rows.long()] for name in self.names}


def build_catalogs(kinds: Mapping[str, FeatureKind[Any]], fitted: Mapping[str, FittedFeature]) -> ModuleDict:
    """Build the catalogs that histories and audiences read, by the id that they list.

    Args:
        kinds: all features, by name.
        fitted: what `prepare` found in them, by name.
    """
    features = {name: kind.config for name, kind in kinds.items()}
    built = {}
    for name, key in catalogued(features).items():
        columns: dict[str, EncodedColumn] = {}
        for attribute in attributes_of(features, features[key].entity):
            columns |= kinds[attribute].encoded_columns(fitted[attribute])
        sizes = [fitted[feature].num_embeddings or 0 for feature in (key, name)]
        built[key] = Catalog(features[key].entity, sizes[0], max(sizes), columns)
    return ModuleDict(built)


@torch.no_grad()
def read_catalogs(catalogs: ModuleDict, folder: Folder) -> None:
    """Fill the catalogs of a model, `MultiTaskModel.catalogs`, from the folder of its data set."""
    for catalog in catalogs.values():
        assert isinstance(catalog, Catalog)
        table = folder.read_table(catalog_file(catalog.entity))
        for name in catalog.names:
            values = torch.from_numpy(np.array(from_arrow(flat(table.column(name)))))
            catalog.columns.get_buffer(attribute_of(name)).copy_(values)
