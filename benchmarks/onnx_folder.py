"""Time to write a codec's ONNX folder, its size, and the times of its reference encoder and decoder.

The toolkit and the folder's encoder.py and decoder.py code one photo of 768x512 from pixels to its file and
back, in each layout. All run in one process with their models loaded, and with as many threads. Decoders must
find the same latents, and files of the same latents must be equal.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import MIB, heading, interleaved, ratio, say, table
from decode import codec_arguments, codec_of, supernet_of
from PIL import Image

from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.family import CodecFamily
from nas.codec.quantize import quantized
from nas.onnx.write import write_onnx
from nas.photos.images import bundled, read_image
from nas.photos.tensors import to_tensor
from nas.spaces.layout import named_layout

LAYOUTS = ("none", "checkerboard", "channelwise-10-checkerboard", "raster")


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def size_of(folder: Path, pattern: str) -> float:
    """Size in MiB of the files of a folder that match a pattern."""
    return sum(path.stat().st_size for path in folder.glob(pattern)) / MIB


def main() -> None:
    parser = codec_arguments(__doc__ or "")
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS, help="layouts of the folder")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net = supernet_of(None if given.real_size else given.weights)
    pixels = read_image(given.photo) if given.photo else bundled()["test"][0].pixels
    pixels = np.asarray(Image.fromarray(pixels).resize((768, 512), Image.Resampling.LANCZOS))
    layouts = {name: named_layout(name, net.space.y_channels) for name in given.layouts}
    codec = codec_of(net, layouts[given.layouts[0]])
    y_hat, z_hat = codec.latents(to_tensor(pixels))
    assert z_hat is not None
    family = CodecFamily(quantized(codec, [(y_hat, z_hat)], list(layouts.values())), layouts)
    say(heading())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        import onnx  # noqa: F401 - once, before the clock starts

        began = time.perf_counter()
        write_onnx(family, folder)
        took = time.perf_counter() - began
        blocks = sum(len(layout.blocks(net.space.window)) for layout in layouts.values())
        say(f"written in {took:.1f} s: {len(layouts)} layouts of {blocks} blocks in all")
        rows = [["files", "MiB"]]
        rows += [
            [name, f"{size_of(folder, name):.2f}"]
            for name in ("g_a.onnx", "h_a.onnx", "h_s.onnx", "g_s.0.onnx", "codec.json")
        ]
        rows += [[f"context/{name}.*", f"{size_of(folder, f'context/{name}.*'):.2f}"] for name in layouts]
        say(table(rows) + "\n")
        decoder = sys.modules["decoder"] = load(folder / "decoder.py")  # encoder.py imports it
        decoder.THREADS = given.threads
        encoder = load(folder / "encoder.py")
        y_of_folder, z_of_folder = encoder.latents_of(pixels, None)
        parts = ((y_of_folder, y_hat), (z_of_folder, z_hat))
        others = [f"{int((mine != part.numpy()).sum())} of {mine.size}" for mine, part in parts]
        say(f"latents that g_a and h_a round otherwise: {others[0]} in y, {others[1]} in z")
        rows = [
            [
                *("layout", "bytes", "toolkit encodes, s", "encoder.py, s", "encoder.py over toolkit"),
                *("toolkit decodes, s", "decoder.py, s", "decoder.py over toolkit", "other pixels"),
            ]
        ]
        for name in layouts:
            codec = family.codec(name)
            nic = compress_image(codec, pixels)
            data = nic.to_bytes()
            layout = encoder.layout_named(decoder.description(folder), name)
            stream = encoder.encode_latents(y_hat.numpy(), z_hat.numpy(), layout)
            if encoder.file_of(layout, 768, 512, None, stream) != data:
                raise RuntimeError(f"{name}: encoder.py writes another file")
            expected = codec.decode([nic.stream], codec.shape(512, 768))[0].numpy()
            if not np.array_equal(decoder.decode_latents(data)[0], expected):
                raise RuntimeError(f"{name}: decoder.py finds other latents")
            ours, theirs = decompress_image(codec, nic).astype(int), decoder.decode(data).astype(int)
            if np.abs(ours - theirs).max() > 1:
                raise RuntimeError(f"{name}: decoder.py finds another picture")
            sides = {
                "toolkit encodes": partial(compress_image, codec, pixels),
                "encoder.py": partial(encoder.encode, pixels, layout=name),
                "toolkit decodes": partial(decompress_image, codec, nic),
                "decoder.py": partial(decoder.decode, data),
            }
            seconds = interleaved(sides, given.repeats)
            cells = [name, str(len(data))]
            for mine, other in (("encoder.py", "toolkit encodes"), ("decoder.py", "toolkit decodes")):
                cells += [f"{np.median(seconds[side]):.2f}" for side in (other, mine)]
                cells.append(str(ratio(seconds[mine], seconds[other])))
            rows.append([*cells, f"{(ours != theirs).mean():.1e}"])
        say(table(rows))


if __name__ == "__main__":
    main()
