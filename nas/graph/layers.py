"""Plain and slimmable layers, the two sets from which a family's description can be built.

Plain layers make an exported codec. Slimmable layers make the supernet: each one holds one full weight and
runs a slice of it, chosen by the `Width` objects that it shares with its neighbours. While widths are
learned, gates are set on a `Width`. The full layer then runs and its output is masked, with the same results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.graph.entropy import widened
from nas.graph.gdn import GDN, SlimmableGDN
from nas.graph.width import Width
from nas.spaces import description as spec

LEAKY_SLOPE = 0.01
# Widths whose values must keep full precision: latents, the inputs of their rates, and a linear block
# transform, whose first component is large
PRECISE, LINEAR = ("y", "z", "psi"), "linear."
_ROWS = 32  # number of rows that `_scattered` handles at a time
Widths = Mapping[str, Width]


@contextmanager
def precise(x: Tensor, *, wanted: bool = True) -> Iterator[None]:
    """Keep mixed precision away from x's device, because it must not reach latents.

    bfloat16 has eight significant bits, so a latent of 300 would move in steps of 2.

    Args:
        x: a tensor of any shape on the device in question.
        wanted: whether to keep half precision out. If False, nothing changes.
    """
    if not wanted or not torch.is_autocast_enabled(x.device.type):
        yield
        return
    with torch.autocast(x.device.type, enabled=False):
        yield


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """A convolution in the form that is fastest on the device. On a CPU, channels are last in memory.

    On a CPU, patches that do not overlap are computed as one matrix product, and so are 1x1 kernels in single
    precision. oneDNN takes two to four times as long for these, and with one thread torch does not use it.

    Args:
        x: [B, C, H, W].
        weight, bias: [outputs, C, kernel, kernel] and [outputs].
        stride, padding: stride and padding of the convolution.
    """
    if x.device.type != "cpu":
        return F.conv2d(x, weight, bias, stride, padding)
    kernel = weight.shape[2]
    whole = x.shape[2] % kernel == 0 and x.shape[3] % kernel == 0
    if kernel == stride and kernel > 1 and not padding and whole:
        return _pointwise(patches(x, kernel), weight.permute(0, 2, 3, 1).flatten(1), bias)
    if kernel == 1 and not padding:
        # torch 2.15's backward of a strided 1x1 convolution corrupts memory for channels-last images on a
        # CPU; taking the positions first is the same convolution
        x, stride = x[..., ::stride, ::stride], 1
        if x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            return _pointwise(x.permute(0, 2, 3, 1), weight.flatten(1), bias)
    return F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, bias, stride, padding)


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Multiply [B, H, W, C] by [outputs, C], and return [B, outputs, H, W]."""
    return F.linear(x, weight, bias).permute(0, 3, 1, 2)


def patches(x: Tensor, side: int) -> Tensor:
    """Split images into squares as vectors: [B, C, H, W] to [B, H / side, W / side, side * side * C].

    Args:
        x: images or features, with sides that are multiples of `side`.
        side: side of a square.
    """
    batch, channels, height, width = x.shape
    down, across = height // side, width // side
    cut = x.permute(0, 2, 3, 1).reshape(batch, down, side, across, side, channels)
    return cut.transpose(2, 3).reshape(batch, down, across, side * side * channels)


def from_patches(x: Tensor, side: int) -> Tensor:
    """The inverse of `patches`: [B, side * side * C, h, w] to [B, C, h * side, w * side], channels last.

    Args:
        x: at each position side * side vectors of C numbers, row by row.
        side: side of a square.
    """
    batch, channels, height, width = x.shape
    cut = x.permute(0, 2, 3, 1).reshape(batch, height, width, side, side, channels // side**2)
    whole = cut.transpose(2, 3).reshape(batch, height * side, width * side, channels // side**2)
    return whole.permute(0, 3, 1, 2)


class SlimmableConv2d(nn.Conv2d):
    """A convolution that runs `weight[:out, :in]`. Under gates, its output is masked after the bias.

    Args:
        inputs, outputs: the widths before and after the layer.
        kernel, stride, padding: as in `Conv2d`.
        each: number of outputs per channel of `outputs`: the square of the stride in a sub-pixel convolution.
    """

    def __init__(
        self, inputs: Width, outputs: Width, kernel: int, stride: int, padding: int, each: int = 1
    ) -> None:
        super().__init__(inputs.full, outputs.full * each, kernel, stride, padding)
        self.inputs, self.outputs, self.each = inputs, outputs, each
        self.precise = outputs.name in PRECISE or any(w.name.startswith(LINEAR) for w in (inputs, outputs))

    def sliced(self) -> dict[str, Tensor]:
        """The state of the plain layer at the active widths.

        Returns:
            Tensors by name: weight [out, in, k, k] and bias [out].
        """
        weight = self.inputs.take(self.weight, 1)
        return {
            "weight": self.outputs.take(weight, 0, self.each),
            "bias": self.outputs.take(cast(Tensor, self.bias), 0, self.each),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x, [B, C, H, W], at the active widths."""
        return self.outputs.masked(self._convolved(x, **self.sliced()))

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with precise(x, wanted=self.precise):
            x = widened(x) if self.precise else x
            return convolve(x, weight, bias, int(self.stride[0]), int(self.padding[0]))


class SlimmableSubPixel(nn.Sequential):
    """A sub-pixel convolution. Its state has the names and shapes of a convolution before a PixelShuffle.

    Outputs are computed in the order of `from_patches`, so that they can be moved in runs. In PixelShuffle's
    order, every number would have to be moved alone.

    Args:
        inputs, outputs: the widths before and after the layer.
        kernel: side of the kernel.
        stride: how many times larger the output is than the input, per side.
    """

    def __init__(self, inputs: Width, outputs: Width, kernel: int, stride: int) -> None:
        conv = SlimmableConv2d(inputs, outputs, kernel, 1, kernel // 2, each=stride**2)
        super().__init__(conv, nn.PixelShuffle(stride))
        self.outputs, self.stride = outputs, stride

    def forward(self, x: Tensor) -> Tensor:
        """Upsample x, [B, C, H, W], at the active widths."""
        conv = cast(SlimmableConv2d, self[0])
        part = {name: self._by_places(value) for name, value in conv.sliced().items()}
        return self.outputs.masked(from_patches(conv._convolved(x, **part), self.stride))

    def _by_places(self, value: Tensor) -> Tensor:
        """Reorder values of outputs: place by place in a square instead of channel by channel."""
        if self.stride == 1:
            return value
        places: Tensor = value.unflatten(0, (-1, self.stride**2))
        return places.transpose(0, 1).flatten(0, 1)


class SlimmableDepthwise(nn.Conv2d):
    """A depthwise convolution that runs the active channels' kernels. Under gates, its output is masked.

    Args:
        width: the channels, whose number is chosen at run time.
        kernel: side of the kernel, odd.
    """

    def __init__(self, width: Width, kernel: int) -> None:
        super().__init__(width.full, width.full, kernel, padding=kernel // 2, groups=width.full)
        self.width = width

    def sliced(self) -> dict[str, Tensor]:
        """The state of the plain layer at the active width.

        Returns:
            Tensors by name: weight [channels, 1, k, k] and bias [channels].
        """
        return {"weight": self.width.take(self.weight), "bias": self.width.take(cast(Tensor, self.bias))}

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each channel of x, [B, C, H, W], separately."""
        part = self.sliced()
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        out = F.conv2d(x, part["weight"], part["bias"], padding=self.padding, groups=self.width.active)
        return self.width.masked(out)


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's transposed convolution whose output is `stride` times as large as its input: see `deconvolve`.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        kernel: side of the kernel.
        stride: how many times larger the output is than the input, per side.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2, output_padding=stride - 1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Deconvolve x, [B, C, H, W]. `output_size` is not used."""
        return deconvolve(x, self.weight, cast(Tensor, self.bias), self.kernel_size[0], self.stride[0])


def deconvolve(x: Tensor, weight: Tensor, bias: Tensor, kernel: int, stride: int) -> Tensor:
    """A transposed convolution that multiplies both sides by `stride`.

    Args:
        x: [B, C, H, W].
        weight, bias: [C, outputs, kernel, kernel] and [outputs].
        kernel, stride: kernel and stride of the convolution.
    """
    inputs, outputs = weight.shape[:2]
    few = outputs < 8 and inputs >= 64 and stride <= kernel // 2 + 1
    if few and x.device.type == "cpu" and not torch.is_grad_enabled():
        return _scattered(x, weight, bias, kernel, stride)
    return F.conv_transpose2d(x, weight, bias, stride, kernel // 2, stride - 1)


def _scattered(x: Tensor, weight: Tensor, bias: Tensor, kernel: int, stride: int) -> Tensor:
    """Compute all outputs by matrix products and add them to their places, some rows at a time.

    The MACs are the same. Where many channels become three, as for a picture, oneDNN takes three times as
    long.
    """
    batch, _, height, width = x.shape
    spread = weight.flatten(1).t().expand(batch, -1, -1)
    wide = (width - 1) * stride + kernel
    out = x.new_zeros(batch, weight.shape[1], (height - 1) * stride + kernel, wide)
    for top in range(0, height, _ROWS):
        rows = x[:, :, top : top + _ROWS]
        tall = (rows.shape[2] - 1) * stride + kernel
        parts = torch.bmm(spread, rows.flatten(2))
        out[:, :, top * stride : top * stride + tall] += F.fold(parts, (tall, wide), kernel, stride=stride)
    edge = kernel // 2
    inner = out[:, :, edge : edge + height * stride, edge : edge + width * stride]
    return inner + bias[:, None, None]


class SlimmableConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that runs `weight[:in, :out]`. Under gates, its output is masked.

    Args:
        inputs: input channels, whose number is chosen at run time.
        outputs: output channels, whose number is chosen at run time.
        kernel: side of the kernel.
        stride: how many times larger the output is than the input, per side.
    """

    def __init__(self, inputs: Width, outputs: Width, kernel: int, stride: int) -> None:
        super().__init__(
            inputs.full,
            outputs.full,
            kernel,
            stride,
            padding=kernel // 2,
            output_padding=stride - 1,
        )
        self.inputs, self.outputs = inputs, outputs

    def sliced(self) -> dict[str, Tensor]:
        """The state of the plain layer at the active widths.

        Returns:
            Tensors by name: weight [in, out, k, k] and bias [out].
        """
        weight = self.inputs.take(self.weight, 0)
        return {
            "weight": self.outputs.take(weight, 1),
            "bias": self.outputs.take(cast(Tensor, self.bias)),
        }

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Deconvolve x, [B, C, H, W], at the active widths. `output_size` is not used."""
        part = self.sliced()
        stride, kernel = self.stride[0], self.kernel_size[0]
        return self.outputs.masked(deconvolve(x, part["weight"], part["bias"], kernel, stride))


class ResidualBlock(nn.Module):
    """A residual block: `body(x) + shortcut(x)`, or `body(x) + x`. Its layers keep their described names.

    Args:
        body: layers of the body by name, in order.
        shortcut: name and layer of the shortcut, or None.
    """

    def __init__(self, body: Mapping[str, nn.Module], shortcut: tuple[str, nn.Module] | None) -> None:
        super().__init__()
        self._body, self._shortcut = tuple(body), shortcut[0] if shortcut else None
        for name, module in (*body.items(), *([shortcut] if shortcut else [])):
            self.add_module(name, module)

    def change(self, x: Tensor) -> Tensor:
        """The output of the body, which the block adds to its input.

        Args:
            x: input of the block, [B, C, H, W].

        Returns:
            In the shape of `x`.
        """
        for name in self._body:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Add the change of x, [B, C, H, W], to x or to the output of the shortcut."""
        return self.change(x) + (x if self._shortcut is None else self.get_submodule(self._shortcut)(x))


class SlimmableRepeat(nn.ModuleList):
    """The first blocks of a stack, as many as the depth says. Under gates all run, weighted by their shares.

    Args:
        blocks: all blocks, in order. Each adds something to its input.
        depth: number of blocks that run, chosen at run time.
    """

    def __init__(self, blocks: list[nn.Module], depth: Width) -> None:
        super().__init__(blocks)
        self.depth = depth

    def forward(self, x: Tensor) -> Tensor:
        """Run the active blocks on x, [B, C, H, W]."""
        shares = self.depth.mask()
        for number, block in enumerate(list(self)[: self.depth.active]):
            for residual in [block] if isinstance(block, ResidualBlock) else block.children():
                assert isinstance(residual, ResidualBlock)
                change = residual.change(x)
                x = x + (change if shares is None else shares[number].to(x.dtype) * change)
        return x


class SideBySide(nn.ModuleDict):
    """Parallel branches whose outputs are added."""

    def forward(self, x: Tensor) -> Tensor:
        """The sum of all branches' outputs for x, [B, C, H, W]."""
        first, *others = self.values()
        out: Tensor = first(x)
        for branch in others:
            out = out + branch(x)
        return out


class SlimmableSideBySide(nn.ModuleDict):
    """Parallel branches, some of which have a switch. Under gates all run, each weighted by its share.

    Args:
        branches: the branches by name. The first one always runs.
        switches: for branches that have a switch, the width or depth whose 0 leaves the branch out.
    """

    def __init__(self, branches: Mapping[str, nn.Module], switches: Mapping[str, Width]) -> None:
        super().__init__(branches)
        self.switches = switches

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the active branches' outputs for x, [B, C, H, W]."""
        out: Tensor | None = None
        for name, branch in self.items():
            switch = self.switches.get(name)
            if switch is not None and not switch.active:
                continue
            part = branch(x)
            if switch is not None and (share := switch.share()) is not None:
                part = share.to(part.dtype) * part
            out = part if out is None else out + part
        assert out is not None
        return out


class Transform(nn.Sequential):
    """The layers of one edge. On a CPU without gradients, channels are last in memory, which is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers on x, [B, C, H, W]."""
        as_given = torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32
        x = x if as_given else x.contiguous(memory_format=torch.channels_last)
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call] # torch gives it no types
        return out if as_given else out.contiguous()


class OnMagnitudes(Transform):
    """Layers that read |x|, as h_a of the scale hyperprior does."""

    def forward(self, x: Tensor) -> Tensor:
        """The output of the layers for |x|, [B, C, H, W]."""
        return super().forward(x.abs())


class PlainLayers:
    """Makes plain layers at the active widths, with the same parameters as torch's and CompressAI's layers.

    Every method makes the module of one kind of layer. `layer` is the description of the layer, and `widths`
    has the network's widths by name. `repeat` and `parallel` take finished modules, and the widths that say
    how many blocks run or whether a branch runs.
    """

    def conv(self, layer: spec.Conv, widths: Widths) -> nn.Module:
        """A convolution of the active widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs].active, widths[layer.outputs].active
        return nn.Conv2d(inputs, outputs, layer.kernel, layer.stride, layer.padding)

    def depthwise(self, layer: spec.Depthwise, widths: Widths) -> nn.Module:
        """A depthwise convolution of the active width.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        channels = widths[layer.width].active
        return nn.Conv2d(channels, channels, layer.kernel, padding=layer.kernel // 2, groups=channels)

    def deconv(self, layer: spec.Deconv, widths: Widths) -> nn.Module:
        """A deconvolution of the active widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs].active, widths[layer.outputs].active
        return ConvTranspose2d(inputs, outputs, layer.kernel, layer.stride)

    def subpel(self, layer: spec.Subpel, widths: Widths) -> nn.Module:
        """A sub-pixel convolution of the active widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs].active, widths[layer.outputs].active
        conv = nn.Conv2d(inputs, outputs * layer.stride**2, layer.kernel, padding=layer.kernel // 2)
        return nn.Sequential(conv, nn.PixelShuffle(layer.stride))

    def gdn(self, layer: spec.GDN, widths: Widths) -> nn.Module:
        """A GDN of the active width.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        return GDN(widths[layer.width].active, inverse=layer.inverse)

    def repeat(self, blocks: list[nn.Module], depth: Width) -> nn.Module:
        """A sequence of blocks.

        Args:
            blocks: the blocks of the widest network, in order.
            depth: how many of them the network has.
        """
        return nn.Sequential(*blocks)

    def parallel(self, branches: Mapping[str, nn.Module], switches: Mapping[str, Width]) -> nn.Module:
        """Parallel branches.

        Args:
            branches: the branches by name.
            switches: width of each branch's switch, by the branch's name.
        """
        return SideBySide(branches)


class SlimmableLayers:
    """Makes layers that hold the widest weights and run slices. See `PlainLayers` for the methods."""

    def conv(self, layer: spec.Conv, widths: Widths) -> nn.Module:
        """A convolution of any widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs], widths[layer.outputs]
        return SlimmableConv2d(inputs, outputs, layer.kernel, layer.stride, layer.padding)

    def depthwise(self, layer: spec.Depthwise, widths: Widths) -> nn.Module:
        """A depthwise convolution of any width.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        return SlimmableDepthwise(widths[layer.width], layer.kernel)

    def deconv(self, layer: spec.Deconv, widths: Widths) -> nn.Module:
        """A deconvolution of any widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs], widths[layer.outputs]
        return SlimmableConvTranspose2d(inputs, outputs, layer.kernel, layer.stride)

    def subpel(self, layer: spec.Subpel, widths: Widths) -> nn.Module:
        """A sub-pixel convolution of any widths.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        inputs, outputs = widths[layer.inputs], widths[layer.outputs]
        return SlimmableSubPixel(inputs, outputs, layer.kernel, layer.stride)

    def gdn(self, layer: spec.GDN, widths: Widths) -> nn.Module:
        """A GDN of any width.

        Args:
            layer: description of the layer.
            widths: the widths of the network by choice.
        """
        return SlimmableGDN(widths[layer.width], layer.inverse)

    def repeat(self, blocks: list[nn.Module], depth: Width) -> nn.Module:
        """A stack of blocks, of which the first ones run.

        Args:
            blocks: all blocks, in order.
            depth: how many of them run, chosen at run time.
        """
        return SlimmableRepeat(blocks, depth)

    def parallel(self, branches: Mapping[str, nn.Module], switches: Mapping[str, Width]) -> nn.Module:
        """Parallel branches, of which those that are switched on run.

        Args:
            branches: the branches by name.
            switches: width of each branch's switch, by the branch's name.
        """
        return SlimmableSideBySide(branches, switches)


Layers = PlainLayers | SlimmableLayers


def build_leaf(layer: spec.Leaf, layers: Layers, widths: Widths) -> nn.Module:
    """Build the module of one single layer.

    Args:
        layer: description of the layer.
        layers: makes the modules, plain or slimmable.
        widths: widths of the network by name.
    """
    match layer:
        case spec.Conv():
            return _begun(layers.conv(layer, widths), layer)
        case spec.Deconv():
            return layers.deconv(layer, widths)
        case spec.Subpel():
            return _begun(layers.subpel(layer, widths), layer)
        case spec.Depthwise():
            return layers.depthwise(layer, widths)
        case spec.GDN():
            return layers.gdn(layer, widths)
        case spec.ReLU():
            return nn.ReLU()
        case spec.LeakyReLU():
            return nn.LeakyReLU(LEAKY_SLOPE)


def _begun(conv: nn.Module, layer: spec.Conv | spec.Subpel) -> nn.Module:
    """A convolution, sub-pixel or not, with its initial weights."""
    if layer.zero:
        for parameter in conv.parameters():
            nn.init.zeros_(parameter)
    return conv


def build_layer(layer: spec.Layer, layers: Layers, widths: Widths) -> nn.Module:
    """Build the module of one described layer or block.

    Args:
        layer: description of the layer or block.
        layers: makes the modules, plain or slimmable.
        widths: widths of the network by name.
    """
    match layer:
        case spec.Residual():
            names, parts = zip(*layer.body, strict=True)
            body = dict(zip(names, _chain(parts, layers, widths), strict=True))
            if layer.shortcut is None:
                return ResidualBlock(body, None)
            name, part = layer.shortcut
            return ResidualBlock(body, (name, build_leaf(part, layers, widths)))
        case spec.Repeat():
            depth = widths[layer.depth]
            blocks = [_build_block(layer.block, layers, widths) for _ in range(depth.active)]
            return layers.repeat(blocks, depth)
        case spec.Parallel():
            switches = {branch.name: widths[branch.switch] for branch in layer.branches if branch.switch}
            running = [b for b in layer.branches if b.name not in switches or switches[b.name].active]
            branches = {b.name: nn.Sequential(*_chain(b.layers, layers, widths)) for b in running}
            return layers.parallel(branches, switches)
        case _:
            return build_leaf(layer, layers, widths)


def _build_block(residuals: Sequence[spec.Residual], layers: Layers, widths: Widths) -> nn.Module:
    modules = [build_layer(residual, layers, widths) for residual in residuals]
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def _chain(parts: Sequence[spec.Layer], layers: Layers, widths: Widths) -> list[nn.Module]:
    """The modules of consecutive layers. A GDN may overwrite the output of the convolution before it."""
    modules = [build_layer(part, layers, widths) for part in parts]
    for before, module in zip(parts, modules[1:], strict=False):
        if isinstance(module, GDN):
            module.in_place = isinstance(before, spec.Conv | spec.Deconv | spec.Subpel)
    return modules


def build_edge(edge: spec.Edge, layers: Layers, widths: Widths) -> nn.Sequential:
    """Build the transform of one edge.

    Args:
        edge: description of the edge.
        layers: makes the modules, plain or slimmable.
        widths: widths of the network by name.
    """
    kind = OnMagnitudes if edge.magnitude else Transform
    return kind(*_chain(edge.layers, layers, widths))
