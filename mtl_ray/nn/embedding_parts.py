"""Where the parts of all features' embeddings live: by role, then by feature."""

from torch import Tensor, nn

from mtl_ray.nn.containers import ModuleDict, ParameterDict


class EmbeddingParts(nn.Module):
    """Modules and parameters by role and feature; their places are the keys of a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = ModuleDict()
        """Embedding tables."""
        self.numbers = ModuleDict()
        """Linear layers over plain numbers."""
        self.encoders = ModuleDict()
        """Encoders of lists, vectors and images."""
        self.values = ParameterDict()
        """Direction in which an entry of an encoded history moves with its value."""
        self.tails = ModuleDict()
        """Layers of an image's encoder that each task has for itself, by feature and task."""
        self.empty = ParameterDict()
        """Vectors read where a feature has no value."""

    def first_unseen(self, key: str) -> int:
        """Return the first row of an id, by name, that is not in its table but in its catalog."""
        raise NotImplementedError

    def unseen_vectors(self, key: str, rows: Tensor) -> Tensor:
        """Return the (n, dim) vectors of (n,) rows of an id, read as if training had not seen it."""
        raise NotImplementedError
