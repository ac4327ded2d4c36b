"""Containers of modules and parameters under any name."""

from collections.abc import Iterator

from torch import nn

TAKEN = frozenset(dir(nn.ModuleDict())) | frozenset(dir(nn.ParameterDict()))


def attribute_of(name: str) -> str:
    """What a module calls a part of the given name: that name, unless it is taken, as `forward` and `type` are."""
    return f"{name}:" if name in TAKEN else name


class ModuleDict(nn.ModuleDict):
    """Modules by the name of a task or a feature, which may be any name."""

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(attribute_of(key))

    def __setitem__(self, key: str, module: nn.Module) -> None:
        super().__setitem__(attribute_of(key), module)

    def __contains__(self, key: str) -> bool:
        return super().__contains__(attribute_of(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The names as they were given."""
        return [name.removesuffix(":") for name in self._modules]

    def items(self) -> list[tuple[str, nn.Module]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Names as they were given, and modules."""
        return list(zip(self.keys(), self._modules.values(), strict=True))  # pyright: ignore[reportReturnType]


class ParameterDict(nn.ParameterDict):
    """Parameters by the name of a task or a feature, which may be any name."""

    def _key_to_attr(self, key: str) -> str:
        return attribute_of(key)
