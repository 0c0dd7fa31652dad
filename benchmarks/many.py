"""Time to code many pictures with one codec: one after another, in threads, or in processes.

Each way runs in a fresh process, which loads the codec, codes one picture to warm up, and then codes all of
them. CPU time includes child processes. All ways must write the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common import heading, say, table
from PIL import Image

from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import load_codec
from nas.codec.nic import Nic
from nas.photos.images import bundled, read_image, write_image

SIDES = {
    "one after another, {n} threads inside each operation": ("serial", 1, 0),
    "one after another, one thread": ("serial", 1, 1),
    "{n} at a time, in threads": ("threads", 0, 1),
    "{n} at a time, in processes": ("processes", 0, 1),
}
ACTIONS = ("compress", "decompress")


def write_photos(folder: Path, count: int) -> None:
    """Write the bundled photos at 768x512, with mirrored and rotated copies of them."""
    photos = [photo.pixels for part in bundled().values() for photo in part]
    for number in range(count):
        image = Image.fromarray(photos[number % len(photos)]).resize((768, 512))
        turn = number // len(photos) % 4
        turned = image.transpose(list(Image.Transpose)[turn - 1]) if turn else image
        turned.save(folder / f"{number:03}.png")


def work(codec: Codec, action: str, threads: int, path: Path) -> bytes:
    """Read one file, code it, and write the result beside it."""
    torch.set_num_threads(threads)
    if action == "compress":
        data = compress_image(codec, read_image(path)).to_bytes()
        path.with_suffix(".nic").write_bytes(data)
        return data
    pixels = decompress_image(codec, Nic.read(path.with_suffix(".nic")))
    write_image(path.with_suffix(".out.png"), pixels)
    return pixels.tobytes()


def cpu() -> float:
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


def side(folder: str, codec_folder: str, action: str, how: str, workers: str, threads: str) -> None:
    """Run one way in this process. Prints seconds, CPU seconds and a digest of the written files."""
    paths = sorted(path for path in Path(folder).glob("*.png") if path.suffixes == [".png"])
    torch.set_num_threads(int(threads))
    each = partial(work, load_codec(codec_folder), action, int(threads))
    if how != "processes":  # a process cannot safely fork after it has used threads
        each(paths[0])
    began, before = time.perf_counter(), cpu()
    if how == "serial":
        found = [each(path) for path in paths]
    elif how == "threads":
        with ThreadPoolExecutor(int(workers)) as pool:
            found = list(pool.map(each, paths))
    else:
        with multiprocessing.get_context("fork").Pool(int(workers)) as pool:
            found = pool.map(each, paths, chunksize=1)
            pool.close()
            pool.join()
    print(time.perf_counter() - began, cpu() - before, hashlib.sha1(b"".join(found)).hexdigest())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codec", type=Path, help="folder of the codec")
    parser.add_argument("--count", type=int, default=24, help="number of pictures")
    parser.add_argument("--threads", type=int, default=2, help="number of CPU threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    say(heading())
    rows = []
    with TemporaryDirectory() as place:
        write_photos(Path(place), given.count)
        for action in ACTIONS:
            digests = set()
            for name, (how, workers, threads) in SIDES.items():
                words = [place, given.codec, action, how, workers or given.threads, threads or given.threads]
                command = [sys.executable, __file__, "--side", *map(str, words)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, cpu_seconds, digest = done.stdout.split()
                rows.append(
                    [
                        action,
                        name.format(n=given.threads),
                        f"{float(seconds):.1f}",
                        f"{float(cpu_seconds):.1f}",
                    ]
                )
                digests.add(digest)
            assert len(digests) == 1, "the sides wrote other bytes"
    say(table([["", "", "seconds", "CPU seconds"], *rows]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side(*sys.argv[2:])
    else:
        main()
