"""Measures the memory of coding. Each measurement runs in a process of its own, which does nothing else.

    python -m nas.profiling.memory CODEC encode IMAGE FILE.nic
    python -m nas.profiling.memory CODEC decode FILE.nic IMAGE

load the codec, code once and print, as JSON and in bytes, what the process held before it loaded the codec
and the most that it held while coding.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nas.photos.images import Pixels, bundled, read_image, write_image
from nas.support.errors import InputError
from nas.support.files import write_atomically
from nas.support.limits import check_size

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class PeakMemory:
    """Memory of a process in bytes: before it loaded the codec, and the most while it coded one photo.

    Attributes:
        before: bytes before the codec was loaded.
        after: the most bytes while a photo was coded.
    """

    before: int
    after: int

    @property
    def added(self) -> int:
        """Memory that the codec added: its weights, their copies for coding, and working memory."""
        return self.after - self.before


def sample_photo(width: int, height: int) -> Pixels:
    """A real photo, [height, width, 3] in 8 bits: cut to the size, mirrored where it is too small.

    Args:
        width: width of the photo, in pixels.
        height: height of the photo, in pixels.

    Raises:
        InputError: no such size.
    """
    check_size(width, height)
    pixels = _photo()
    missing = [
        (0, max(0, wanted - had)) for wanted, had in zip((height, width), pixels.shape[:2], strict=True)
    ]
    return np.ascontiguousarray(np.pad(pixels, [*missing, (0, 0)], mode="reflect")[:height, :width])


@functools.cache  # a profile asks for it hundreds of times
def _photo() -> Pixels:
    return bundled()["test"][0].pixels


def peak_memory(folder: Path, width: int, height: int) -> dict[str, PeakMemory]:
    """The memory of `encode` and of `decode`, each in a fresh process on the CPU.

    Args:
        folder: an exported codec.
        width, height: size of the photo in pixels.

    Raises:
        InputError: no such size, or a process failed; the message holds what it said.
    """
    with tempfile.TemporaryDirectory() as temporary:
        photo, file, decoded = (Path(temporary) / name for name in ("photo.png", "photo.nic", "decoded.png"))
        write_image(photo, sample_photo(width, height))
        encode = _in_process(folder, "encode", photo, file)
        return {"encode": encode, "decode": _in_process(folder, "decode", file, decoded)}


def _in_process(folder: Path, action: str, source: Path, target: Path) -> PeakMemory:
    command = [sys.executable, "-m", "nas.profiling.memory", str(folder), action, str(source), str(target)]
    above = str(Path(__file__).resolve().parents[2])  # where `nas` is, installed or not
    path = os.pathsep.join(filter(None, (above, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise InputError(f"Cannot measure the memory of {folder} ({action}): {reason}")
    return PeakMemory(**json.loads(done.stdout))


def measure_here(folder: Path, action: str, source: Path, target: Path) -> PeakMemory:
    """Code once in this process; only of use in one that has done nothing else yet.

    Args:
        folder: the codec's.
        action: `encode` makes a .nic file of an image, `decode` an image of a .nic file.
        source, target: the two files.

    Raises:
        InputError: another action, or a file that cannot be used.
    """
    from nas.codec.bitstream import compress_image, decompress_image
    from nas.codec.folder import load_codec
    from nas.codec.nic import Nic

    if action == "encode":
        pixels = read_image(source)
        before = held_bytes_now()
        codec = load_codec(folder)
        forget_peak()
        coded = compress_image(codec, pixels).to_bytes()
        peak = PeakMemory(before, peak_bytes())
        write_atomically(target, coded)
    elif action == "decode":
        nic = Nic.read(source)
        before = held_bytes_now()
        codec = load_codec(folder)
        forget_peak()
        decoded = decompress_image(codec, nic)
        peak = PeakMemory(before, peak_bytes())
        write_image(target, decoded)
    else:
        raise InputError(f"There is no action '{action}': use encode or decode.")
    return peak


def peak_bytes() -> int:
    """The most memory this process has held so far.

    Linux hands `ru_maxrss` of the parent on to a process it starts, so its own high-water mark is read
    where there is one.
    """
    return _status("VmHWM") or _most_by_usage()


def held_bytes_now() -> int:
    """Memory that this process holds now, or the most it has held if the system gives no better figure."""
    return _status("VmRSS") or _most_by_usage()


def forget_peak() -> None:
    """Let `peak_bytes` start again from what is held now, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """One of Linux's figures for this process, bytes; 0 where there is none."""
    for line in STATUS.read_text().splitlines() if STATUS.is_file() else []:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _most_by_usage() -> int:
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main(arguments: list[str]) -> str:
    """What the module prints when it is run: one line of JSON.

    Args:
        arguments: arguments on the command line after the module's name.

    Raises:
        InputError: the arguments name nothing to measure.
    """
    if len(arguments) != 4:
        raise InputError("Give FOLDER, encode or decode, the file to read and the file to write.")
    folder, action, source, target = arguments
    return json.dumps(asdict(measure_here(Path(folder), action, Path(source), Path(target))))


if __name__ == "__main__":
    try:
        sys.stdout.write(main(sys.argv[1:]) + "\n")
    except InputError as error:
        sys.exit(f"Error: {error}")
