"""Damaged files of every kind: one plain sentence, in words of ours and not of Python or torch."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import seeded_supernet
from torch import Tensor

import nas
from nas.codec.codec import Codec
from nas.codec.folder import load_family, save_codec
from nas.comparison.published import read_published
from nas.spaces.budget import Budget
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError, nearest
from nas.support.limits import check_count, check_seed
from nas.support.resources import parse_yaml
from nas.training.settings import TrainingSettings
from nas.weights.files import read_weights, write_weights
from nas.weights.interchange import from_state

FOREIGN = re.compile(
    r"Error\(s\)|codec can't|sys\.|Errno|recursion|object at|Traceback|<class|\(\)|: \.|\[\]", re.IGNORECASE
)


def told(error: pytest.ExceptionInfo[InputError]) -> str:
    """A message, which is one sentence with one piece of advice, and holds nothing of Python's or torch's."""
    message = str(error.value)
    assert re.fullmatch(r"[^\n]+\.", message)
    assert not FOREIGN.search(message)
    assert len(re.findall("export", message)) <= 1
    return message


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    space = SearchSpace.load("factorized-tiny")
    architecture = space.narrowest()
    folder = tmp_path_factory.mktemp("codec") / "codec"
    save_codec(Codec(seeded_supernet(space).extract(architecture), architecture), folder, {})
    return folder


Change = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors: tensors.pop("network.g_a.0.weight"), "g_a.0.weight of the network is missing"),
        (lambda tensors: tensors.update({"network.x": torch.ones(1)}), "x of the network is missing, of"),
        (lambda tensors: tensors.update({"network.g_s.0.bias": torch.ones(1)}), "g_s.0.bias of the network"),
        (lambda tensors: tensors.update(table=-tensors["table"]), "table of frequencies does not fit"),
        (lambda tensors: tensors.update(table=torch.ones(3, dtype=torch.int32)), "table of frequencies"),
    ],
)
def test_weights_that_do_not_fit_a_codec_are_named(
    codec_folder: Path, tmp_path: Path, change: Change, says: str
) -> None:
    folder = Path(shutil.copytree(codec_folder, tmp_path / "codec"))
    tensors, record = read_weights(folder / "codec.safetensors")
    change(tensors)
    write_weights(folder / "codec.safetensors", tensors, record)
    with pytest.raises(InputError) as error:
        load_family(folder)
    assert says in told(error)


def test_weights_of_another_model_say_what_to_do() -> None:
    space = SearchSpace.load("factorized-tiny")
    with pytest.raises(InputError) as error:
        from_state({"conv.weight": torch.ones(1)}, space, "x.pth")
    assert "use other weights" in told(error)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"[" * 100_000, b'{"results": {"bpp": [' + b"9" * 5000 + b"]}}"]
)
def test_published_results_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rd.json").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_published(str(tmp_path / "rd.json"))
    assert "give results in CompressAI's format" in told(error)


def test_a_table_without_names_suggests_none(tmp_path: Path) -> None:
    (tmp_path / "rd.csv").write_text("bpp,psnr\n1,2\n")
    with pytest.raises(InputError) as error:
        read_published(f"{tmp_path / 'rd.csv'}:vtm")
    assert "has no curve 'vtm'" in told(error)
    assert nearest("vtm", ["", ""]) == "none is known."


SPACE = {"family": "factorized", "latents": {"y": 8}, "widths": {"g_a.1": 8}}
ABSURD = 10**5000  # beyond every float; to print it is an error


@pytest.mark.parametrize(
    "call",
    [
        lambda: parse_yaml("a: 0x" + "f" * 9000, "a.yaml"),
        lambda: parse_yaml("a: [1, -0b1" + "0" * 20000 + "]", "a.yaml"),
        lambda: TrainingSettings.make({"learning_rate": ABSURD}),
        lambda: TrainingSettings.make({"lmbda": -ABSURD}),
        lambda: SearchSpace.from_dict({**SPACE, "latents": {"y": ABSURD}}, name="a", source="a"),
        lambda: SearchSpace.from_dict({**SPACE, "widths": {"g_a.1": [8, ABSURD]}}, name="a", source="a"),
        lambda: Budget.asked(ABSURD),
        lambda: Budget.asked(None, ABSURD),
        lambda: check_seed(ABSURD),
        lambda: check_count(-ABSURD, "trials"),
        lambda: nas.train("factorized-tiny", "bundled", "a", steps=ABSURD),
        lambda: nas.search("zoo:joint-ar-tiny", trials=ABSURD, out="a"),
        lambda: nas.export("zoo:joint-ar-tiny", "a", target=ABSURD),
        lambda: nas.compress("a", "a.png", "a.nic", effort=ABSURD),
        lambda: nas.decompress("a", "a.nic", "a.png", max_pixels=-ABSURD),
        lambda: nas.profile("zoo:joint-ar-tiny", repeats=ABSURD),
    ],
)
def test_numbers_of_thousands_of_digits_are_refused(call: Callable[[], object], tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), pytest.raises(InputError) as error:
        call()
    assert re.search("smaller one|give a whole number|too many digits", told(error))
    assert not list(tmp_path.iterdir())


def test_a_codec_is_not_timed_less_than_once(codec_folder: Path) -> None:
    for repeats in (0, -3):
        with pytest.raises(InputError) as error:
            nas.profile(codec_folder, repeats=repeats)
        assert "give a whole number from 1" in told(error)


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, "a: !!int '" + "9" * 5000 + "'"])
def test_yaml_with_absurd_numbers_or_brackets(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_yaml(text, "a.yaml")
    assert told(error).startswith("a.yaml")


def test_marks_that_reverse_text_are_not_shown() -> None:
    """A name with them would show another name to the reader of a message."""
    message = str(InputError("'a\u202egnp.exe\u2066\u200f' is not a name: give another."))
    assert message == r"'a\u202egnp.exe\u2066\u200f' is not a name: give another."


def test_a_scope_that_does_not_exist_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        nas.pareto("zoo:joint-ar-tiny", scope="x", out=tmp_path / "a")
    assert "choose one of encoder, decoder, total" in told(error)
