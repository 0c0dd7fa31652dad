"""GDN in pieces: CompressAI's numbers and gradients, in every memory format and size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from families import INTEGER_NAMES, image, net_of
from torch import Tensor, nn

from nas.cost.counting.macs import count_macs
from nas.graph import _compressai, context
from nas.graph.layers import gdn
from nas.graph.layers.blocks import Transform
from nas.graph.layers.convolution import ConvTranspose2d
from nas.graph.layers.gdn import GDN, SlimmableGDN, normalize
from nas.graph.layers.width import Width
from nas.spaces.layout import named_layout

FORMATS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(1, 5, 3, 7), (3, 8, 5, 5), (2, 12, 1, 9), (2, 1, 4, 6), (1, 16, 1, 1)]
each_format = pytest.mark.parametrize("memory", FORMATS, ids=["channels-first", "channels-last"])
each_way = pytest.mark.parametrize("inverse", [False, True], ids=["gdn", "inverse"])


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few positions, so that small inputs have many borders, and a last piece of another size."""
    monkeypatch.setattr(gdn, "PIECE_OF_INPUT", 41)
    monkeypatch.setattr(gdn, "LARGE_INPUT", 0)


def both(channels: int, inverse: bool, seed: int = 0) -> tuple[_compressai.GDN, GDN]:
    """CompressAI's and ours, with the same full parameters."""
    rng = torch.Generator().manual_seed(seed)
    theirs, ours = _compressai.GDN(channels, inverse=inverse), GDN(channels, inverse=inverse)
    with torch.no_grad():
        theirs.beta.copy_(1 + torch.rand(channels, generator=rng))
        theirs.gamma.copy_(torch.rand(channels, channels, generator=rng) - 0.1)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def draw(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


@each_way
@each_format
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("small_pieces")
def test_the_numbers_are_compressais(shape, memory, inverse):
    theirs, ours = both(shape[1], inverse)
    x = draw(shape).contiguous(memory_format=memory)
    with torch.no_grad():
        found = ours(x)
        torch.testing.assert_close(found, theirs(x), rtol=1e-6, atol=1e-6)
    assert found.stride() == x.stride()
    assert torch.equal(x, draw(shape))


@each_way
@each_format
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("small_pieces")
def test_the_gradients_are_compressais(shape, memory, inverse):
    theirs, ours = (layer.double() for layer in both(shape[1], inverse))
    upper = draw(shape, 2).double()
    found = []
    for layer in (theirs, ours):
        x = draw(shape).double().contiguous(memory_format=memory).requires_grad_()
        layer(x).backward(upper)
        found.append([x.grad, layer.beta.grad, layer.gamma.grad])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@each_way
@each_format
@pytest.mark.usefixtures("small_pieces")
def test_gradcheck(memory, inverse):
    x = draw((2, 4, 3, 3)).double().contiguous(memory_format=memory).requires_grad_()
    beta = (1 + draw((4,)).abs()).double().requires_grad_()
    gamma = draw((4, 4)).abs().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: normalize(*inputs, inverse), (x, beta, gamma))


@pytest.mark.usefixtures("small_pieces")
def test_slices_of_larger_tensors():
    theirs, ours = both(6, False)
    x = draw((4, 9, 8, 10))[1:3, 2:8, ::2, 3:]
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)


def test_real_pieces_are_compressais_too():
    theirs, ours = both(24, True)
    x = draw((1, 24, 121, 131))
    assert x.numel() > gdn.LARGE_INPUT > gdn.PIECE_OF_INPUT
    with torch.no_grad():
        for memory in FORMATS:
            found = ours(x.contiguous(memory_format=memory))
            torch.testing.assert_close(found, theirs(x), rtol=1e-6, atol=1e-6)


@each_way
@each_format
@pytest.mark.usefixtures("small_pieces")
def test_in_place_the_numbers_are_the_same(memory, inverse):
    _, layer = both(8, inverse)
    x = draw((2, 8, 5, 7)).contiguous(memory_format=memory)
    with torch.no_grad():
        expected = layer(x)
    layer.in_place = True
    learned = x.clone().requires_grad_()
    assert torch.equal(layer(learned), expected)  # a gradient is wanted: x is kept
    assert torch.equal(learned, x)
    with torch.no_grad():
        given = x.clone(memory_format=torch.preserve_format)
        found = layer(given)
    assert torch.equal(found, expected)
    assert found.data_ptr() == given.data_ptr()


@pytest.mark.parametrize("name", INTEGER_NAMES)
@pytest.mark.usefixtures("small_pieces")
def test_an_edge_overwrites_only_what_is_its_own(name):
    net = net_of(name)
    net.activate(net.space.widest())
    x = image(0)
    with torch.no_grad():
        y = net.g_a(x)
        expected = y.clone()
        net.g_s(y)
        assert torch.equal(x, image(0))
        assert torch.equal(y, expected)
        norms = [layer for layer in net.modules() if isinstance(layer, GDN)]
        assert all(layer.in_place for layer in norms)
        for layer in norms:
            layer.in_place = False
        try:
            assert torch.equal(net.g_a(x), expected)
        finally:
            for layer in norms:
                layer.in_place = True


@pytest.mark.usefixtures("small_pieces")
def test_only_what_is_wanted_gets_a_gradient():
    _, ours = both(5, True)
    ours.requires_grad_(False)
    x = draw((1, 5, 4, 4)).requires_grad_()
    ours(x).sum().backward()
    assert x.grad is not None
    assert ours.gamma.grad is None


@pytest.mark.usefixtures("small_pieces")
def test_state_dicts_are_interchangeable():
    theirs, ours = both(7, False)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


@each_way
@pytest.mark.usefixtures("small_pieces")
def test_a_width_is_its_extraction(inverse):
    width = Width("w", (3, 5, 8))
    full = SlimmableGDN(width, inverse)
    with torch.no_grad():
        full.gamma.add_(draw((8, 8)).abs() / 4)
        full.adjust.add_(draw((2, 4)) / 20)
    for index, size in enumerate(width.candidates):
        width.index = index
        plain = GDN(size, inverse=inverse)
        plain.load_state_dict(full.sliced(), strict=False)
        x = draw((2, size, 5, 6))
        with torch.no_grad():
            torch.testing.assert_close(full(x), plain(x), rtol=1e-5, atol=1e-6)


@each_format
@pytest.mark.usefixtures("small_pieces")
def test_macs_are_gammas_entries_at_every_position(memory):
    _, ours = both(8, True)
    assert count_macs(ours, draw((2, 8, 5, 7)).contiguous(memory_format=memory))[""] == 2 * 35 * 64


# The layers around it


@pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (3, 2), (5, 1), (3, 1)])
@each_format
def test_many_channels_to_few(kernel, stride, memory):
    torch.manual_seed(0)  # of the weights: the bound below is near what float32 can do
    ours = ConvTranspose2d(64, 3, kernel, stride)
    x = draw((2, 64, 37, 5)).contiguous(memory_format=memory)
    theirs: Callable[[Tensor], Tensor] = lambda x: F.conv_transpose2d(  # noqa: E731
        x, ours.weight, ours.bias, stride, kernel // 2, stride - 1
    )
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
        assert count_macs(ours, x)[""] == 2 * 37 * 5 * 64 * 3 * kernel**2
    torch.testing.assert_close(ours(x), theirs(x))
    assert list(ours.state_dict()) == list(nn.ConvTranspose2d(64, 3, kernel).state_dict())


def test_a_transform_is_the_same_with_and_without_gradients():
    layers = [nn.Conv2d(3, 8, 5, 2, 2), GDN(8), ConvTranspose2d(8, 3, 5, 2)]
    transform, x = Transform(*layers), draw((2, 3, 16, 24))
    with torch.no_grad():
        found = transform(x)
    torch.testing.assert_close(found, transform(x).detach(), rtol=1e-5, atol=1e-5)


# The context model, whose two ways to predict are chosen by size


@pytest.mark.parametrize(
    "name", ["checkerboard", "raster", "raster-2x2", "channelwise-4-checkerboard", "none"]
)
@pytest.mark.parametrize("size", [(5, 7), (6, 4)])
def test_context_prediction_by_taps_and_by_cells(monkeypatch, name, size):
    model = context.ContextModel(9, 5, (12, 10)).double()
    layout = named_layout(name, 9)
    psi, y = draw((2, 18, *size)).double(), draw((2, 9, *size), 2).double().round()
    found = []
    for large in (0, 1 << 40):
        monkeypatch.setattr(context, "LARGE_KERNEL", large)
        model.zero_grad()
        y_hat = y.clone().requires_grad_()
        out = torch.stack(model(psi, y_hat, layout))
        out.square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        found.append([out, y_hat.grad, *gradients])
    for taps, cells in zip(*found, strict=True):
        if taps is not None or cells is not None:
            cells = torch.zeros_like(taps) if cells is None else cells
            taps = torch.zeros_like(cells) if taps is None else taps
            torch.testing.assert_close(taps, cells, rtol=1e-9, atol=1e-9)
