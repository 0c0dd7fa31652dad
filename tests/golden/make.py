"""Write the golden files that are missing: see README.md beside this."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402
from families import INTEGER, RATED, image, net_of  # noqa: E402
from PIL import Image  # noqa: E402
from skimage import data  # noqa: E402

from nas.codec.bitstream import compress_image, decompress_image  # noqa: E402
from nas.codec.codec import Codec  # noqa: E402
from nas.codec.family import CodecFamily, Member  # noqa: E402
from nas.codec.folder import DESCRIPTION, WEIGHTS, save_family  # noqa: E402
from nas.codec.quantize import can_be_exact, quantized  # noqa: E402
from nas.photos.grey import to_grey  # noqa: E402
from nas.support.files import digest  # noqa: E402

ALL = INTEGER | RATED
QUALITIES = (0, 37.5, 100)  # where a codec has any
GREY = "-grey"  # ends the name of a case whose picture is grey
# Every family; layouts by a network and by a table; a range of rates; grey pictures of both versions
CASES = (
    *("factorized", "scale-hyperprior", "mean-scale-hyperprior", "joint-ar", "residual", "cheng", "patch"),
    *("factorized-rates", "joint-ar-rates", "patch-rates", "tables-alone-rates"),
    *("factorized-grey", "joint-ar-rates-grey"),
)


def family_of(case: str) -> CodecFamily:
    """A codec of a small space with all of its parts, under all layouts; and a wider decoder."""
    name = next(
        name for name in (case, f"{case}-integer", case.replace("-rates", "-integer-rates")) if name in ALL
    )
    space, net = ALL[name], net_of(name)
    with torch.no_grad():
        for weight in net.parameters():  # in so few bits that they pack well
            weight.copy_(weight.bfloat16())
    indexes = [len(slot.candidates) - 1 if 0 in slot.candidates else 0 for slot in space.slots]
    wider = [
        len(slot.candidates) - 1 if slot.layers[0][0] in ("g_s.1", "g_s_inner.1") else index
        for slot, index in zip(space.slots, indexes, strict=True)
    ]
    base, other = space.at([*indexes, 0]), space.at([*wider, 0])
    codec = Codec(net.extract(base), base)
    layouts = {base.layout: codec.layout}
    if can_be_exact(codec):
        layouts |= space.layouts
        codec = quantized(codec, [codec.latents(image(0))], list(layouts.values()))
    # what decoding costs is told where one of several has to be chosen; the figures are no measurement
    members = [Member(codec.network.space, codec.network.g_s, {"kmac_px": {"decoder": 1.0}})]
    if other != base and case == "joint-ar":
        members.append(Member(space.only(other), net.extract(other).g_s, {"kmac_px": {"decoder": 2.0}}))
    return CodecFamily(codec, layouts, members, {name: {"kmac_px": {"decoder": 1.0}} for name in layouts})


def latents_digest(codec: Codec, stream: bytes, height: int, width: int) -> str:
    """A digest of the integers in a file."""
    y_hat, z_hat = codec.decode([stream], codec.shape(height, width))
    parts = [part for part in (y_hat, z_hat) if part is not None]
    return digest(*(part.numpy().astype("<i2").tobytes() for part in parts))


def make(case: str, out: Path) -> None:
    """Write one folder."""
    family, pixels = family_of(case.removesuffix(GREY)), np.ascontiguousarray(data.chelsea()[80:113, 110:165])
    pixels = to_grey(pixels) if case.endswith(GREY) else pixels
    save_family(family, out, {"lmbda": 0.01, "metric": "mse"})
    found = {}
    for layout in family.layouts:
        codec = family.codec(layout)
        for quality in QUALITIES if codec.rates else (None,):
            nic = compress_image(codec, pixels, quality=quality)
            name = layout if quality is None else f"{layout}-{quality:g}"
            (out / f"{name}.nic").write_bytes(nic.to_bytes())
            picture = out / ("picture.png" if quality is None else f"picture-{quality:g}.png")
            if not picture.exists():  # layouts change no picture
                Image.fromarray(decompress_image(codec, nic)).save(picture, optimize=True)
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
