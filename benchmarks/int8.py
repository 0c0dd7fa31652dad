"""How much time 8-bit integers would save in g_s of an ONNX folder, and how much PSNR they would cost.

    OMP_NUM_THREADS=1 python benchmarks/int8.py CODEC --calibration PHOTOS --data PHOTOS

onnxruntime quantises the weights (per channel) and the activations of the learned layers. Their ranges come
from the calibration photos at the lowest, middle and highest rate. The linear path stays in single precision.
Both models run in turn on the same latents. Times are CPU times, and PSNR is computed on 8-bit pixels. The
photos of --data need sides that are multiples of 64.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from common import arguments, heading, interleaved, ratio, say, some_images, table
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor

from nas.codec.bitstream import latents_of
from nas.codec.codec import Codec
from nas.codec.folder import load_codec
from nas.photos.images import Pixels, psnr, read_image
from nas.spaces.rates import scored

PHOTOS = 4  # photos of each folder
SIDE = 512  # side in pixels of the calibration crops
Latents = NDArray[np.float32]


class Calibration(CalibrationDataReader):  # type: ignore[misc] # it has no types
    """Hands latents to onnxruntime one after the other, in the form that g_s reads."""

    def __init__(self, name: str, latents: Iterator[Latents]) -> None:
        self._feeds = ({name: y} for y in latents)

    def get_next(self) -> dict[str, Latents] | None:
        return next(self._feeds, None)


def read_by_g_s(codec: Codec, pixels: Pixels, lmbda: float) -> Latents:
    y_hat, _ = latents_of(codec, pixels, lmbda=lmbda)
    y: Tensor = codec.network.unscaled_y(y_hat, lmbda)
    return y.numpy()


def linear(model: onnx.ModelProto) -> list[str]:
    """List the convolutions of the linear path, from y to the picture without an activation in between."""
    nodes, reached = list(model.graph.node), {model.graph.input[0].name}
    found = []
    for node in nodes:
        if node.op_type in ("Conv", "DepthToSpace") and node.input[0] in reached:
            reached.add(node.output[0])
            found += [node.name] if node.op_type == "Conv" else []
    (whole,) = (node for node in nodes if node.output[0] == model.graph.output[0].name)
    ends = {name for name in whole.input if name in reached}
    kept = []
    while ends:  # follows the graph backwards from the picture
        ends = {node.input[0] for node in nodes if node.output[0] in ends}
        kept += [node.name for node in nodes if node.op_type == "Conv" and node.input[0] in ends]
    return [name for name in found if name in kept]


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def levels(found: Any) -> Pixels:
    x_hat: NDArray[np.float32] = found[0][0]
    return np.rint(255 * x_hat.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)


def main() -> None:
    parser = arguments(__doc__ or "", repeats=5)
    parser.add_argument("codec", type=Path, help="folder of a codec with ONNX models")
    parser.add_argument("--calibration", type=Path, required=True, help="folder of calibration photos")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of other photos; sides are multiples of 64"
    )
    given = parser.parse_args()
    codec = load_codec(given.codec)
    say(heading())
    with tempfile.TemporaryDirectory() as folder:
        single, whole = Path(folder) / "single.onnx", Path(folder) / "int8.onnx"
        model = onnx.load(given.codec / "onnx" / "g_s.0.onnx")
        for number, node in enumerate(model.graph.node):
            node.name = node.name or str(number)
        onnx.save(model, single)
        name = model.graph.input[0].name
        rates = scored(codec.rates)
        crops = (read_image(path)[:SIDE, :SIDE] for path in some_images(given.calibration, PHOTOS))
        latents = (read_by_g_s(codec, crop, lmbda) for crop in crops for lmbda in rates)
        quantize_static(
            single,
            whole,
            Calibration(name, latents),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=linear(model),
        )
        sides = {"single": session(single, given.threads), "int8": session(whole, given.threads)}
        rows = [["photo", "lambda", "single, ms", "its time over int8's", "PSNR lower by, dB"]]
        for path in some_images(given.data, PHOTOS):
            pixels = read_image(path)
            for lmbda in rates:
                feed = {name: read_by_g_s(codec, pixels, lmbda)}
                runs = {side: partial(model.run, None, feed) for side, model in sides.items()}
                spent = interleaved(runs, given.repeats, time.process_time)
                lost = psnr(pixels, levels(runs["single"]())) - psnr(pixels, levels(runs["int8"]()))
                ms = f"{1000 * min(spent['single']):.1f}"
                rows.append([path.stem, f"{lmbda:g}", ms, str(ratio(*spent.values())), f"{lost:.2f}"])
        say(table(rows))


if __name__ == "__main__":
    main()
