"""CompressAI's layers and entropy models, without importing all of CompressAI.

`import compressai` also imports its point-cloud models and torch_geometric, which takes longer than torch
itself and would slow down every command. Its top level is therefore deferred until something asks for more
than the submodules below. From then on it is the ordinary package. Its entropy models import scipy.stats for
one quantile of the normal distribution, which takes a third of torch's own time. That import is deferred
until it is used.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from typing import Any


class _DeferredModule(types.ModuleType):
    """A module whose code runs when one of its own attributes, or a submodule, is first wanted.

    `importlib.util.LazyLoader` does not help here. An `import` of a module in `sys.modules` reads its
    `__spec__`, and that alone would make it load.
    """

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        self.__class__ = types.ModuleType  # type: ignore[assignment]
        self.__path__ = spec.submodule_search_locations or []
        spec.loader.exec_module(self)
        return getattr(self, name)


class _PartialPackage(_DeferredModule):
    """CompressAI as a package whose submodules can be imported without its top level.

    Its entropy models ask the top level for the entropy coders. The answers here leave out `range_coder`.
    """

    @staticmethod
    def available_entropy_coders() -> list[str]:
        return ["ans"]

    @staticmethod
    def get_entropy_coder() -> str:
        return "ans"

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        assert spec is not None
        if name == "__path__":
            return spec.submodule_search_locations
        dunder = name.startswith("__") and name != "__version__"
        if dunder or importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
            raise AttributeError(name)  # the import system then looks for the submodule
        return super().__getattr__(name)


def _defer_import(name: str, kind: type[_DeferredModule]) -> None:
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None:
        return
    module = kind(name)
    module.__spec__ = spec
    module.__file__ = spec.origin
    module.__package__ = name
    sys.modules[name] = module


_defer_import("compressai", _PartialPackage)
_defer_import("scipy.stats", _DeferredModule)

with warnings.catch_warnings():
    # torch 2.15 deprecates torch.jit.script, which CompressAI applies to one bound while it is imported
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=DeprecationWarning)
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional
    from compressai.layers import GDN
    from compressai.ops import LowerBound

__all__ = ["GDN", "EntropyBottleneck", "GaussianConditional", "LowerBound"]
