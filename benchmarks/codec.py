"""Whole codecs beside CompressAI's joint autoregressive model with the same weights, on one photo of 768x512.

Decoding is timed in two parts: everything before g_s (reading the stream, h_s, the context model stage by
stage), and g_s. The toolkit decodes in raster order, as CompressAI does, and in four stages, each with the
exact entropy path and in float64. The weights are those of a run, or random ones at the size of a published
model.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from common import arguments, heading, ratio, say, table
from decode import Timed, codec_of, supernet_of
from PIL import Image

from nas.codec.codec import Codec
from nas.codec.coder import Decoder
from nas.codec.quantize import quantized
from nas.photos.images import bundled, read_image
from nas.photos.tensors import to_tensor
from nas.run import Run
from nas.spaces.layout import named_layout

LAYOUTS = ("raster", "raster-2x2")
THEIRS = "CompressAI, mbt2018"
PARTS = ("encode", "before g_s", "coder", "decode")


def ours(codec: Codec, x: torch.Tensor) -> Callable[[], dict[str, float]]:
    """Encode and decode once with the toolkit.

    Returns:
        Seconds by part. `coder` is everything between entropy parameters and values.
    """
    coded = codec.compress(x)
    decode, coder = Timed(codec.decode), Summed()
    by_stages = codec.coding_context.by_stages
    object.__setattr__(codec, "decode", decode)
    object.__setattr__(codec.coding_context, "by_stages", lambda psi, read: by_stages(psi, coder.of(read)))

    def run() -> dict[str, float]:
        began = time.perf_counter()
        codec.compress(x)
        encoded = time.perf_counter()
        coder.seconds = 0.0
        with mock.patch.object(Decoder, "under_table", coder.of(Decoder.under_table)):
            codec.decompress(**coded)
        return {
            "encode": encoded - began,
            "before g_s": decode.seconds,
            "coder": coder.seconds,
            "decode": time.perf_counter() - encoded,
        }

    return run


def theirs(model: Any, x: torch.Tensor) -> Callable[[], dict[str, float]]:
    """Encode and decode once with CompressAI's model. Returns seconds by part."""
    model.update(force=True)
    coded = model.compress(x)
    seconds = {"g_s": 0.0}
    began_at = [0.0]

    def begin(*_: Any) -> None:
        began_at[0] = time.perf_counter()

    def end(*_: Any) -> None:
        seconds["g_s"] = time.perf_counter() - began_at[0]

    model.g_s.register_forward_pre_hook(begin)
    model.g_s.register_forward_hook(end)

    def run() -> dict[str, float]:
        began = time.perf_counter()
        model.compress(x)
        encoded = time.perf_counter()
        model.decompress(**coded)
        whole = time.perf_counter() - encoded
        return {"encode": encoded - began, "before g_s": whole - seconds["g_s"], "decode": whole}

    return run


class Summed:
    """Adds up the seconds that functions take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            began = time.perf_counter()
            found = function(*given)
            self.seconds += time.perf_counter() - began
            return found

        return timed


def main() -> None:
    parser = arguments(__doc__ or "", repeats=5)
    parser.add_argument("--run", type=Path, help="a run of joint-ar; its widest architecture is timed")
    parser.add_argument("--photo", type=Path, help="a photo to code instead of a bundled one")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    net = supernet_of(Run.open(given.run)) if given.run else supernet_of(None)
    pixels = read_image(given.photo) if given.photo else bundled()["test"][0].pixels
    x = to_tensor(np.asarray(Image.fromarray(pixels).resize((768, 512), Image.Resampling.LANCZOS)))
    sides: dict[str, Callable[[], dict[str, float]]] = {}
    sizes: dict[str, int] = {}
    for name in LAYOUTS:
        floating = codec_of(net, named_layout(name, net.space.y_channels))
        y_hat, z_hat = floating.latents(x)
        assert z_hat is not None
        for kind, codec in (("exact", quantized(floating, [(y_hat, z_hat)])), ("float64", floating)):
            strings = codec.encode(y_hat, z_hat)
            if not torch.equal(codec.decode(strings, codec.shape(512, 768))[0], y_hat):
                raise RuntimeError(f"{name}, {kind}: what was decoded is not what was encoded")
            sides[f"{name}, {kind}"] = ours(codec, x)
            sizes[f"{name}, {kind}"] = len(strings[0])
    model: Any = codec_of(net, named_layout("raster", net.space.y_channels)).to_compressai()
    sides[THEIRS] = theirs(model, x)
    sizes[THEIRS] = sum(len(s[0]) for s in model.compress(x)["strings"])

    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for repeat in range(given.repeats + 1):
        for name, run in sides.items():
            seconds = run()
            if repeat:
                found[name].append(seconds)
    say(heading())
    rows = [["", "bytes", *(f"{part} s" for part in PARTS), "times faster: before g_s", "decode", "encode"]]
    for name, runs in found.items():
        medians = [f"{statistics.median(r.get(part, float('nan')) for r in runs):.3f}" for part in PARTS]
        times = [
            str(ratio([r[part] for r in found[THEIRS]], [r[part] for r in runs]))
            for part in ("before g_s", "decode", "encode")
        ]
        rows.append([name, str(sizes[name]), *medians, *times])
    say(table(rows))


if __name__ == "__main__":
    main()
