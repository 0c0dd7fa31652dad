"""Time on other devices: pieces as ONNX models, the runner that times them, and its CSV read back."""

from __future__ import annotations

import collections
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import SEEDS
from families import INTEGER, INTEGER_NAMES, SPACES, image, net_of
from hypothesis import given, settings
from small_run import QUICK, small_run
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.codec.codec import Codec
from nas.codec.quantize import can_be_exact, quantized
from nas.cost.counting.cache import load_or_measure_costs
from nas.profiling.devices import read as reading
from nas.profiling.devices import shorten
from nas.profiling.devices.edges import INPUT, edge_steps, step_model
from nas.profiling.devices.one_file import runner_text
from nas.profiling.devices.write import Pieces
from nas.profiling.measurements import Measurements
from nas.profiling.pieces import EdgePiece, edge_pieces
from nas.profiling.predict import Predictor
from nas.profiling.run_profile import RunProfile
from nas.run import Run
from nas.spaces.budget import Budget
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZE, CHECKED = "80x70", 4
# What the runner may not need: all but onnxruntime, NumPy and what those need themselves
KEPT_AWAY = ("nas", "torch", "scipy", "pandas", "yaml", "PIL", "pydantic", "compressai", "onnx")
Sessions = Callable[[onnx.ModelProto], onnxruntime.InferenceSession]


def session_of(model: onnx.ModelProto, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


# Pieces are models


def run_steps(codec: Codec, edge: str, pieces: list[EdgePiece], x: np.ndarray) -> np.ndarray:
    """What an edge's models make of an input, one after the other."""
    network, values = codec.network, {INPUT: x}
    module = codec.coding_h_s if edge == "h_s" else network.get_submodule(edge)
    steps = edge_steps(network, edge, pieces, module)
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        session = session_of(step_model(step, edge, network.space.family, last=last))
        names = [each.name for each in session.get_inputs()]
        given = dict(zip(names, (values[name] for name in step.inputs), strict=True))
        (values[step.output],) = session.run(None, given)
    return values[steps[-1].output]


@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize("name", INTEGER_NAMES)
@given(seed=SEEDS)
@settings(max_examples=1)
def test_the_pieces_of_an_edge_compute_the_edge(name: str, most: int, seed: int) -> None:
    space, net = INTEGER[name], net_of(name)
    architecture = space.sample(random.Random(seed))
    codec = Codec(net.extract(architecture), architecture)
    x = image(seed % 97, batch=1)
    y_hat, z_hat = codec.latents(x)
    if can_be_exact(codec):
        assert z_hat is not None
        codec = quantized(codec, [(y_hat, z_hat)])
    inputs = {"g_a": x, "h_a": y_hat, "h_s": z_hat, "g_s": y_hat}
    pieces = edge_pieces(space, most)
    for edge, read in inputs.items():
        if read is None or not hasattr(codec.network, edge):
            continue
        mine = [piece for piece in pieces if piece.edge == edge]
        found = torch.from_numpy(run_steps(codec, edge, mine, read.numpy()))
        with torch.no_grad():
            module = codec.coding_h_s if edge == "h_s" else codec.network.get_submodule(edge)
            wanted = module(read)
        if edge == "h_s":
            assert torch.equal(found[:, : len(wanted[0])], wanted.float())
        else:
            scale = float(wanted.abs().max())
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * scale)


def test_short_weights_run_the_same_operators(tmp_path: Path) -> None:
    name = "joint-ar-integer"
    architecture = SPACES[name].widest()
    network = net_of(name).extract(architecture)
    (step,) = edge_steps(network, "g_a", [], network.g_a)
    full, short = (step_model(step, "g_a", network.space.family, last=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shorten, "LONGEST", 8)
        patch.setattr(shorten, "KEPT", 5)
        short = shorten.shortened(short)
    assert len(short.graph.node) > len(full.graph.node)
    operators, shapes = [], []
    for number, model in enumerate((full, short)):
        session = session_of(model, tmp_path / f"{number}.onnx")
        (out,) = session.run(None, {"x": image(0, batch=1).numpy()})
        shapes.append(out.shape)
        graph = onnx.load(tmp_path / f"{number}.onnx").graph
        operators.append(collections.Counter(node.op_type for node in graph.node))
    assert operators[0] == operators[1]
    assert shapes[0] == shapes[1]


def test_a_centred_quantiser_is_refused(tmp_path: Path, photo_folder: Path) -> None:
    run = small_run(tmp_path / "run", SPACES["mean-scale-hyperprior-centred"], photo_folder)
    with pytest.raises(InputError, match=r"h_s and the context of .* cannot be written as ONNX models"):
        nas.profile(run, pieces=tmp_path / "pieces", size=SIZE)
    assert not (tmp_path / "pieces").exists()


# There and back


@pytest.fixture(scope="module")
def run(small_space: SearchSpace, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("devices") / "run", small_space, photo_folder)


@pytest.fixture(scope="module")
def pieces(run: Run) -> Pieces:
    found = nas.profile(run, pieces=run.path.parent / "pieces", size=SIZE, check=CHECKED)
    assert isinstance(found, Pieces)
    return found


def time_pieces(folder: Path, *options: str, coder: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the runner where there is nothing but NumPy and onnxruntime, and the coder if it is asked for."""
    block = folder.parent / ("with-coder" if coder else "without-coder")
    block.mkdir(exist_ok=True)
    for name in (*KEPT_AWAY, *(() if coder else ("constriction",))):
        (block / f"{name}.py").write_text("raise ImportError('not on this device')\n")
    return subprocess.run(
        [sys.executable, folder / "time_pieces.py", "--threads", "1", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(block)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def printed(pieces: Pieces) -> str:
    """What the runner prints, of two rounds on a device without other work."""
    done = time_pieces(pieces.folder, "--repeats", "2")
    assert done.returncode == 0, done.stderr
    return quiet(done.stdout)


def quiet(text: str) -> str:
    """A CSV as it would be where nothing else runs."""
    found = re.sub(r"(?<=# disturbance: ).*", "0.0100", text)
    return resealed(found.splitlines()[:-1])


def resealed(lines: list[str]) -> str:
    """A CSV whose digest fits what was changed in it."""
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    rows = len([line for line in lines if not line.startswith("#")]) - 1
    return "\n".join([*lines, f"# end: {rows} rows, {digest}", ""])


@pytest.fixture(scope="module")
def times(printed: str, run: Run) -> Path:
    path = run.path.parent / "times.csv"
    path.write_text(printed)
    return path


@pytest.fixture(scope="module")
def profiled(times: Path, run: Run) -> RunProfile:
    found = nas.profile(run, csv=times, device_name="phone")
    assert isinstance(found, RunProfile)
    return found


def test_the_runner_agrees_with_its_reader() -> None:
    text = runner_text()
    compile(text, "time_pieces.py", "exec")
    assert "from nas" not in text
    assert "import nas" not in text
    assert f'"{reading.TIMES}"' in text
    assert f'BUSY = "# {reading.BUSY}: "' in text
    assert f'ROWS = ("{reading.ROWS[0]}", "{reading.ROWS[1]}", "{reading.ROWS[2]}")' in text


def test_the_csv_says_what_it_holds(pieces: Pieces, printed: str, run: Run) -> None:
    lines = printed.splitlines()
    facts = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    assert facts["weights"] == run.fingerprint
    assert (facts["space"], facts["width"], facts["height"], facts["threads"]) == ("small", "80", "70", "1")
    assert facts["coder"].startswith("constriction ")
    digest = hashlib.sha256((pieces.folder / "pieces.json").read_bytes()).hexdigest()
    assert facts["pieces"] == digest[:16]
    rows = [line for line in lines if not line.startswith("#")][1:]
    assert len(rows) == 2 * pieces.codecs
    assert facts["end"].startswith(f"{len(rows)} rows, ")


def test_a_device_is_profiled_as_this_machine_is(profiled: RunProfile, pieces: Pieces, run: Run) -> None:
    assert pieces.checked == CHECKED
    assert {each.what for each in profiled.accuracies} == {"encode, s", "decode, s"}
    assert all(each.count == CHECKED for each in profiled.accuracies)
    assert "phone" in profiled.machine
    assert profiled.size == SIZE
    for shape in profiled.shapes:
        assert set(shape.ms["decode"]) == {"h_s", "context", "coder", "g_s"}
        assert all(value > 0 for parts in shape.ms.values() for value in parts.values())
        assert shape.mb == {}
    kept = run.profile_path / f"phone-{SIZE}"
    assert {file.name for file in kept.iterdir()} == {"measured.yaml", "profile.png", "profile.svg"}
    assert nas.info(str(run.path)).fields["profiles"] == [f"phone-{SIZE}"]


def test_what_is_predicted_is_the_sum_of_what_was_printed(
    profiled: RunProfile, printed: str, run: Run
) -> None:
    """Of an architecture that was timed: every part is a median over all codecs that share it."""
    measured = Measurements.read(run.profile_path / f"phone-{SIZE}" / "measured.yaml")
    rows = [line.split(",") for line in printed.splitlines() if not line.startswith("#")]
    heading, rows = rows[0], rows[1:]
    for action in ("encode", "decode"):
        columns = [number for number, part in enumerate(heading) if part.startswith(action)]
        for key, timed in measured.codecs.items():
            mine = [sum(float(row[n]) for n in columns if row[n]) for row in rows if row[0] == key]
            assert timed.seconds(action) == pytest.approx(mine, abs=1e-6)


def test_targets_and_budgets_are_of_the_device(
    profiled: RunProfile, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.searching.searcher.Sources", lambda: QUICK)
    slow = profiled.shapes[-1]
    limit = f"{1.5 * sum(slow.ms['decode'].values()):.3f}"
    (tmp_path / "mine.yaml").write_text(f"device: phone\nlimits:\n  - decode <= {limit} ms at {SIZE}\n")
    budget = Budget.load(tmp_path / "mine.yaml")
    found = nas.search(run, budget, trials=2, device="cpu")
    assert found.choices[0].quantity.title == "total"
    assert found.question is not None
    assert str(found.question.feasible.bounds[0]).endswith(f"ms at {SIZE} on phone")
    least = min(sum(shape.ms["decode"].values()) for shape in profiled.shapes)
    most = max(sum(shape.ms["decode"].values()) for shape in profiled.shapes)
    target = f"{(least + most) / 2:.4f}ms@phone at {SIZE}"
    found = nas.search(run, target=target, trials=0, device="cpu")
    assert found.choices[0].quantity.title == f"decode at {SIZE} on phone"
    content = nas.export(run, tmp_path / "codec", target=target, device="cpu")
    assert "timed" not in content
    ((what, expected),) = content["expected"].items()
    assert what == f"decode at {SIZE} on phone"
    assert 0 < expected <= float(target.split("ms")[0])


def test_an_unknown_device_lists_those_that_are_known(profiled: RunProfile, run: Run) -> None:
    with pytest.raises(InputError, match=rf"has no profile of camera, only of phone at {SIZE}: to read one"):
        nas.search(run, target="30ms@camera", trials=0, device="cpu")
    with pytest.raises(InputError, match=r"The profile of phone has times and no memory"):
        nas.search(run, target=f"200MB@phone at {SIZE}", trials=0, device="cpu")


def test_layouts_that_were_not_timed_are_told(profiled: RunProfile, run: Run) -> None:
    measured = Measurements.read(run.profile_path / f"phone-{SIZE}" / "measured.yaml")
    kept = {key: timed for key, timed in measured.codecs.items() if "layout=raster" not in key}
    assert 0 < len(kept) < len(measured.codecs)
    costs = load_or_measure_costs(run.space, run.costs_path)
    with pytest.raises(
        InputError, match=r"Not all of small is measured .* on phone .*: write the pieces again"
    ):
        Predictor(costs, replace(measured, codecs=kept))


def test_a_device_without_the_coder_says_so(pieces: Pieces, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "times.csv"
    done = time_pieces(pieces.folder, "--repeats", "1", "--out", str(out), coder=False)
    assert done.returncode == 0, done.stderr
    assert "# coder: none\n" in out.read_text()
    out.write_text(quiet(out.read_text()))
    nas.profile(run, csv=out, device_name="camera")
    with pytest.raises(InputError, match=f"decode at {SIZE} on camera without coder"):
        nas.search(run, target=f"0.0001ms@camera at {SIZE}", trials=0, device="cpu")


def test_an_interrupted_runner_continues(pieces: Pieces, printed: str, tmp_path: Path) -> None:
    out = tmp_path / "times.csv"
    half = printed[: 3 * len(printed) // 4]
    out.write_text(half)
    done = time_pieces(pieces.folder, "--repeats", "2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    text = out.read_text()
    kept = half.splitlines()[:-1]
    assert text.splitlines()[: len(kept)] == kept
    assert len(text.splitlines()) == len(printed.splitlines()) + 1  # a disturbance of the second start
    reading._sound_lines(out)
    done = time_pieces(pieces.folder, "--repeats", "5", "--out", str(out))
    assert done.returncode == 2
    assert "holds times of other pieces" in done.stderr
    done = time_pieces(pieces.folder, "--repeats", "2", "--out", str(out))
    assert (done.returncode, out.read_text()) == (0, text)
    assert "nothing left to time" in done.stderr


def test_what_is_told_of_other_work_holds_for_rows(pieces: Pieces, printed: str, tmp_path: Path) -> None:
    """A runner that was stopped before its first row, or after its last one, told it for nothing."""
    out = tmp_path / "times.csv"
    *lines, busy, _end = printed.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("# disturbance"))
    assert busy.startswith("# disturbance")
    out.write_text("\n".join([*lines, "# disturbance: 7.0000", "# disturbance: 7.0000", ""]))
    done = time_pieces(pieces.folder, "--repeats", "2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    kept = out.read_text().splitlines()
    assert kept[:-2] == lines
    assert kept[-2].startswith("# disturbance")
    assert kept[-2] != "# disturbance: 7.0000"
    out.write_text("\n".join([*lines[:first], *["# disturbance: 7.0000"] * 2, *lines[first:], ""]))
    done = time_pieces(pieces.folder, "--repeats", "2", "--out", str(out))
    assert out.read_text().splitlines()[:-2] == lines


def test_damaged_pieces_are_told(pieces: Pieces, tmp_path: Path) -> None:
    shutil.copytree(pieces.folder, tmp_path / "pieces")
    name = next(iter(json.loads((pieces.folder / "pieces.json").read_text())["files"]))
    (tmp_path / "pieces" / name).write_bytes(b"cut")
    done = time_pieces(tmp_path / "pieces")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name} is missing or damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["factorized", "scale-hyperprior", pytest.param("patch", marks=pytest.mark.slow), "tables"]
)
def test_spaces_of_other_parts_go_there_and_back(name: str, photo_folder: Path, tmp_path: Path) -> None:
    """Without z, without a context, with branches, with a table that reads the context."""
    run = small_run(tmp_path / "run", SPACES[f"{name}-integer"], photo_folder)
    found = nas.profile(run, pieces=tmp_path / "pieces", size="64x64")
    assert isinstance(found, Pieces)
    out = tmp_path / "times.csv"
    done = time_pieces(found.folder, "--repeats", "1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    measured = reading.read_times(run, out, "phone")
    assert len(measured.codecs) == found.codecs
    predictor = Predictor(load_or_measure_costs(run.space, run.costs_path), measured)
    for action in ("encode", "decode"):
        assert predictor.time(action).value(run.space.widest()) > 0


# What is refused


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[: len(text) // 2], "ends before its last row"),
        (lambda text: text.rsplit("\n", 2)[0], "ends before its last row"),
        (lambda text: text.replace(",0.", ",1.", 1), "was changed after it was printed"),
        (lambda text: text.replace("times 1", "times 2", 1), "this version reads nas-device-times 1"),
        (lambda text: "arch,psnr\na,3\n", "has no times of a device"),
        (lambda text: "", "has no times of a device"),
        (lambda text: resealed(text.splitlines()[:-4]), "lacks rounds of some codecs"),
        (lambda text: resealed(text.splitlines()[1:-1]), "has no times of a device"),
        (
            lambda text: resealed([x for x in text.splitlines()[:-1] if not x.startswith("# coder")]),
            "lacks coder",
        ),
        (lambda text: resealed(text.replace("encode g_a", "encode g_b").splitlines()[:-1]), "no part"),
        (
            lambda text: resealed(re.sub(r",0\.\d+", ",nan", text, count=1).splitlines()[:-1]),
            "a time that is not a number",
        ),
        (lambda text: resealed([*text.splitlines()[:-1], '"a"b,0,0']), "is damaged"),
        (
            lambda text: resealed(text.replace("threads: 1", "threads: 0").splitlines()[:-1]),
            "a number in its heading",
        ),
    ],
)
def test_a_wrong_csv_is_refused_in_a_sentence(
    change: Callable[[str], str], told: str, printed: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "times.csv"
    path.write_text(change(printed))
    with pytest.raises(InputError, match=told) as caught:
        nas.profile(run, csv=path, device_name="tablet")
    assert "\n" not in str(caught.value)
    assert not (run.profile_path / f"tablet-{SIZE}").exists()


def test_line_ends_of_windows_do_no_harm(printed: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "times.csv").write_bytes(printed.replace("\n", "\r\n").encode())
    assert reading.read_times(run, tmp_path / "times.csv", "windows").codecs


def test_times_of_another_run_are_refused(times: Path, photo_folder: Path, tmp_path: Path) -> None:
    other = small_run(tmp_path / "other", SPACES["factorized-integer"], photo_folder)
    with pytest.raises(InputError, match="has times of other weights"):
        nas.profile(other, csv=times, device_name="phone")


def test_a_profile_is_replaced_with_force_alone(profiled: RunProfile, times: Path, run: Run) -> None:
    with pytest.raises(InputError, match="has a profile of phone at 80x70 already"):
        nas.profile(run, csv=times, device_name="phone")
    assert reading.read_times(run, times, "phone", force=True).codecs
    with pytest.raises(InputError, match="already exists"):
        nas.profile(run, pieces=run.path.parent / "pieces", size=SIZE)


def test_options_that_do_not_go_together_are_refused(times: Path, run: Run, tmp_path: Path) -> None:
    def told(*options: str) -> str:
        done = CliRunner().invoke(app, ["profile", str(run.path), *options])
        assert done.exit_code == 2
        return " ".join(done.output.split())

    assert "go together" in told("--from", str(times))
    assert "give one of them" in told("--from", str(times), "--device-name", "a", "--pieces", "b")
    assert "The CSV has its own size" in told("--from", str(times), "--device-name", "a", "--check", "3")
    assert "The device chooses the number of rounds" in told(
        "--pieces", str(tmp_path / "p"), "--repeats", "9"
    )
    assert "is a device of this machine" in told("--from", str(times), "--device-name", "cpu")
    assert "cannot name a device" in told("--from", str(times), "--device-name", "my phone")
