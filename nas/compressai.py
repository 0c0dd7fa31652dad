"""Registers exported codecs among CompressAI's models when it is imported.

::

    import nas.compressai
    from compressai.registry import MODELS

    codec = MODELS["nas-codec"](path="codecs/a10")

This is a separate module, because CompressAI's registry takes seconds to import.
"""

from __future__ import annotations

from pathlib import Path

from compressai.registry import register_model

from nas.codec.codec import Codec
from nas.codec.folder import load_codec

NAME = "nas-codec"


def exported(path: str | Path) -> Codec:
    """Load the codec in a folder, as `nas.load_codec` does.

    Args:
        path: folder of the codec.
    """
    return load_codec(path)


register_model(NAME)(exported)  # type: ignore[arg-type, unused-ignore]
