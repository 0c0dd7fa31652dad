"""NaN and infinity: no door lets weights with them in, no score that is not finite is kept or on a front."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from families import SPACES, exact_codec, image, net_of
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from small_run import small_run

import nas
from nas.codec.codec import Codec
from nas.codec.folder import load_codec, save_codec
from nas.metrics.pareto import non_dominated
from nas.report.front.make import draw_runs
from nas.run import Run
from nas.searching.sampler.rows import as_rows
from nas.searching.scoring.evaluator import Score
from nas.searching.scoring.scores import known_scores
from nas.searching.searcher import Searcher
from nas.searching.sources import Sources
from nas.searching.study.shared import SharedStudy
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training.start import initial_weights, resume_training
from nas.verbs.renew import renew_codec
from nas.weights.checkpoint import Checkpoint, supernet_of
from nas.weights.files import BrokenWeightsError, require_finite, write_weights
from nas.weights.interchange import from_checkpoint

NAME = "joint-ar-integer"
SPACE = SPACES[NAME]
BAD = (math.nan, math.inf, -math.inf)
QUICK = Sources(logits=False, layouts=False)


@pytest.fixture
def run(tmp_path: Path, photo_folder: Path) -> Run:
    return small_run(tmp_path / "run", SPACE, photo_folder)


@pytest.fixture
def codec(tmp_path: Path) -> Path:
    architecture = SPACE.uniform(1)
    made = exact_codec(Codec(net_of(NAME).extract(architecture), architecture), image(0))
    save_codec(made, tmp_path / "codec", {"lmbda": 0.01, "metric": "mse", "stages": 1})
    return tmp_path / "codec"


def broken(path: Path, ends: str, value: float) -> str:
    """Put one number into one tensor of a file; returns the tensor's name."""
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(ends))
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path)
    return name


@pytest.mark.parametrize("value", BAD)
def test_every_door_names_the_tensor(run: Run, codec: Path, photo_folder: Path, value: float) -> None:
    Checkpoint({f"net.{k}": v for k, v in load_file(run.weights_path).items()}, {}).write(run.checkpoint_path)
    layers = {k: v.clone() for k, v in load_codec(codec).network.state_dict().items()}
    name = broken(run.weights_path, "g_s.0.weight", value)
    layers[name].view(-1)[-1] = value
    save_file(layers, codec.parent / "layers.safetensors")
    doors = {
        "supernet": lambda: supernet_of(run),
        "load_run": lambda: nas.load_run(run.path).searcher,
        "init_from": lambda: initial_weights(run.weights_path, SPACE),
        "renew": lambda: renew_codec(codec, layers, str(photo_folder), codec.parent / "new"),
        "renew_file": lambda: renew_codec(
            codec, codec.parent / "layers.safetensors", str(photo_folder), codec.parent / "new"
        ),
    }
    for door in doors.values():
        with pytest.raises(BrokenWeightsError, match=f"numbers of {name} are not finite"):
            door()
    assert not (codec.parent / "new").exists()
    for path, ends, door in (
        (codec / "codec.safetensors", "g_a.0.bias", lambda: load_codec(codec)),
        (run.checkpoint_path, "h_a.0.bias", lambda: resume_training(run.path, device="cpu")),
    ):
        with pytest.raises(BrokenWeightsError, match=broken(path, ends, value)):
            door()
    path = codec.parent / "mine.safetensors"
    write_weights(path, {"a": torch.ones(1)})
    before = path.read_bytes()
    with pytest.raises(BrokenWeightsError, match="of b are"):
        write_weights(path, {"a": torch.ones(1), "b": torch.tensor([1.0, value])})
    assert path.read_bytes() == before


@pytest.mark.parametrize(("edge", "size"), [("h_s", 1e30), ("h_s", 1e10), ("g_s", 1e30), ("context", 1e25)])
def test_weights_that_overflow_are_no_codec(
    codec: Path, photo_folder: Path, tmp_path: Path, edge: str, size: float
) -> None:
    """All of them finite: what they give is not, or is no use. Nothing hangs, and no picture is black."""
    layers = {k: v.clone() for k, v in load_codec(codec).network.state_dict().items()}
    for name, value in layers.items():
        if name.startswith(edge) and name.endswith("weight"):
            value *= size
    with pytest.raises(InputError, match=r"weights (of this codec )?are broken"):
        renew_codec(codec, layers, str(photo_folder), tmp_path / "new")
    assert not (tmp_path / "new").exists()


points = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([math.nan, math.inf, -math.inf, 1.0, 2.0, 3.0, 4.0]))
)


@given(points)
def test_a_front_is_that_of_the_finite_points(found: list[tuple[int, float]]) -> None:
    finite = [math.isfinite(loss) for _, loss in found]
    expected = iter(
        non_dominated(
            [c for c, loss in found if math.isfinite(loss)], [v for _, v in found if math.isfinite(v)]
        )
    )
    assert non_dominated([c for c, _ in found], [v for _, v in found]) == [
        next(expected) if ok else False for ok in finite
    ]


def test_a_run_with_scores_that_are_not_finite_heals(run: Run) -> None:
    """A NaN of the cheapest architecture, as earlier versions wrote it, and an infinity in the study."""
    searcher = Searcher(run, device="cpu")
    searcher.search(trials=4, sources=QUICK)
    good = known_scores(run.scores_path, SPACE, run.fingerprint)
    row = (SPACE.narrowest().key, searcher.evaluator.calibration, run.fingerprint)
    rows = run.scores_path.read_text().splitlines()
    kept = [line for line in rows if not line.startswith(f"{row[0]},")]
    more = [
        ",".join((*row, *values)) for values in (("nan", "nan", "nan"), ("0.1", "30.0", "inf"), ("x", "", ""))
    ]
    run.scores_path.write_text("\n".join([*kept, *more]) + "\n")
    good.pop(SPACE.narrowest(), None)
    assert known_scores(run.scores_path, SPACE, run.fingerprint) == good
    draw_runs([run], run.path)
    assert set(run.front()["arch"]) <= {architecture.key for architecture in good}
    again = Searcher(run, device="cpu").search(trials=1, sources=QUICK)
    assert np.isfinite(again.scored["rd_loss"]).all()


def test_what_a_study_has_that_is_not_finite_is_no_score(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told = SharedStudy.tell

    def infinite(self, trial, values, attributes=None):
        return told(self, trial, [values[0], math.inf], attributes)

    with monkeypatch.context() as earlier:  # a version that told what it found, and lost its scores since
        earlier.setattr(SharedStudy, "tell", infinite)
        Searcher(run, device="cpu").search(trials=3, sources=QUICK)
    run.scores_path.unlink()
    found = Searcher(run, device="cpu").search(trials=3, sources=QUICK)
    assert len(found.scored) == 3
    assert np.isfinite(found.scored["rd_loss"]).all()
    searcher = nas.load_run(run.path, device="cpu").searcher
    answered = nas.load_run(run.path, device="cpu").search(target="90%", trials=0, sources=QUICK)
    assert answered.choices
    assert len(searcher.scores) <= len(answered.scored)


def test_a_number_that_no_float_holds_is_damage_of_a_study(run: Run) -> None:
    Searcher(run, device="cpu").search(trials=1, sources=QUICK)
    journal = run.search_path / "study.log"
    written = journal.read_text()
    for before in (r'"bpp":', r'"psnr":', r'"values":\[[0-9.]+,'):
        changed = re.sub(f"({before})[0-9.]+", rf"\g<1>1{'0' * 400}", written)
        assert changed != written
        journal.write_text(changed)
        with pytest.raises(InputError, match=r"study\.log is damaged"):
            Searcher(run, device="cpu").search(trials=1, sources=QUICK)
        assert journal.read_text() == changed


def test_a_score_that_is_not_finite_is_not_kept(run: Run) -> None:
    searcher = Searcher(run, device="cpu")
    architecture = SPACE.narrowest()
    for score in (Score(math.nan, 30, 1), Score(1, 30, math.inf), Score(1, math.nan, 1)):
        with pytest.raises(InputError, match="not finite"):
            searcher.scores.learn(architecture, score)
    with torch.no_grad():
        for name, value in searcher.evaluator.supernet.named_parameters():
            if name.startswith("h_s") and name.endswith("weight"):
                value.mul_(1e30)
    with pytest.raises(InputError, match=r"score of .* is not finite"):
        searcher.scores.of(SPACE.widest())
    assert not run.scores_path.exists()
    assert len(as_rows(SPACE, [a for a, _ in searcher.scores.items()])) == 0


@pytest.mark.parametrize(
    "odd",
    [torch.zeros(2).to_sparse(), torch.zeros(2, device="meta")],
    ids=["sparse", "meta"],
)
def test_weights_that_are_no_plain_numbers_are_refused(odd: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"given are not plain numbers: g_a\.0\.weight is"):
        require_finite({"g_a.0.weight": odd}, source="what was given")


def test_a_checkpoint_that_holds_itself_has_no_weights(tmp_path: Path) -> None:
    content: dict[str, object] = {"epoch": 1}
    content["state"] = content
    torch.save(content, tmp_path / "round.pth")
    with pytest.raises(InputError, match=r"round\.pth holds no state dict"):
        from_checkpoint(tmp_path / "round.pth", SearchSpace.load("joint-ar-tiny"))
