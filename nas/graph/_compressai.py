"""CompressAI's layers and entropy models, without importing all of CompressAI.

`import compressai` also imports its point-cloud models and with them torch_geometric: several times the
start-up time of torch itself, at every command. So its top level is put off here until something asks for
more than the submodules below; from then on it is the ordinary package.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from typing import Any


class _PutOff(types.ModuleType):
    """A package whose `__init__` runs when one of its own attributes is first wanted."""

    @staticmethod
    def available_entropy_coders() -> list[str]:
        return ["ans"]

    @staticmethod
    def get_entropy_coder() -> str:
        return "ans"

    def __getattr__(self, name: str) -> Any:
        dunder = name.startswith("__") and name != "__version__"
        if dunder or importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
            raise AttributeError(name)  # the import system then looks for the submodule
        self.__class__ = types.ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _put_off(package: str) -> None:
    spec = importlib.util.find_spec(package)
    if package in sys.modules or spec is None:
        return
    module = _PutOff(package)
    module.__spec__ = spec
    module.__path__ = spec.submodule_search_locations or []
    module.__file__ = spec.origin
    module.__package__ = package
    sys.modules[package] = module


_put_off("compressai")

with warnings.catch_warnings():
    # torch 2.15 deprecates torch.jit.script, which CompressAI applies to one bound while it is imported
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=DeprecationWarning)
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional
    from compressai.layers import GDN
    from compressai.ops import LowerBound

__all__ = ["GDN", "EntropyBottleneck", "GaussianConditional", "LowerBound"]
