"""Makes a codec with bitstreams from weights that other code has trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.codec.codec import Codec
from nas.codec.family import CodecFamily
from nas.codec.folder import KEPT_FACTS, load_family, read_description, save_family
from nas.comparison.evaluate_family import measure_family
from nas.metrics.objective import Objective
from nas.photos.split import part_of, split_of
from nas.run import HELD_OUT_PHOTOS
from nas.support.errors import InputError
from nas.support.files import clear, refuse_existing, refuse_over_input
from nas.support.paths import with_paths
from nas.verbs.export import with_arithmetic
from nas.weights.files import read_weights, require_finite
from nas.weights.interchange import bare_names


@with_paths
def renew_codec(
    source: str | Path,
    weights: str | Path | Mapping[str, Tensor],
    data: str | Path,
    out: str | Path,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Write an exported codec again with weights that your own code has trained.

    If the entropy path (h_s, context, entropy parameters) has changed, it is converted to integers again
    and the codec gets another identity. If only g_a or g_s have changed, files made before still decode. A
    family keeps its layouts, but only the base codec's decoder.

    Args:
        source: folder of the exported codec.
        weights: the layers' tensors by name (`g_a.0.weight`, ...), as in the codec's `model.py` and in
            `codec.network`, or the path of a .safetensors file with them. Shapes must be those of the codec.
        data: a folder of photos, or `bundled`. Its calibration photos calibrate the integers, and its
            held-out photos measure the new codec.
        out: folder of the new codec.
        force: replace an existing folder.

    Returns:
        The content of the new codec.yaml.

    Raises:
        InputError: the weights do not fit the codec or are not finite, or `out` exists already.

    Example:
        >>> weights = nas.load_codec("codecs/a").network.state_dict()  # trained by your own code
        >>> content = nas.renew_codec("codecs/a", weights, "bundled", "codecs/renewed")
        >>> content["arch"] == nas.load_codec("codecs/a").architecture.key
        True
    """
    source, out, data = Path(source), Path(out), str(data)
    content, family = read_description(source), load_family(source)
    if "lmbda" not in content:
        raise InputError(f"{source} does not say its lmbda: export the codec again.")
    refuse_existing(out, force=force, what="codec")
    refuse_over_input(out, source, data, *([] if isinstance(weights, Mapping) else [weights]))
    split = split_of(data)
    calibration, photos = (part_of(data, split, part) for part in ("calibration", "held-out"))
    photos = photos[:HELD_OUT_PHOTOS]
    before = family.base
    network = copy.deepcopy(before.network)
    _load(network, weights)
    facts = {name: content[name] for name in KEPT_FACTS if name in content}
    codec = Codec(network, before.architecture)
    same = torch.equal(codec.table, before.table) and all(
        torch.equal(value, network.state_dict()[name])
        for name, value in before.network.state_dict().items()
        if name.startswith(("h_s.", "context."))
    )
    if same:
        codec = Codec(network, before.architecture, before.table, before.integers)
    elif before.exact:
        made = with_arithmetic(codec, None, calibration, list(family.layouts.values()))
        codec, cost = made.codec, made.cost
        facts |= {} if cost is None else {"exact_costs": round(cost, 6)}
    renewed = CodecFamily(codec, family.layouts, (), family.layout_facts)
    objective = Objective(content["lmbda"], content.get("metric", "mse"))
    measurement = measure_family(renewed, photos, objective)
    facts["measured"] = {"split": "held-out", "photos": len(photos), **measurement.decoders[0]}
    if force:
        clear(out)
    return save_family(measurement.noted_in(renewed), out, facts)


def _load(network: torch.nn.Module, weights: str | Path | Mapping[str, Tensor]) -> None:
    """Load weights into a network. All learned tensors must be present."""
    if not isinstance(weights, Mapping):
        weights, _ = read_weights(Path(weights))
    weights = bare_names(weights)
    require_finite(weights, source="the trained layers")
    state = network.state_dict()
    learned = {name for name, _ in network.named_parameters() if not name.endswith("quantiles")}
    missing, unknown = sorted(learned - set(weights)), sorted(set(weights) - set(state))
    if missing or unknown:
        what = f"lack {missing[0]}" if missing else f"have {unknown[0]}, which the codec has not"
        raise InputError(f"The weights do not fit the codec: they {what}.")
    wrong = [name for name, value in weights.items() if value.shape != state[name].shape]
    if wrong:
        shapes = tuple(weights[wrong[0]].shape), tuple(state[wrong[0]].shape)
        raise InputError(f"The weights do not fit the codec: {wrong[0]} is {shapes[0]}, not {shapes[1]}.")
    network.load_state_dict({**state, **weights})
