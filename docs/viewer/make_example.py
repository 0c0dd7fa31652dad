"""Put an example beside the page: a part of an exported family, and a photo that it coded.

nas export zoo:patch --family --target 1 --scope decoder --out FAMILY
python docs/viewer/make_example.py FAMILY --decoders 3 --most 1.8 --quality 30
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from skimage.data import astronaut  # NASA's picture, in the public domain

import nas
from nas.codec.bitstream import compress_image
from nas.codec.family import CodecFamily
from nas.onnx.write import write_onnx

PLACE = Path(__file__).with_name("example")
ENCODER = ("g_a.onnx", "h_a.onnx", "decoder.py", "encoder.py")  # no part of what the page runs


def part_of(family: CodecFamily, decoders: int, most: float) -> CodecFamily:
    """The first layout, and so many decoders of at most so many kMAC per pixel, evenly spaced in cost."""
    name = next(iter(family.layouts))
    costs = np.array([family.decoder_kmac_px(place, name) for place in range(len(family.decoders))])
    wanted = np.linspace(costs[0], costs[costs <= most][-1], decoders)
    places = sorted({int(np.abs(costs - cost).argmin()) for cost in wanted} | {family.default})
    return CodecFamily(
        family.base,
        {name: family.layouts[name]},
        [family.decoders[place] for place in places],
        {name: family.layout_facts[name]},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("family", type=Path, help="what nas export --family wrote")
    parser.add_argument("--decoders", type=int, default=6, help="number of decoders")
    parser.add_argument("--most", type=float, default=np.inf, help="kMAC per pixel of the dearest decoder")
    parser.add_argument("--quality", type=float, help="0 to 100, of a codec over a range of rates")
    arguments = parser.parse_args()
    family = part_of(nas.load_family(arguments.family), arguments.decoders, arguments.most)
    shutil.rmtree(PLACE, ignore_errors=True)
    write_onnx(family, PLACE)
    for name in ENCODER:
        (PLACE / name).unlink()
    nic = compress_image(family.base, astronaut(), quality=arguments.quality)
    (PLACE / "astronaut.nic").write_bytes(nic.to_bytes())


if __name__ == "__main__":
    main()
