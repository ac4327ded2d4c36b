"""The attributes of ids that a history or an audience may list, those that training has not seen among them.

A list under `unseen: content` names an id of the vocabulary by its embedding row. After these rows come the ids that a
table describes and training has not seen, in the order of the table. The catalog has the encoded attributes of all.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.features import attributes_of, catalogued
from mtl_ray.data.encoding import Encoder
from mtl_ray.data.item_catalog import described_rows
from mtl_ray.data.preparation.partition import SideTable
from mtl_ray.errors import InputError
from mtl_ray.schema import FIRST
from mtl_ray.storage import Folder
from mtl_ray.values.keys import flat
from mtl_ray.values.lists import to_arrow
from mtl_ray.values.vocabulary import Vocabulary

Tables = Mapping[str, SideTable | None]
"""The tables of users and items, by entity."""


def catalog_file(entity: str) -> str:
    """Return the file of a data set that holds the catalog of users, or of items."""
    return f"catalog-{entity}.parquet"


def refuse_undescribed(experiment: Experiment, tables: Tables) -> None:
    """Raise InputError for a list whose unseen ids should read attributes that no table has."""
    nothing = Vocabulary(pa.array([], pa.string()), pa.array([], pa.int64()))
    for name, key in catalogued(experiment.features).items():
        entity = experiment.features[key].entity
        if described_rows(experiment, entity, tables[entity], nothing) is None:
            raise InputError(
                f"features.{name}.unseen: `content` needs attributes of {entity}s that are not in the log; expected "
                f"all of them in a table of {entity}s, found some in the log alone; move them, or leave `unseen` out"
            )


def described(experiment: Experiment, tables: Tables, known: Mapping[str, Vocabulary]) -> dict[str, Vocabulary]:
    """Return, by list, the ids that a table describes and the vocabularies `known` do not hold."""
    found = {}
    for name, key in catalogued(experiment.features).items():
        table = tables[experiment.features[key].entity]
        keys = pa.array([], pa.string()) if table is None else table.keys
        unseen = keys.filter(pc.invert(pc.is_in(keys, value_set=known[key].values)))
        found[name] = Vocabulary(unseen, pa.array(np.zeros(len(unseen), np.int64)))
    return found


def write_catalogs(folder: Folder, encoder: Encoder, tables: Tables) -> None:
    """Write the catalogs of a data set. A reserved row has no attributes, and none tells interactions."""
    experiment, features = encoder.experiment, encoder.experiment.features
    for name, key in catalogued(features).items():
        entity, column = features[key].entity, experiment.column_of(key)
        known, unseen = (encoder.vocabularies[feature].values for feature in (key, name))
        rows = described_rows(experiment, entity, tables[entity], encoder.vocabularies[key])
        assert rows is not None, "refuse_undescribed"
        order = pa.concat_arrays([pa.nulls(FIRST, pa.string()), known.cast(pa.string()), unseen.cast(pa.string())])
        places = pc.index_in(order, value_set=flat(rows.column(column)).cast(pa.string()), skip_nulls=True)
        picked, nobody = rows.take(places), pa.table({column: pa.nulls(len(order), pa.string())})
        encoded: dict[str, np.ndarray] = {}
        for attribute in attributes_of(features, entity):
            tells = features[attribute].tells_interactions(column)
            encoded |= encoder.features(nobody if tells else picked, [attribute])
        folder.write_table(catalog_file(entity), pa.table({n: to_arrow(values) for n, values in encoded.items()}))
