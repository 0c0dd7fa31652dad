"""A codec codes the same bytes whatever surrounds it, and says in a sentence what it cannot code."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import SPACES, exact_codec, image, net_of

import nas
from nas.codec.codec import Codec
from nas.codec.folder import save_codec
from nas.support.errors import InputError

FACTS = {"lmbda": 0.01, "metric": "mse", "stages": 1}
X = image(4)
NAMES = ("joint-ar-integer", "cheng-centred", "factorized-integer")


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exact codec, one in double precision, and one without z."""
    space = SPACES[request.param]
    architecture = space.uniform(1)
    codec = Codec(net_of(request.param).extract(architecture), architecture)
    path = tmp_path_factory.mktemp("codecs") / request.param
    save_codec(exact_codec(codec, image(0)) if request.param == NAMES[0] else codec, path, FACTS)
    return path


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    torch.set_float32_matmul_precision(name)
    try:
        yield
        assert torch.get_float32_matmul_precision() == name
    finally:
        torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def reduced() -> Iterator[None]:
    """Set in torch's newer way."""
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32"
    try:
        yield
        assert torch.backends.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = before


SURROUNDINGS: dict[str, Any] = {
    "autocast-bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast-float16": lambda: torch.autocast("cpu", torch.float16),
    "default-float64": lambda: default_dtype(torch.float64),
    "default-bfloat16": lambda: default_dtype(torch.bfloat16),
    "default-float16": lambda: default_dtype(torch.float16),
    "two-threads": lambda: threads(2),
    "inference": torch.inference_mode,
    "no-grad": torch.no_grad,
    "gradients": torch.enable_grad,
    "matmul-medium": lambda: precision("medium"),
    "tf32": reduced,
}


def coded(codec: Codec) -> tuple[Any, ...]:
    x = X.clone().requires_grad_(torch.is_grad_enabled() and not torch.is_inference_mode_enabled())
    found = codec.compress(x)
    decoded = codec.decompress(found["strings"], found["shape"])["x_hat"]
    likelihoods = codec(x)["likelihoods"]
    return found["strings"], found["shape"], decoded, {k: v.detach() for k, v in likelihoods.items()}


def alike(a: Any, b: Any) -> None:
    assert a[:2] == b[:2]
    assert a[2].dtype == b[2].dtype == torch.float32
    torch.testing.assert_close(a[2:], b[2:], rtol=0, atol=5e-3)  # g_s is in single precision


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_same_bytes_whatever_surrounds_a_codec(folder: Path, name: str) -> None:
    codec = nas.load_codec(folder)
    expected = coded(codec)
    with SURROUNDINGS[name]():
        alike(coded(codec), expected)
        inside = nas.load_codec(folder)  # its check vector is coded in there, too
        assert inside.fingerprint == codec.fingerprint
        alike(coded(inside), expected)
    alike(coded(inside), expected)  # and what was loaded in there works outside


def test_threads_of_one_process_do_not_disturb_each_other(folder: Path) -> None:
    codec = nas.load_codec(folder)
    expected, found = codec.compress(X)["strings"], []
    torch.set_float32_matmul_precision("medium")
    try:
        workers = [threading.Thread(target=lambda: found.append(codec.compress(X))) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert [each["strings"] for each in found] == [expected] * 6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_pictures_of_any_floating_type(folder: Path, dtype: torch.dtype) -> None:
    codec, x = nas.load_codec(folder), X.to(dtype)
    assert codec.compress(x)["strings"] == codec.compress(x.float())["strings"]
    assert codec(x)["x_hat"].dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X * float("nan"), "NaN or infinity"),
        (X.masked_fill(X.max() - 1e-6 < X, float("inf")), "NaN or infinity"),
        (X[:0], "at least one picture"),
        (X[..., :0], "at least one picture"),
        (X[0], "B, 3, H, W"),
        (X[:, :1], "B, 3, H, W"),
        (X[..., :63], "multiples of"),
        ((X * 255).to(torch.uint8), "x / 255"),
        (X * 255, "rescale"),
        (X * 2 - 1.6, "rescale"),
    ],
    ids=["nan", "inf", "empty", "no-width", "one-picture", "grey", "odd", "uint8", "255", "normalised"],
)
def test_what_is_no_batch_of_pictures(folder: Path, x: torch.Tensor, message: str) -> None:
    codec = nas.load_codec(folder)
    for code in (codec, codec.compress):
        with pytest.raises(InputError, match=message):
            code(x)


@pytest.mark.parametrize("change", ["half", "double", "bfloat16"])
def test_a_codec_stays_in_single_precision(folder: Path, change: str) -> None:
    codec = nas.load_codec(folder)
    expected = codec.compress(X)["strings"]
    within = torch.nn.Sequential(codec)
    for cast in (getattr(codec, change), getattr(within, change), lambda: codec.to(torch.float64)):
        with pytest.raises(InputError, match="single precision"):
            cast()
    assert codec.float().to("cpu").compress(X)["strings"] == expected


@pytest.mark.parametrize(
    ("strings", "shape"),
    [
        ([[]], (1, 1)),
        ([], (1, 1)),
        ([["text"]], (1, 1)),
        (None, (1, 1)),
        (..., (-1, 1)),
        (..., (0, 1)),
        (..., (1,)),
        (..., (1, 1, 1)),
        (..., (1.5, 1)),
        (..., ("a", 1)),
        (..., None),
        (..., (10**9, 10**9)),
        ([[b""]], (1, 1)),
    ],
)
def test_what_compress_never_returned(folder: Path, strings: Any, shape: Any) -> None:
    codec = nas.load_codec(folder)
    real = codec.compress(X)["strings"]
    with pytest.raises(InputError):
        codec.decompress(real if strings is ... else strings, shape)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X.numpy(), "need a tensor.*not ndarray: from pixels"),
        ([[1.0]], "need a tensor.*not list"),
        (None, "need a tensor.*not NoneType"),
        (X - 0.5, "range from .*rescale them"),
        (X.to_sparse(), "dense tensor"),
        (X.to("meta"), "dense tensor"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(folder: Path, given: Any, message: str) -> None:
    codec = nas.load_codec(folder)
    for code in (codec, codec.compress):
        with pytest.raises(InputError, match=message):
            code(given)


def test_gradients_pass_through_a_loaded_codec(folder: Path) -> None:
    codec, x = nas.load_codec(folder), X.clone().requires_grad_()
    plain = codec(X)
    assert not plain["x_hat"].requires_grad
    found = codec(x)
    torch.testing.assert_close(found["x_hat"], plain["x_hat"], rtol=1e-5, atol=1e-6)
    rate = -sum(value.log2().sum() for value in found["likelihoods"].values())
    ((found["x_hat"] - x).square().sum() + 1e-4 * rate).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0
    codec.network.requires_grad_()
    codec(X)["x_hat"].sum().backward()
    assert all(p.grad is not None for p in codec.network.g_s.parameters())
