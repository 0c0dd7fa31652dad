"""How much memory coding takes: each measurement in a process of its own, which does nothing else.

    python -m nas.cost.memory FOLDER encode|decode WIDTH HEIGHT FILE.nic

loads the codec in FOLDER, codes the sample photo into FILE.nic or decodes that file, and prints the most
memory the process had held before and after, in bytes, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nas.errors import InputError
from nas.images import Pixels, bundled

ACTIONS = ("encode", "decode")
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class PeakMemory:
    """The most memory a process held, in bytes: once the codec was loaded, and after coding one photo."""

    before: int
    after: int

    @property
    def coding(self) -> int:
        """What coding took beyond the loaded codec, bytes."""
        return self.after - self.before


def sample_photo(width: int, height: int) -> Pixels:
    """A real photo, [height, width, 3] in 8 bits: cut to the size, mirrored where it is too small.

    Raises:
        InputError: no such size.
    """
    if width < 1 or height < 1:
        raise InputError(f"A photo cannot measure {width}x{height}: give a width and a height in pixels.")
    pixels = bundled()["test"][0].pixels
    missing = [
        (0, max(0, wanted - had)) for wanted, had in zip((height, width), pixels.shape[:2], strict=True)
    ]
    return np.ascontiguousarray(np.pad(pixels, [*missing, (0, 0)], mode="reflect")[:height, :width])


def peak_memory(folder: Path, width: int, height: int) -> dict[str, PeakMemory]:
    """The memory of `encode` and of `decode`, each in a fresh process on the CPU.

    Args:
        folder: an exported codec.
        width, height: of the photo in pixels.

    Raises:
        InputError: a process failed; the message holds what it said.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "sample.nic"
        return {action: _in_process(folder, action, width, height, file) for action in ACTIONS}


def _in_process(folder: Path, action: str, width: int, height: int, file: Path) -> PeakMemory:
    command = [
        sys.executable,
        "-m",
        "nas.cost.memory",
        str(folder),
        action,
        str(width),
        str(height),
        str(file),
    ]
    above = str(Path(__file__).resolve().parents[2])  # where `nas` is, installed or not
    path = os.pathsep.join(filter(None, (above, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise InputError(f"Cannot measure the memory of {folder} ({action}): {reason}")
    return PeakMemory(**json.loads(done.stdout))


def measure_here(folder: Path, action: str, width: int, height: int, file: Path) -> PeakMemory:
    """Code once in this process; only of use in one that has done nothing else yet."""
    from nas.codec.bitstream import Nic, compress_image, decompress_image
    from nas.codec.folder import load_codec

    codec = load_codec(folder)
    if action == "encode":
        pixels = sample_photo(width, height)
        before = peak_bytes()
        file.write_bytes(compress_image(codec, pixels).to_bytes())
    elif action == "decode":
        nic = Nic.read(file)
        before = peak_bytes()
        decompress_image(codec, nic)
    else:
        raise InputError(f"There is no action '{action}': use encode or decode.")
    return PeakMemory(before, peak_bytes())


def peak_bytes() -> int:
    """The most memory this process has held so far.

    Linux hands `ru_maxrss` of the parent on to a process it starts, so its own high-water mark is read
    where there is one.
    """
    if STATUS.is_file():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main(arguments: list[str]) -> str:
    """What the module prints when it is run: one line of JSON."""
    try:
        folder, action, width, height, file = arguments
        sizes = int(width), int(height)
    except ValueError:
        raise InputError(
            "Give FOLDER, encode or decode, WIDTH, HEIGHT and FILE.nic, in this order."
        ) from None
    return json.dumps(asdict(measure_here(Path(folder), action, *sizes, Path(file))))


if __name__ == "__main__":
    try:
        sys.stdout.write(main(sys.argv[1:]) + "\n")
    except InputError as error:
        sys.exit(f"Error: {error}")
