"""Exported codecs among CompressAI's models: importing this registers them.

::

    import nas.compressai
    from compressai.registry import MODELS

    codec = MODELS["nas-codec"](path="codecs/a10")

A module of its own, since CompressAI's registry takes seconds to import.
"""

from __future__ import annotations

from pathlib import Path

from compressai.registry import register_model

from nas.codec.codec import Codec
from nas.codec.folder import load_codec

NAME = "nas-codec"


def exported(path: str | Path) -> Codec:
    """The codec in a folder, as `nas.load_codec` gives it.

    Args:
        path: folder of the codec.
    """
    return load_codec(path)


register_model(NAME)(exported)  # type: ignore[arg-type, unused-ignore]
