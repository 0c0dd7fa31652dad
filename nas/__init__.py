"""Neural architecture search for learned image codecs.

    space = nas.SearchSpace.load("joint-ar-tiny")
    run = nas.load_run("runs/a")
    run.search("60%", trials=100)
    run.export("codecs/small", target="30%")
    codec = nas.load_codec("codecs/small")

Everything is imported on first use, so that `import nas` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import LoadedRun, finetune_codec, load_codec, load_family, load_run
    from nas.spaces.budget import Budget
    from nas.spaces.space import Architecture, SearchSpace
    from nas.support.errors import InputError, NasError
    from nas.verbs.renew import renew_codec

_HOMES = {
    "Architecture": "nas.spaces.space",
    "Budget": "nas.spaces.budget",
    "InputError": "nas.support.errors",
    "LoadedRun": "nas.api",
    "NasError": "nas.support.errors",
    "SearchSpace": "nas.spaces.space",
    "finetune_codec": "nas.api",
    "load_codec": "nas.api",
    "load_family": "nas.api",
    "load_run": "nas.api",
    "renew_codec": "nas.verbs.renew",
}

__all__ = [
    "Architecture",
    "Budget",
    "InputError",
    "LoadedRun",
    "NasError",
    "SearchSpace",
    "finetune_codec",
    "load_codec",
    "load_family",
    "load_run",
    "renew_codec",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nas' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
