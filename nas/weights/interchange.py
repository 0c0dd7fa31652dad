"""Weights to and from CompressAI's own models, for the families that it has.

Both libraries call the layers alike; only the entropy models are named differently. CompressAI's classes
read their own files, of whatever age, so that nothing about their format is repeated here.
"""

from __future__ import annotations

import re
import urllib.error
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nas.graph.network import CodecNetwork, Supernet
from nas.spaces.description import Family
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.weights.files import require_finite

RASTER = "raster"  # the order in which its autoregressive models decode
# What wrappers add to names: torch.compile, and the data-parallel ones
_WRAPPED = re.compile(r"(?<![^.])(?:_orig_mod|module)\.")
_FIRST = re.compile(r"(?<![^.])g_a\.")  # every model has one: what stands before it is a prefix of all names
# What belongs to the running of a model rather than to its weights: bounds, tables, masks
_CONSTANT = re.compile(r"(^gaussian|pedestal|bound$|target$|\.mask$|_quantized_cdf$|_offset$|_cdf_length$)")


def zoo_name(source: str) -> tuple[str, int] | None:
    """The two parts of a name of CompressAI's zoo, such as mbt2018-4; None for anything else.

    Args:
        source: starting weights, as the user has given them.
    """
    model, _, quality = source.rpartition("-")
    models = {family.compressai for family in FAMILIES.values()}
    return (model, int(quality)) if model in models and re.fullmatch("[1-8]", quality) else None


def from_zoo(source: str, metric: str, space: SearchSpace) -> dict[str, Tensor]:
    """A supernet's weights from CompressAI's zoo; downloaded once, into torch's own cache.

    Args:
        source: name in CompressAI's zoo, such as `mbt2018-4`.
        metric: `mse` or `ms-ssim`.
        space: the space that the weights are for.

    Returns:
        Tensors by name, in the shapes of the space's supernet.

    Raises:
        InputError: not there, or no weights for this space.
    """
    zoo_entry = zoo_name(source)
    if zoo_entry is None:
        raise InputError(f"{source} is not a name of CompressAI's zoo: names look like mbt2018-4.")
    model, quality = zoo_entry
    if model != _model_of(space.family):
        raise InputError(
            f"{source} is another kind of model than {space.name}, whose family ({space.family.name}) is "
            f"CompressAI's {space.family.compressai}: use a model of that kind."
        )
    zoo = _compressai_zoo()
    if quality not in zoo.model_urls[model].get(metric, {}):
        raise InputError(f"CompressAI's zoo has no {source} for {metric}: choose another quality.")
    try:
        theirs = zoo._load_model(model, metric, quality, pretrained=True, progress=False)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"Cannot download {source} ({reason}): fetch {zoo.model_urls[model][metric][quality]} and give "
            "the file's path."
        ) from error
    return _to_supernet(theirs, space, source)


def from_checkpoint(path: Path, space: SearchSpace) -> dict[str, Tensor]:
    """A supernet's weights from a file that torch saved: CompressAI's state dict, or a checkpoint with one.

    Args:
        path: the file.
        space: the space that the weights are for.

    Returns:
        Tensors by name, in the shapes of the space's supernet.

    Raises:
        InputError: not such a file, of another family or size than the space, or not finite.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises has no bounds
        raise InputError(
            f"{path} is neither a run, a supernet.safetensors nor a checkpoint of CompressAI's; or it holds "
            "objects beside tensors: save it with torch.save(model.state_dict(), ...)."
        ) from error
    state = _state_in(content)
    if state is None:
        raise InputError(f"{path} holds no state dict: save one with torch.save(model.state_dict(), ...).")
    return from_state(state, space, str(path))


def from_state(state: Mapping[str, Tensor], space: SearchSpace, source: str) -> dict[str, Tensor]:
    """A supernet's weights from the state dict of a model of CompressAI's.

    Args:
        state: tensors by name, perhaps with what wrappers put before the names.
        space: the supernet's.
        source: where the state is from, for messages.

    Returns:
        Tensors by name, in the shapes of the space's supernet.

    Raises:
        InputError: of another family or size than the space, or not finite.
    """
    require_finite(state, source=source)
    model = _model_of(space.family)
    zoo = _compressai_zoo()
    try:
        theirs = zoo.model_architectures[model].from_state_dict(zoo.load_pretrained(bare_names(state)))
    except (KeyError, RuntimeError, IndexError, ValueError, TypeError, AttributeError) as error:
        kind = zoo.model_architectures[model].__name__
        raise InputError(
            f"The weights in {source} are of another kind than {kind} ({model}), which the space needs: use "
            "other weights, or a space of their family."
        ) from error
    return _to_supernet(theirs, space, source)


def _state_in(content: object, outer: tuple[int, ...] = ()) -> dict[str, Tensor] | None:
    """The first state dict of a codec in a checkpoint, under whatever name; None where there is none."""
    if not isinstance(content, Mapping) or id(content) in outer:  # one that holds itself
        return None
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if any(isinstance(name, str) and _FIRST.search(name) for name in state):
        return state if all(isinstance(name, str) for name in state) else None
    inside = (_state_in(value, (*outer, id(content))) for value in content.values())
    return next((state for state in inside if state is not None), None)


def bare_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what wrappers put into its names (`_orig_mod.`, `module.`, `model.`).

    What is not of the model, such as the state of a loss beside it, is left out.

    Returns:
        The same tensors by their bare names, shapes unchanged.
    """
    first = next((match for name in state if (match := _FIRST.search(name))), None)
    prefix = first.string[: first.start()] if first else ""
    ours = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {_WRAPPED.sub("", name): value for name, value in ours.items()}


@torch.no_grad()
def to_compressai(network: CodecNetwork) -> nn.Module:
    """CompressAI's own model with the weights of a plain network at full width.

    It rounds about means and medians, as `quantizer: centred` does; with integer latents its numbers differ
    a little from the codec's.

    Raises:
        InputError: CompressAI has no such class, or the network has other widths or another layout.
    """
    space = network.space
    model = _model_of(space.family)
    if not network.with_z and space.family.has_z:
        raise InputError(
            f"CompressAI's {model} has a hyperprior, but this architecture has none, so it cannot be "
            "converted."
        )
    layout = next(iter(space.layouts))
    if space.family.context and layout != RASTER:
        raise InputError(
            f"CompressAI's {model} decodes in raster order, but this codec in '{layout}', so it cannot be "
            "converted."
        )
    n, m = network.widths["g_a.1"].full, space.y_channels
    sizes = (n,) if model.startswith("cheng") else (n, m)
    theirs = cast(nn.Module, _compressai_zoo().model_architectures[model](*sizes))
    state = theirs.state_dict()
    ours = {_compressai_name(name): value for name, value in network.state_dict().items()}
    for name, value in state.items():
        if _CONSTANT.search(name):
            continue
        if name not in ours or ours[name].shape != value.shape:
            raise InputError(
                f"CompressAI's {model} has one width throughout (N={n}, M={m} here), and this architecture "
                f"differs from it in {name}: export the widest one."
            )
        state[name] = ours[name].cpu()
    theirs.load_state_dict(state)
    if not network.centred:
        # `update` would also fill the coder's tables, and change the shapes in the state dict
        cast(Any, theirs).entropy_bottleneck._update_quantiles()
    return theirs.eval()


@torch.no_grad()
def _to_supernet(theirs: nn.Module, space: SearchSpace, source: str) -> dict[str, Tensor]:
    """The state of a space's supernet, its learned numbers taken from a model of CompressAI's."""
    supernet = Supernet(space)
    given = theirs.state_dict()
    state = supernet.state_dict()
    for name, value in state.items():
        # the widths' scalars begin as the identity; architectures without z have a prior that theirs has not
        if _CONSTANT.search(name) or name.endswith(".adjust"):
            continue
        if name.startswith("y_prior.") and space.family.has_z:
            continue
        tensor = given.get(_compressai_name(name))
        if tensor is None or tensor.shape != value.shape:
            n, m = (getattr(theirs, size, None) for size in "NM")
            raise InputError(
                f"{source} has N={n}, M={m}, and does not fit the widest architecture of {space.name} (it "
                f"differs in {name}): use a space whose widest widths and latents are those."
            )
        state[name] = tensor
    return state


def _compressai_name(name: str) -> str:
    """CompressAI's name for an entry of our state."""
    renamed = {"context.": "", "prior.": "entropy_bottleneck.", "y_prior.": "entropy_bottleneck."}
    for ours, other in renamed.items():
        if name.startswith(ours):
            return other + name.removeprefix(ours)
    return name


def _model_of(family: Family) -> str:
    if family.compressai is None:
        names = ", ".join(name for name, family in FAMILIES.items() if family.compressai)
        raise InputError(f"CompressAI has no model of the family {family.name}; it has those of {names}.")
    return family.compressai


def _compressai_zoo() -> Any:
    """CompressAI's zoo, which takes seconds to import: it brings its point-cloud models along."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import compressai.zoo.image

    return compressai.zoo.image
