"""Write the golden files that are missing: see README.md beside this."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from families import INTEGER, RATED, image, net_of  # noqa: E402
from PIL import Image  # noqa: E402
from skimage import data  # noqa: E402

from nas.codec.bitstream import compress_image, decompress_image  # noqa: E402
from nas.codec.codec import Codec  # noqa: E402
from nas.codec.family import Family, Member  # noqa: E402
from nas.codec.folder import DESCRIPTION, WEIGHTS, save_family  # noqa: E402
from nas.codec.quantize import can_be_exact, quantized  # noqa: E402
from nas.support.files import digest  # noqa: E402

QUALITIES = (0, 37.5, 100)  # where a codec has any
# Every family; every layout of a space at once, by a network and by a table; a range of rates
CASES = (
    *("factorized", "scale-hyperprior", "mean-scale-hyperprior", "joint-ar", "residual", "cheng", "patch"),
    *("tables", "factorized-rates", "joint-ar-rates", "patch-rates", "tables-alone-rates"),
)


def family_of(case: str) -> Family:
    """The widest codec of a small space, its layouts, and a narrower decoder where there is one."""
    name = case.replace("-rates", "-integer-rates") if case.startswith(("f", "j", "p")) else case
    name = case if case in RATED else name if name in RATED else f"{case}-integer"
    space, net = (INTEGER | RATED)[name], net_of(name)
    large = space.widest()
    indexes = list(space.indexes(large))
    for place, slot in enumerate(space.slots):
        if slot.layers[0][0].startswith("g_s"):
            indexes[place] = 0
    small = space.at(indexes)
    codec = Codec(net.extract(large), large)
    layouts = space.layouts if can_be_exact(codec) and space.layouts else {large.layout: codec.layout}
    if can_be_exact(codec):
        codec = quantized(codec, [codec.latents(image(0))], list(layouts.values()))
    layouts = {large.layout: codec.layout} | dict(layouts)
    members = [Member(codec.network.space, codec.network.g_s)]
    if small != large:
        members.insert(0, Member(space.only(small), net.extract(small).g_s))
    return Family(codec, layouts, members)


def latents_digest(codec: Codec, stream: bytes, height: int, width: int) -> str:
    """A digest of the integers in a file."""
    y_hat, z_hat = codec.decode([stream], codec.shape(height, width))
    parts = [part for part in (y_hat, z_hat) if part is not None]
    return digest(*(part.numpy().astype("<i2").tobytes() for part in parts))


def make(case: str, out: Path) -> None:
    """Write one folder."""
    family, pixels = family_of(case), np.ascontiguousarray(data.chelsea()[60:130, 90:221])
    save_family(family, out, {"lmbda": 0.01, "metric": "mse"})
    found = {}
    for layout in family.layouts:
        codec = family.codec(layout)
        for quality in QUALITIES if codec.rates else (None,):
            nic = compress_image(codec, pixels, quality=quality)
            name = layout if quality is None else f"{layout}-{quality:g}"
            (out / f"{name}.nic").write_bytes(nic.to_bytes())
            Image.fromarray(decompress_image(codec, nic)).save(out / f"{name}.png", optimize=True)
            found[f"{name}.nic"] = latents_digest(codec, nic.stream, nic.height, nic.width)
    with zipfile.ZipFile(out / "codec.zip", "w", zipfile.ZIP_LZMA) as packed:
        for name in (DESCRIPTION, WEIGHTS):
            packed.write(out / name, name)
    for name in (DESCRIPTION, WEIGHTS, "model.py"):
        (out / name).unlink()
    (out / "latents.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    for case in CASES:
        if not (HERE / case).exists():
            make(case, HERE / case)
            size = sum(file.stat().st_size for file in (HERE / case).iterdir())
            sys.stdout.write(f"{case}: {size / 1000:.1f} kB\n")
