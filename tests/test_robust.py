"""Damaged and forged files: refused in one sentence, or some picture of the size they name. Nothing else."""

from __future__ import annotations

import json
import random
import resource
import shutil
import time
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from families import TRAINED, exact_codec
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import nas
from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.folder import DESCRIPTION, WEIGHTS, load_codec, save_codec
from nas.codec.nic import FIXED, Nic, write_varint
from nas.comparison.formats import FormatResult
from nas.comparison.partial_results import PartialResults
from nas.comparison.published import read_published
from nas.graph.network import Supernet
from nas.photos.grey import is_grey, to_grey
from nas.photos.images import bundled
from nas.photos.tensors import pad, to_tensor
from nas.profiling.devices.read import read_times
from nas.profiling.measurements import Measurements, Timed
from nas.profiling.run_profile import known_architectures
from nas.report.front.make import _asked
from nas.run import Run
from nas.searching.layouts.candidates import read_rates
from nas.searching.sampler.logits import WidthLogits, read_logits, read_structure, write_logits
from nas.searching.sampler.prior import LogitPrior
from nas.searching.scoring.scores import known_scores
from nas.searching.study.storage import open_storage
from nas.spaces.budget import Budget
from nas.spaces.layout import read_layouts
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.resources import read_yaml
from nas.training.record.metrics_file import METRICS_COLUMNS, MetricsFile
from nas.training.settings import TrainingSettings, settings_of
from nas.weights.checkpoint import Checkpoint, load_weights

TINY = SearchSpace.load("joint-ar-tiny")
FACTS = {"lmbda": 0.013, "metric": "mse", "kmac_px": {"total": 1.0}, "stages": 2, "params": 1, "measured": {}}
SECONDS, MEBIBYTES = 10.0, 1500  # what a single file may take


@pytest.fixture(scope="module")
def codec() -> Codec:
    """A trained one."""
    net = Supernet(TINY)
    load_weights(net, Checkpoint.read(TRAINED).tensors, source="zoo:joint-ar-tiny")
    architecture = TINY.uniform(0.0, "raster-2x2")
    chosen = pad(to_tensor(bundled()["calibration"][0].pixels[:128, :128]), 64)
    return exact_codec(Codec(net.extract(architecture), architecture), chosen)


@pytest.fixture(scope="module")
def files(codec) -> list[bytes]:
    """Real files: photos of several sizes, and what is no photo."""
    photo = bundled()["test"][0].pixels
    rng = np.random.default_rng(0)
    pictures = [
        photo[:1, :1],
        photo[100:137, 50:140],
        photo[:64, :128],
        photo[200:330, 100:170],
        np.zeros((50, 60, 3), np.uint8),
        rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
    ]
    return [compress_image(codec, np.ascontiguousarray(picture)).to_bytes() for picture in pictures]


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """A file that nobody wrote: damaged at random, cut, extended, joined, forged or made up."""
    data = bytearray(rng.choice(files))
    match rng.randrange(9):
        case 0:
            for _ in range(rng.choice((1, 1, 2, 8))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            start = rng.randrange(len(data))
            data[start : start + rng.randint(1, 40)] = rng.randbytes(rng.randint(0, 40))
        case 2:
            del data[rng.randrange(len(data)) :]
        case 3:
            data += rng.randbytes(rng.choice((1, 4, 8, 1000)))
        case 4:
            other = rng.choice(files)
            data = data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
        case 5:
            data = bytearray(rng.randbytes(rng.randrange(200)))
        case 6:  # any stream after a header that fits
            data[FIXED:] = rng.randbytes(rng.randrange(400))
        case 7:  # another size before a stream that was one
            nic = Nic.parse(bytes(data))
            sides = [rng.choice((0, 1, 64, 65, 4096, 8192, 65535, 65536, rng.randrange(2**35))) for _ in "wh"]
            data[FIXED:] = write_varint(sides[0]) + write_varint(sides[1]) + nic.stream
        case _:  # other ranges of values
            nic = Nic.parse(bytes(data))
            limits = [rng.choice((0, 1, 2, 127, 128, 1023, 1024, 2**34)) for _ in "zy"]
            sizes = write_varint(nic.width) + write_varint(nic.height)
            data[FIXED:] = sizes + write_varint(limits[0]) + write_varint(limits[1]) + nic.stream[2:]
    if rng.random() < 0.5 and len(data) > FIXED:
        data[12:16] = zlib.crc32(data[:12] + data[16:]).to_bytes(4, "little")
    return bytes(data)


def outcome(codec: Codec, data: bytes) -> str:
    """What becomes of a file: `refused: ...` in its first words, or `a picture`."""
    try:
        nic = Nic.parse(data)
        pixels = decompress_image(codec, nic)
    except InputError as error:
        return f"refused: {' '.join(str(error).split()[:6])}"
    assert pixels.shape == (nic.height, nic.width, 3)
    assert pixels.dtype == np.uint8
    return "a picture"


def assert_robust(codec: Codec, files: list[bytes], seed: int, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    rng = random.Random(seed)
    for _ in range(count):
        data = mutated(rng, files)
        began = time.perf_counter()
        found[outcome(codec, data)] += 1
        assert time.perf_counter() - began < SECONDS, data.hex()
    return found


def test_damaged_files(codec, files):
    found = assert_robust(codec, files, seed=0, count=300)
    assert found["a picture"] > 2  # the decoder has met damage, not the checksum alone
    assert len(found) > 6


@pytest.mark.slow
def test_twenty_thousand_damaged_files(codec, files):
    """Within limits on memory and time."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = assert_robust(codec, files, seed=1, count=20_000)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEBIBYTES
    assert found.total() == 20_000
    assert found["a picture"] > 200


@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from(["constant", "noise", "stripes"]),
    st.integers(0, 255),
)
@settings(max_examples=25)
def test_any_picture_comes_back(codec, height, width, content, level):
    pixels = np.full((height, width, 3), level, np.uint8)
    if content == "noise":
        pixels = np.random.default_rng(level).integers(0, 256, pixels.shape, dtype=np.uint8)
    elif content == "stripes":
        pixels[:, :: 1 + level % 7] = 255 - level
    data = compress_image(codec, pixels).to_bytes()
    nic = Nic.parse(data)
    assert nic.header_bytes <= 24
    found = decompress_image(codec, nic)
    y_hat, _ = codec.latents(pad(to_tensor(pixels), codec.alignment))
    expected = (codec.synthesize(y_hat)[0] * 255).round().permute(1, 2, 0)[:height, :width]
    wanted = expected.to(torch.uint8).numpy()
    assert np.array_equal(found, to_grey(wanted) if is_grey(pixels) else wanted)


# Folders


def test_damaged_folders(codec, tmp_path):
    """Whatever byte of the weights is altered, and whatever line of the description is lost or doubled."""
    save_codec(codec, tmp_path, FACTS)
    weights, description = (tmp_path / WEIGHTS).read_bytes(), (tmp_path / DESCRIPTION).read_text()
    expected = load_codec(tmp_path).fingerprint
    rng = random.Random(2)
    for _ in range(30):
        data = bytearray(weights)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        assert_refused_or_same(tmp_path, expected, {WEIGHTS: bytes(data), DESCRIPTION: description.encode()})
    lines = description.splitlines(keepends=True)
    for number in range(len(lines)):
        fewer = "".join(lines[:number] + lines[number + 1 :])
        assert_refused_or_same(tmp_path, expected, {WEIGHTS: weights, DESCRIPTION: fewer.encode()})
    for text in (
        "",
        "[]",
        "format: nas-codec 3",
        "\x00",
        "a: &a [*a]",
        "!!python/object:os.system {}",
        "{" * 2000,
    ):
        assert_refused_or_same(tmp_path, expected, {WEIGHTS: weights, DESCRIPTION: text.encode()})


def assert_refused_or_same(folder: Path, expected: str, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    try:
        loaded = load_codec(folder)
    except InputError:
        return
    assert loaded.fingerprint == expected


@pytest.mark.parametrize(
    "door",
    [
        Nic.read,
        lambda path: read_times(Run(path.parent / "shm"), path, "phone"),
        open_storage,
        lambda path: open_storage(str(path)),
    ],
)
def test_a_device_without_an_end_is_refused(door):
    endless = Path("/dev/zero")
    if not (endless.exists() and Path("/dev/shm").is_dir()):
        pytest.skip("there is no such device")
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    try:
        with pytest.raises(InputError, match="/dev/zero"):
            door(endless)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("content", [b"notes", b'{"a": 1}', b"\x89PNG", b'{"op_code":4}\nnotes'])
def test_a_file_that_is_no_journal_keeps_its_last_line(tmp_path, content):
    """A torn record is cut off; whatever else ends without a line end is a user's."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"notes\.txt is damaged, or is not a journal"):
        open_storage(str(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize("torn", [b"", b"{", b'{"op_co', b'{"op_code":4,"study', b"\0\0\0"])
def test_a_torn_record_is_no_damage(tmp_path, torn):
    path = tmp_path / "study.log"
    path.write_bytes(torn)
    open_storage(str(path))


# The state of a training


def test_a_checkpoint_that_is_not_what_was_written_is_refused(tmp_path):
    """No other check sees a bit of a weight, or a tensor that an optimiser lacks from its second step on."""
    tensors = {"net.a": torch.arange(6.0).view(2, 3), "optimizer.0.step": torch.tensor(3.0)}
    record = {"step": 3, "best": float("inf"), "recent": [[0.1, 2.0, 3e-7]]}
    path = tmp_path / "last.safetensors"
    Checkpoint(tensors, record).write(path)
    found, data = Checkpoint.read(path), path.read_bytes()
    assert found.record == record
    assert all(torch.equal(found.tensors[name], value) for name, value in tensors.items())
    other = [
        ({"net.a": tensors["net.a"]}, record),
        ({**tensors, "net.b": torch.zeros(1)}, record),
        ({**tensors, "net.a": tensors["net.a"].double()}, record),
        ({**tensors, "net.a": tensors["net.a"].reshape(3, 2)}, record),
        (tensors, {**record, "step": 2}),
    ]
    contents = [bytes([*data[:-at], data[-at] ^ 1, *data[len(data) - at + 1 :]]) for at in (1, 10, 20)]
    size = int.from_bytes(data[:8], "little")
    written = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["record"])["digest"]
    for mutated, told in other:
        contents.append(save(mutated, {"record": json.dumps({**told, "digest": written})}))
    for content in contents:
        assert content != data
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"last\.safetensors is damaged"):
            Checkpoint.read(path)
    path.write_bytes(save(tensors, {"record": json.dumps(record)}))  # of an earlier version
    assert Checkpoint.read(path).record == record


# Tables and notes of a run


@pytest.mark.parametrize("name", ["x" * 253, "../budgets/phone", "x/../patch"])
@pytest.mark.parametrize("door", [SearchSpace.load, Budget.load])
def test_a_name_of_nothing_that_is_shipped_is_refused(door, name):
    with pytest.raises(InputError, match=r"There is no (search space|budget) named"):
        door(name)


@pytest.mark.parametrize("column", ["arch", "total_kmac_px", "stages", "bpp", "test_psnr"])
def test_a_front_of_other_kinds_of_values_is_refused(tmp_path, column):
    place = Run(tmp_path).front_path
    shutil.copy(TRAINED.with_name("front.csv"), place)
    assert len(Run(tmp_path).front())
    table = pd.read_csv(place)
    table[column] = table[column].astype(object)
    table.loc[1, column] = None if column == "arch" else "x"
    table.to_csv(place, index=False)
    with pytest.raises(InputError, match=f"front.csv .*`{column}`"):
        Run(tmp_path).front()


@pytest.mark.parametrize("text", ["rd_loss\n1\n", "arch,rd_loss\na,1\n", "rd_loss,bd_rate\n1,2\n"])
def test_a_front_of_few_columns_is_refused(tmp_path, text):
    Run(tmp_path).front_path.write_text(text)
    with pytest.raises(InputError, match=r"front\.csv lacks or has damaged values of"):
        Run(tmp_path).front()


@pytest.mark.parametrize("target", [".nan", ".inf", "1" + "0" * 400, "true", "x"])
def test_what_is_no_target_is_passed_over(tmp_path, target):
    run = Run(tmp_path)
    run.search_path.mkdir()
    run.targets_path.write_text(f"total: {{5.0: a, {target}: b}}")
    assert _asked(run, {"total": "total"})[0] == {"total": {5.0: "a"}}


@pytest.mark.parametrize("result", ["5", "[]", "{}", '{"name": 1}', "null", "more", "other"])
def test_a_damaged_result_of_an_evaluation_is_measured_again(tmp_path, result):
    path, good = tmp_path / "partial", FormatResult("a", "jpeg", 50, 8, 8, 99, 0.4, 30.0)
    assert PartialResults(path).once(FormatResult, lambda: good, "jpeg") == good
    entry = json.loads(path.read_text())
    kept = entry["result"]
    entry["result"] = {"more": {**kept, "x": 1}, "other": {**kept, "bpp": "1"}}.get(result) or json.loads(
        result
    )
    path.write_text(json.dumps(entry))
    other = replace(good, bpp=0.5)
    assert PartialResults(path).once(FormatResult, lambda: other, "jpeg") == other


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stages", "x"),
        ("params", 1.5),
        ("lmbda", "0.01"),
        ("kmac_px", 5),
        ("kmac_px", {"decoder": "1"}),
        ("kmac_px", {"decoder": float("nan")}),
        ("measured", None),
        ("decoders", 5),
        ("decoders", [5]),
        ("decoders", [{"arch": 7}]),
        ("layouts", [{"name": "none", "bpp": []}]),
    ],
)
def test_facts_of_other_kinds_are_refused(codec, tmp_path, name, value):
    save_codec(codec, tmp_path, FACTS)
    place = tmp_path / DESCRIPTION
    place.write_text(yaml.safe_dump(yaml.safe_load(place.read_text()) | {name: value}))
    for door in (load_codec, nas.info):
        with pytest.raises(InputError, match=rf"codec\.yaml.*{name}"):
            door(tmp_path)


@pytest.mark.parametrize("place", ["decoders", "layouts"])
def test_decoders_and_layouts_lack_nothing_that_is_shown(codec, tmp_path, place):
    save_codec(codec, tmp_path, FACTS)
    description = tmp_path / DESCRIPTION
    description.write_text(yaml.safe_dump(yaml.safe_load(description.read_text()) | {place: [{"name": "a"}]}))
    with pytest.raises(InputError, match=r"codec\.yaml is damaged"):
        nas.info(tmp_path)


@pytest.mark.parametrize("lost", ["g_a", "h_a", "h_s"])
def test_costs_of_a_part_of_the_edges_are_counted_anew(codec, tmp_path, lost):
    edges = {edge: 1.0 for edge in ("g_a", "h_a", "h_s", "g_s") if edge != lost}
    save_codec(codec, tmp_path, {**FACTS, "kmac_px_by_edge": edges})
    assert lost in nas.info(tmp_path).fields["kmac_px_by_edge"]


def test_descriptions_are_data(codec, tmp_path):
    """No line of them runs anything."""
    save_codec(codec, tmp_path / "codec", FACTS)
    place = tmp_path / "codec" / DESCRIPTION
    content = yaml.safe_load(place.read_text())
    place.write_text(yaml.safe_dump(content) + f"more: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(InputError):
        load_codec(tmp_path / "codec")
    assert not (tmp_path / "made").exists()


TABLES = [
    b"rd_loss\n1" + b"0" * 400 + b"\n",
    b"",
    b"\n",
    b"\xff\xfe",
    b"a,b\n1,2\n",
    b'"' + b"x" * 200_000,
    b"\0,\0\n",
    b"key,step,arch\n,,\n",
]


@pytest.mark.parametrize("data", TABLES, ids=range(len(TABLES)))
def test_damaged_tables_of_a_run_are_refused_or_empty(tmp_path, data):
    def read(action) -> object:
        try:
            return action()
        except InputError as error:
            return str(error)

    path = tmp_path / "table.csv"
    path.write_bytes(data)
    assert not (found := read(lambda: known_scores(path, TINY, "weights"))) or str(path) in str(found)
    (tmp_path / "front.csv").write_bytes(data)
    assert "front.csv" in str(read(Run(tmp_path).front))
    assert isinstance(read(lambda: read_published(f"{path}:x")), str)
    read(lambda: MetricsFile(path, step=5).add(6, dict.fromkeys(METRICS_COLUMNS[1:], 1.0)))
    (tmp_path / "config.yaml").write_text("{format: nas-run 1, name: x, space: [], training: []}")
    for action in (lambda: Run(tmp_path).space, lambda: settings_of(Run(tmp_path))):
        assert "config.yaml" in str(read(action))


@pytest.mark.parametrize("key", ["no-key", TINY.widest().key.replace("g_a=", "g_b=")])
def test_a_key_of_another_space_is_told_with_the_file_that_holds_it(tmp_path, key):
    measured = Measurements(tmp_path / "cpu-64x64" / "measured.yaml", {}, {key: Timed([{"encode g_a": 1.0}])})
    front = Run(tmp_path)
    front.front_path.write_text(TRAINED.with_name("front.csv").read_text().replace("g_a=", "g_b="))
    for name, read in {
        "measured.yaml": lambda: measured.by_architecture(TINY),
        "front.csv": lambda: known_architectures(front, TINY),
    }.items():
        with pytest.raises(InputError, match=rf"{name} is damaged \(.*key"):
            read()


ODD_YAML = [
    "a: &a [*a]",
    "a: &a {b: *a}",
    "\n".join(["a0: &a0 [x, x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 9))]),
    "a: " + "[" * 1000,
    "a: !!bool maybe",
    "a: !!int ''",
    "a: !!timestamp x",
    "1: 2",
    "null: 2",
]


@pytest.mark.parametrize("text", ODD_YAML, ids=range(len(ODD_YAML)))
@pytest.mark.parametrize(
    "door", [SearchSpace.load, Budget.load, lambda path: TrainingSettings.make({"recipe": path})]
)
def test_odd_yaml_is_refused_in_a_sentence(tmp_path, text, door):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"odd\.yaml.*[.?]$"):
        door(str(path))


@pytest.mark.parametrize("text", ["warmup: x", "schedule: null", "precision: 33", "milestones: 3"])
def test_a_wrong_setting_is_told_with_the_file_that_holds_it(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    (tmp_path / "config.yaml").write_text(f"{{format: nas-run 1, training: {{{text}}}}}")
    for name, read in {
        "recipe.yaml": lambda: TrainingSettings.make({"recipe": str(tmp_path / "recipe.yaml")}),
        "config.yaml": lambda: settings_of(Run(tmp_path)),
    }.items():
        with pytest.raises(InputError, match=rf"{name}.* `{text.partition(':')[0]}` should be"):
            read()


@pytest.mark.parametrize("text", ["layout: 1", "layout: {groups: [x]}", "layout: {tile: [[[0]]]}"])
def test_a_damaged_layout_is_told_with_the_file_that_holds_it(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=r"mine\.yaml is damaged \(Layout 'mine' .*\): correct it\.$"):
        nas.info(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "text", ["a: 1", "layouts: 1", "layouts: [{name: a, groups: [x], tile: [1]}]", "arch: [5]"]
)
def test_damaged_files_of_a_search_are_told(tmp_path, text):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    facts: dict[str, object] = {}
    for read in (
        lambda: read_rates(path),
        lambda: read_logits(path, TINY, facts),
        lambda: read_structure(path, TINY, None),
        lambda: read_layouts(path, read_yaml(path).get("layouts")),
    ):
        with pytest.raises(InputError, match=r"file\.yaml"):
            read()


@pytest.mark.parametrize("value", [".nan", ".inf", "1.0e+300", "x", "true", "[1]", "1" + "0" * 400])
@pytest.mark.parametrize("place", ["lambda_c", "expected_cost", "target", "logit", "bpp", "hand_made_bpp"])
def test_numbers_of_a_search_are_finite(tmp_path, place, value):
    """Whatever is none is told where the file is read, not by what computes with it."""
    number = dict.fromkeys(("lambda_c", "expected_cost", "target", "logit", "bpp", "hand_made_bpp"), "1.0")
    number[place] = value
    logits = ", ".join(
        f"{slot.name}: [{', '.join([number['logit']] * len(slot.candidates))}]" for slot in TINY.slots
    )
    rung = f"{{lambda_c: {number['lambda_c']}, expected_cost: {number['expected_cost']}, "
    rung += f"target: {number['target']}, logits: {{{logits}}}}}"
    (tmp_path / "logits.yaml").write_text(f"rungs: [{rung}]")
    (tmp_path / "rates.yaml").write_text(
        f"hand_made_bpp: {{none: {number['hand_made_bpp']}}}\nlayouts: [{{name: a, bpp: {number['bpp']}}}]"
    )
    doors = {
        "rates": lambda: read_rates(tmp_path / "rates.yaml"),
        "logits": lambda: LogitPrior(TINY, read_logits(tmp_path / "logits.yaml", TINY, {})),
    }
    damaged = "rates" if "bpp" in place else "logits"
    if value == "1.0e+300" and place != "logit":
        doors[damaged]()  # large, but a number
        return
    with pytest.raises(InputError, match=rf"{damaged}\.yaml is damaged"):
        doors.pop(damaged)()
    for door in doors.values():
        door()


def test_logits_of_other_candidates_are_not_taken(tmp_path):
    path = tmp_path / "logits.yaml"
    logits = {slot.name: [0.0] * len(slot.candidates) for slot in TINY.slots}
    write_logits(path, [WidthLogits(1.0, 2.0, logits)], {})
    assert len(read_logits(path, TINY, {})) == 1
    logits[TINY.slots[0].name].append(0.0)
    write_logits(path, [WidthLogits(1.0, 2.0, logits)], {})
    assert not read_logits(path, TINY, {})
