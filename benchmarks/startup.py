"""CPU seconds of whole commands for one photo, from the shell, and how they divide into steps.

The commands code one photo of 512x512 with a codec. Every command is a process of its own, and the commands
take turns. If the codec's folder has ONNX models, `decompress` and `info` run with and without them. The
figures are CPU times of the whole process, because other programs disturb them less than the wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from common import heading, say, table

import nas
from nas.photos.images import bundled, write_image

# A script that runs the steps of a command, and notes the time after each
STEPS = """
import json, sys, time
action, codec, source, target = sys.argv[1:]
spent, last = {}, 0.0
def step(name):
    global last
    now = time.process_time()
    spent[name], last = now - last, now
from pathlib import Path
step("Python")
import torch
step("torch")
torch.set_num_threads(1)
import nas.cli, nas.console, typer._adapters
step("command line")
import nas.verbs.code, nas.codec.recode, nas.codec.folder, nas.photos.images as images
step("modules")
family = nas.codec.folder.load_family(codec)
step("loading the codec")
family.codec()
step("its check vector")
from nas.codec.bitstream import decompress_image
from nas.codec.nic import Nic
if action == "compress":
    pixels = images.read_image(source)
    step("reading the picture")
    data = nas.codec.recode.compress_smallest(family, pixels, family.choose_layouts()).to_bytes()
    step("coding")
    Path(target).write_bytes(data)
else:
    pixels = decompress_image(family.codec(), Nic.read(Path(source)))
    step("coding")
    images.write_image(Path(target), pixels)
step("writing")
print(json.dumps(spent))
"""


def cpu_seconds(command: Sequence[object]) -> float:
    """CPU seconds of a process and of those that it starts."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return usage.ru_utime + usage.ru_stime


def spread(values: Sequence[float]) -> list[str]:
    return [f"{value:.2f}" for value in (statistics.median(values), min(values), max(values))]


def shares(action: str, codec: Path, source: Path, target: Path, repeats: int) -> list[list[str]]:
    found: list[dict[str, float]] = []
    for _ in range(repeats):
        command = [sys.executable, "-c", STEPS, action, str(codec), str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    return [[action, name, *spread([each[name] for each in found])] for name in found[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codec", type=Path, help="folder of the codec")
    parser.add_argument("--repeats", type=int, default=5, help="number of repeats")
    given = parser.parse_args()
    say(heading())
    with TemporaryDirectory() as folder:
        place = Path(folder)
        plain = place / "plain"
        shutil.copytree(given.codec, plain, ignore=shutil.ignore_patterns("onnx"))
        photo, file, out = place / "photo.png", place / "photo.nic", place / "out.png"
        write_image(photo, bundled()["test"][0].pixels)
        nas.compress(plain, photo, file)
        verb: Callable[..., list[object]] = lambda *words: [sys.executable, "-m", "nas", *words]  # noqa: E731
        sides = {
            "import torch": [sys.executable, "-c", "import torch"],
            "decompress": verb("decompress", plain, file, out, "--force"),
            "compress": verb("compress", plain, photo, place / "out.nic", "--force"),
            "info CODEC": verb("info", plain),
            "info FILE.nic": verb("info", file),
        }
        if (given.codec / "onnx").is_dir():
            sides["decompress, ONNX models"] = verb("decompress", given.codec, file, out, "--force")
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for repeat in range(given.repeats + 1):
            for name, command in sides.items():
                found = cpu_seconds(command)
                if repeat:
                    seconds[name].append(found)
        rows = [["command", "CPU s", "least", "most", "beyond torch", "least", "most"]]
        for name, values in seconds.items():
            beyond = [value - torch for value, torch in zip(values, seconds["import torch"], strict=True)]
            rows.append([name, *spread(values), *(spread(beyond) if name.endswith("compress") else [""] * 3)])
        say(table(rows))
        steps = shares("decompress", plain, file, out, given.repeats)
        steps += shares("compress", plain, photo, place / "out.nic", given.repeats)
        say(table([["command", "step", "CPU s", "least", "most"], *steps]))


if __name__ == "__main__":
    main()
