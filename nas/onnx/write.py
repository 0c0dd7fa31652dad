"""Writes a family of codecs as a folder of ONNX models, which codes and decodes without this toolkit."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.codec.coder import CODER
from nas.codec.family import CodecFamily
from nas.graph.entropy import MEAN_STEPS, SCALE_BOUNDS, SCALES, Y_LIMIT, Z_LIMIT
from nas.graph.network import CodecNetwork
from nas.onnx.layouts import describe_layout
from nas.onnx.quick import DESCRIPTION, sealed
from nas.support.errors import InputError
from nas.support.files import digest, write_atomically
from nas.support.progress import StageReport, silent

if TYPE_CHECKING:
    import onnx

ONNX_FORMAT = "nas-onnx 1"
REFERENCE = ("decoder.py", "encoder.py")  # of which the second reads the first


def write_onnx(family: CodecFamily, out: Path, *, report: StageReport = silent) -> dict[str, Any]:
    """Write g_a, h_a, h_s, every g_s and every block of every layout, and the reference encoder and decoder.

    Args:
        family: the family on the CPU. An ordinary codec is a family with one layout and one decoder.
        out: the folder.
        report: called for each written model.

    Returns:
        The content of codec.json.

    Raises:
        InputError: the entropy path or the latents are not integers, or the package onnx is missing.
    """
    require_integers(family)
    require_package()
    return _Writer(family, out, report).write()


def require_integers(family: CodecFamily) -> None:
    """Raise InputError if the entropy path or the latents are not integers.

    Args:
        family: the codecs to write.
    """
    if not family.base.exact or family.base.network.centred:
        raise not_integer_error()


def not_integer_error() -> InputError:
    """The error to raise for a codec whose entropy path or latents are not integers."""
    return InputError(
        "ONNX runtimes have no convolutions in float64, so only a codec whose entropy path is in whole "
        "numbers can be written as ONNX: export it with --arithmetic exact, from a space with "
        "`quantizer: integer`."
    )


def require_package() -> None:
    """Raise InputError if the package onnx is missing."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise InputError("Writing ONNX needs the package onnx: pip install '.[onnx]'.") from error


def rates_of(network: CodecNetwork) -> dict[str, Any]:
    """The gains of a codec over a range of rates, one row for each anchor. All but the shift are logarithms.

    Args:
        network: network of the codec.
    """
    described: dict[str, Any] = {
        "lambdas": list(network.space.rates),
        "before_rounding": network.gains.log_gain.tolist(),
        "before_g_s": network.gains.log_inverse.tolist(),
    }
    if network.with_z:
        gains = network.hyper_gains
        described |= {"z_before_rounding": gains.log_gain.tolist(), "z_shift": gains.shift.tolist()}
    return described


class _Writer:
    def __init__(self, family: CodecFamily, out: Path, report: StageReport) -> None:
        self.family, self.out, self.report = family, out, report
        network = family.base.network
        self.y, self.with_z = network.space.y_channels, network.with_z
        self.z = network.space.z_channels if self.with_z else 0
        self.with_context = self.with_z and network.space.family.context
        blocks = [len(layout.of_network.blocks(network.space.window)) for layout in family.layouts.values()]
        self.total = 1 + 2 * self.with_z + len(family.decoders) + self.with_context * sum(blocks)
        self.done = 0
        self.files: dict[str, str] = {}  # by content, because several cells of a tile may share a model

    def write(self) -> dict[str, Any]:
        from nas.onnx.path import hyper_model
        from nas.onnx.transforms import transform_model

        family, network = self.family, self.family.base.network
        edges = network.space.family.edges
        g_a = transform_model(edges["g_a"], network.g_a, inputs=("x", 3), outputs=("y", self.y))
        self.save("g_a.onnx", g_a)
        if self.with_z:
            h_a = transform_model(edges["h_a"], network.h_a, inputs=("y", self.y), outputs=("z", self.z))
            self.save("h_a.onnx", h_a)
            sizes, bare = (self.z, network.widths["psi"].active), not self.with_context
            with_means = bare and network.space.family.psi_parts == 2
            self.save("h_s.onnx", hyper_model(family.base.coding_h_s, sizes, with_means=with_means))
        content = {
            "format": ONNX_FORMAT,
            "coder": CODER,
            "fingerprint": family.base.fingerprint,
            "family": network.space.family.name,
            "alignment": family.base.alignment,
            "y_channels": self.y,
            "z_channels": self.z,
            "window": network.context.window if self.with_z else 1,
            "y_limit": Y_LIMIT,
            "z_limit": Z_LIMIT,
            "mean_steps": MEAN_STEPS,
            "scales": SCALES.tolist(),
            "scale_bounds": SCALE_BOUNDS.astype(int).tolist(),
            "table": family.base.table.tolist(),
            **({"rates": rates_of(network)} if network.space.rates else {}),
            "default": family.default,
            "decoders": [self.decoder(index) for index in range(len(family.decoders))],
            "layouts": [self.layout(name) for name in family.layouts],
        }
        content = sealed(content | {"files": {name: file_digest for file_digest, name in self.files.items()}})
        for name in REFERENCE:
            write_atomically(self.out / name, resources.files("nas.onnx").joinpath(name).read_bytes())
        write_atomically(self.out / DESCRIPTION, json.dumps(content) + "\n")  # last: the folder is complete
        return content

    def save(self, name: str, model: onnx.ModelProto) -> str:
        """Write a model, unless another file has the same content. Returns the name of the file."""
        data = model.SerializeToString(deterministic=True)
        if (first := self.files.setdefault(digest(data), name)) == name:
            write_atomically(self.out / name, data)
        self.done += 1
        self.report("writing ONNX", self.done, self.total, name)
        return first

    def decoder(self, index: int) -> dict[str, Any]:
        from nas.onnx.transforms import transform_model

        member = self.family.decoders[index]
        edge = member.space.family.edges["g_s"]
        model = transform_model(edge, member.g_s, inputs=("y_hat", self.y), outputs=("x_hat", 3))
        facts = {
            "kmac_px": member.facts.get("kmac_px"),
            "g_s_kmac_px": member.facts.get("kmac_px_by_edge", {}).get("g_s"),
            "params": member.facts.get("params"),
        }
        return {
            "file": self.save(f"g_s.{index}.onnx", model),
            "arch": member.architecture.key,
            **{name: value for name, value in facts.items() if value is not None},
        }

    def layout(self, name: str) -> dict[str, Any]:
        layout, codec = self.family.layouts[name], self.family.codec(name)
        facts = {"stages": layout.stages(), **self.family.layout_facts[name]}
        return {
            "name": name,
            "entropy_path": codec.path_identity,
            "fingerprint": codec.fingerprint,
            **{key: facts[key] for key in ("stages", "kmac_px") if key in facts},
            **describe_layout(codec, name, self.save),
        }
