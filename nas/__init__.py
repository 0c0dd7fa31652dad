"""Neural architecture search for learned image codecs.

    nas.search("zoo:patch", target=5, scope="decoder", out="runs/a")
    nas.export("runs/a", "codecs/small", target=5, scope="decoder")
    nas.compress("codecs/small", "photo.png", "photo.nic", quality=60)
    nas.decompress("codecs/small", "photo.nic", "decoded.png")

Every command is a function of the same name and options. `load_run` keeps a run open for several questions,
and `load_codec` gives a codec as a PyTorch module. Everything is imported on first use, so that `import nas`
is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import LoadedRun, load_codec, load_family, load_run
    from nas.searching.sampler.pareto import ParetoSampler
    from nas.spaces.architecture import Architecture
    from nas.spaces.budget import Budget
    from nas.spaces.space import SearchSpace
    from nas.support.errors import InputError, NasError
    from nas.verbs.analyse import explain, probe, rank_check
    from nas.verbs.code import compress, decompress, transcode
    from nas.verbs.demo import demo
    from nas.verbs.evaluate import evaluate
    from nas.verbs.export import export
    from nas.verbs.finetune import finetune
    from nas.verbs.info import info
    from nas.verbs.pareto import pareto
    from nas.verbs.profile import profile
    from nas.verbs.renew import renew_codec
    from nas.verbs.runs import zoo
    from nas.verbs.search import search
    from nas.verbs.train import train

_HOMES = {
    "Architecture": "nas.spaces.architecture",
    "Budget": "nas.spaces.budget",
    "InputError": "nas.support.errors",
    "LoadedRun": "nas.api",
    "NasError": "nas.support.errors",
    "ParetoSampler": "nas.searching.sampler.pareto",
    "SearchSpace": "nas.spaces.space",
    "compress": "nas.verbs.code",
    "decompress": "nas.verbs.code",
    "demo": "nas.verbs.demo",
    "evaluate": "nas.verbs.evaluate",
    "explain": "nas.verbs.analyse",
    "export": "nas.verbs.export",
    "finetune": "nas.verbs.finetune",
    "info": "nas.verbs.info",
    "load_codec": "nas.api",
    "load_family": "nas.api",
    "load_run": "nas.api",
    "pareto": "nas.verbs.pareto",
    "probe": "nas.verbs.analyse",
    "profile": "nas.verbs.profile",
    "rank_check": "nas.verbs.analyse",
    "renew_codec": "nas.verbs.renew",
    "search": "nas.verbs.search",
    "train": "nas.verbs.train",
    "transcode": "nas.verbs.code",
    "zoo": "nas.verbs.runs",
}

__all__ = [
    "Architecture",
    "Budget",
    "InputError",
    "LoadedRun",
    "NasError",
    "ParetoSampler",
    "SearchSpace",
    "compress",
    "decompress",
    "demo",
    "evaluate",
    "explain",
    "export",
    "finetune",
    "info",
    "load_codec",
    "load_family",
    "load_run",
    "pareto",
    "probe",
    "profile",
    "rank_check",
    "renew_codec",
    "search",
    "train",
    "transcode",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("nas-codec")
    raise AttributeError(f"module 'nas' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
