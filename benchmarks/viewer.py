"""Time of the web page docs/viewer, compared with the toolkit: for the entropy coder, and for a photo's file.

Both run on one thread. The modules of the page run under node as they do in a browser. Their first run is
reported separately: a visitor waits for it, and the code is not fully compiled yet.
"""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import arguments, heading, interleaved, ratio, say, table
from decode import ROOT, codec_of, supernet_of
from PIL import Image

from nas.codec.bitstream import compress_image
from nas.codec.coder import Decoder, Encoder
from nas.codec.family import CodecFamily
from nas.codec.quantize import quantized
from nas.graph.entropy import MEAN_STEPS, SCALES
from nas.onnx.write import write_onnx
from nas.photos.images import bundled
from nas.photos.tensors import to_tensor
from nas.spaces.layout import named_layout

LAYOUTS = ("checkerboard", "raster")
SYMBOLS = 192 * 32 * 48  # y of 768x512 at 192 channels


class Page:
    """The modules of the page in a node process, which waits for requests."""

    def __init__(self, *files: Path) -> None:
        command = ["node", str(Path(__file__).with_suffix(".mjs")), str(ROOT / "docs" / "viewer")]
        self.process = subprocess.Popen(
            [*command, *map(str, files)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, job: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(job + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "done\n":
            raise RuntimeError(f"the page failed at {job}")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compared(name: str, page: Page, job: str, ours: Callable[[], object], repeats: int) -> list[str]:
    began = time.perf_counter()
    page.do(job)
    first = time.perf_counter() - began
    seconds = interleaved({"page": lambda: page.do(job), "toolkit": ours}, repeats)
    medians = [f"{np.median(seconds[side]):.3f}" for side in ("toolkit", "page")]
    return [name, *medians, str(ratio(seconds["page"], seconds["toolkit"])), f"{first:.3f}"]


def write_symbols(path: Path) -> Callable[[], object]:
    """Write random symbols that are mostly near zero, as y is. Returns a function that decodes them here."""
    draw = np.random.default_rng(0)
    levels = np.minimum(draw.geometric(0.12, SYMBOLS) - 1, len(SCALES) - 1)
    steps = draw.normal(0, 10, SYMBOLS).round().astype(int)
    scales, means = SCALES[levels], steps / MEAN_STEPS
    values = np.round(draw.normal(means, scales)).astype(np.int32)
    limit, coder = int(np.abs(values).max()), Encoder()
    coder.gaussian(values, scales, means, limit)
    data = coder.finish()
    content = {"data": base64.b64encode(data).decode(), "scales": SCALES.tolist(), "parts": MEAN_STEPS}
    content |= {"limit": limit, "levels": levels.tolist(), "means": steps.tolist()}
    path.write_text(json.dumps(content))
    return lambda: Decoder(data).gaussian(scales, means, limit)


def main() -> None:
    given = arguments(__doc__ or "", repeats=5).parse_args()
    torch.set_num_threads(given.threads)
    photo = Image.fromarray(bundled()["test"][0].pixels)
    pixels = np.asarray(photo.resize((768, 512), Image.Resampling.LANCZOS))
    net = supernet_of(None)  # joint-ar at 192 channels, random weights
    layouts = {name: named_layout(name, net.space.y_channels) for name in LAYOUTS}
    codec = codec_of(net, layouts[LAYOUTS[0]])
    exact = quantized(codec, [codec.latents(to_tensor(pixels))], list(layouts.values()))
    family = CodecFamily(exact, layouts)
    say(heading())
    rows = [["what", "toolkit, s", "page, s", "page over toolkit", "page's first, s"]]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_onnx(family, folder / "onnx")
        read = write_symbols(folder / "symbols.json")
        page = Page(folder / "onnx", folder / "photo.nic", folder / "symbols.json")
        for name in layouts:
            codec = family.codec(name)
            nic = compress_image(codec, pixels)
            (folder / "photo.nic").write_bytes(nic.to_bytes())
            page.do("load")
            stream, shape = [nic.stream], codec.shape(nic.height, nic.width)
            decode = lambda c=codec, s=stream, z=shape: c.decode(s, z)  # noqa: E731
            rows.append(compared(f"latents, {name}", page, "latents", decode, given.repeats))
        y_hat, _ = decode()
        rows.append(compared("g_s", page, "picture", lambda: family.base.synthesize(y_hat), given.repeats))
        rows.append(compared(f"{SYMBOLS:,} symbols alone", page, "symbols", read, given.repeats))
        page.close()
    say(table(rows))


if __name__ == "__main__":
    main()
