"""Modules that are imported when something in them is first used; for a class whose methods need different modules.

`importlib.util.LazyLoader` is not safe with several threads before Python 3.12.3; `import_module` is.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class LazyModule:
    """A module of this package by its name. A name that it lacks is an AttributeError at its first use."""

    def __init__(self, name: str) -> None:
        self._name = f"{__package__}.{name}"

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever the module has
        return getattr(import_module(self._name), name)


def late(names: str) -> list[LazyModule]:
    """The modules with these names, which are separated by blanks."""
    return [LazyModule(name) for name in names.split()]
