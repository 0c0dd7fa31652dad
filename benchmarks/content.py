"""How much smaller files get if the best layout is chosen for each picture instead of once for all.

    python benchmarks/content.py FAMILY --data KODAK

The comparison is made for every limit on stages that the family's layouts allow. The ratio of seconds
compares `compress_smallest`, which tries all layouts, with compressing in a single one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from common import arguments, heading, interleaved, ratio, say, table

from nas.codec.bitstream import Latents, compress_image, latents_of, write_latents
from nas.codec.family import CodecFamily
from nas.codec.folder import load_family
from nas.codec.recode import compress_smallest
from nas.photos.images import Pixels, list_images, read_image


def sizes(family: CodecFamily, latents: Latents, pixels: Pixels) -> list[int]:
    """Size in bytes of one picture's file in every layout."""
    height, width = pixels.shape[:2]
    files = (write_latents(family.codec(name), latents, width, height) for name in family.layouts)
    return [len(nic.to_bytes()) for nic in files]


def main() -> None:
    parser = arguments(__doc__ or "", repeats=5)
    parser.add_argument("family", type=Path, help="folder of the codec family")
    parser.add_argument("--data", required=True, help="folder of photos")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    family, photos = load_family(options.family), [read_image(path) for path in list_images(options.data)]
    names = list(family.layouts)
    stages = np.array([family.layouts[name].stages() for name in names])
    found = np.array([sizes(family, latents_of(family.base, pixels), pixels) for pixels in photos], float)
    rows = [["stages", "best single layout", "smaller by", "at most by", "chosen", "time, all over one"]]
    for most in sorted(set(stages.tolist())):
        within = np.flatnonzero(stages <= most)
        if len(within) < 2:
            continue
        single = int(within[found[:, within].mean(0).argmin()])
        gains = 1 - found[:, within].min(1) / found[:, single]
        picks = within[found[:, within].argmin(1)]
        chosen = ", ".join(f"{names[k]} {int((picks == k).sum())}" for k in within if (picks == k).any())
        seconds = interleaved(
            {
                "all": lambda within=within: compress_smallest(family, photos[0], [names[k] for k in within]),
                "one": lambda single=single: compress_image(family.codec(names[single]), photos[0]),
            },
            options.repeats,
        )
        rows.append(
            [
                f"at most {most}",
                names[single],
                f"{gains.mean():.2%}",
                f"{gains.max():.2%}",
                chosen,
                str(ratio(seconds["all"], seconds["one"])),
            ]
        )
    say(f"{heading()}; {len(photos)} photos, {len(names)} layouts")
    say(table(rows))


if __name__ == "__main__":
    main()
