"""Decodes one file with the ONNX models in a codec's folder. This starts quickly, without torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.codec.nic import Nic
from nas.photos.images import Pixels
from nas.support.errors import InputError
from nas.support.files import digest
from nas.support.limits import ONE_THREAD

MODELS_FOLDER, DESCRIPTION = "onnx", "codec.json"
MOST_PIXELS = 1 << 22  # larger pictures are decoded in tiles, by torch


@dataclass(frozen=True)
class Quick:
    """A decoded picture.

    Attributes:
        pixels: the picture, [H, W, 3] in 8 bits.
        arch: key of the codec that decoded it.
        kmac_px: cost of decoding, if the codec has several decoders.
    """

    pixels: Pixels
    arch: str
    kmac_px: float | None


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Add a digest of the whole content to a codec.json.

    Args:
        content: the content.
    """
    return {**content, "digest": digest(json.dumps(content))}


def decode_quickly(codec: str | Path, nic: Nic, target: str | float | None = None) -> Quick | None:
    """Decode a file with the ONNX models in a codec's folder, if the result equals that of torch.

    Args:
        codec: folder of the codec.
        nic: the file.
        target: see `nas.decompress`.

    Returns:
        The picture, at most one level of 255 away from torch's. None if torch has to decode it: there are no
        models or no onnxruntime, the models do not belong to the codec or were altered, another codec made
        the file, the picture is large, or the target is not a number that some decoder reaches.

    Raises:
        InputError: the file is damaged.
    """
    folder = Path(codec) / MODELS_FOLDER
    description = _description(folder)
    if description is None or nic.width * nic.height > MOST_PIXELS:
        return None
    try:
        from nas.onnx import decoder
    except ImportError:  # onnxruntime is optional
        return None
    if decoder.misfit(description):
        return None
    layout = next(
        (each for each in description["layouts"] if each["entropy_path"] == nic.path_identity), None
    )
    if layout is None:
        return None
    decoders, decoder_index = description["decoders"], description["default"]
    try:
        if target is not None:
            if not re.fullmatch(r"\d+(\.\d+)?", str(target)):
                return None
            decoder_index = decoder.within(description, layout, float(target))
        several = len(decoders) > 1
        cost = decoder.costs(description, layout)[decoder_index] if several else None
    except decoder.InputError:
        return None
    decoder.THREADS = 1 if nic.width * nic.height <= ONE_THREAD else 0
    try:
        pixels = decoder.decode(nic.to_bytes(), decoder_index, folder)
    except decoder.InputError as error:
        raise InputError(str(error)) from error
    arch = re.sub(r"(?<=layout=)[^+]*", layout["name"], decoders[decoder_index]["arch"])
    return Quick(pixels, arch, cost)


def _description(folder: Path) -> dict[str, Any] | None:
    """codec.json, if it and the models are unaltered and belong to the codec of the parent folder."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        seal = content.pop("digest")
        named = re.search(
            r"^fingerprint: '?(\w+)'?$", (folder.parent / "codec.yaml").read_text("utf-8"), re.M
        )
        if named is None or named[1] != content["fingerprint"] or digest(json.dumps(content)) != seal:
            return None
        same = (
            digest((folder / name).read_bytes()) == expected for name, expected in content["files"].items()
        )
        return content if all(same) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # missing, damaged, or too old
        return None
