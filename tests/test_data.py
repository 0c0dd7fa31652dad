"""Training data: the split; crops by number, the same in any process, at any start, in any share."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nas.photos.images import BUNDLED, Photo
from nas.photos.split import (
    SPLITS,
    load_photos,
    part_of,
    read_split,
    shared_photos,
    split_folder,
    split_of,
    write_split,
)
from nas.support.errors import InputError
from nas.training.data import CropSource, batches

# The split


def test_bundled_photos_are_those_that_the_split_names():
    split = split_of(BUNDLED)
    more = {**split, "calibration": [*split["train"], *split["calibration"]]}
    for parts in (split, more):
        for part, paths in parts.items():
            assert [photo.name for photo in part_of(BUNDLED, parts, part)] == [path.name for path in paths]
    assert [photo.name for photo in part_of(BUNDLED, more, "calibration", 2)] == ["chelsea.png", "coffee.png"]


def test_a_bundled_photo_that_no_package_carries_is_named():
    with pytest.raises(InputError, match=r"No package carries a photo lena\.png: bundled are .*astronaut"):
        part_of(BUNDLED, {"train": [Path("lena.png")]}, "train")


@pytest.mark.parametrize("count", [3, 4, 10, 25, 100])
def test_the_split_is_80_10_10(tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number}.png").write_text(f"{number}")
    split = split_folder(tmp_path)
    assert tuple(split) == SPLITS
    every = [path for part in split.values() for path in part]
    assert sorted(every) == sorted(tmp_path.glob("*.png"))
    tenth = max(1, round(count / 10))
    assert [len(split[name]) for name in SPLITS] == [count - 2 * tenth, tenth, tenth]
    assert split_folder(tmp_path) == split
    write_split(tmp_path / "split.csv", split)
    assert read_split(tmp_path / "split.csv") == split


def test_the_split_follows_names_not_places(tmp_path):
    for root in ("here", "there"):
        for number in range(12):
            path = tmp_path / root / str(number % 2) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number}")
    here, there = (
        {name: [p.name for p in part] for name, part in split_folder(tmp_path / root).items()}
        for root in ("here", "there")
    )
    assert here == there


@given(st.lists(st.integers(0, 40), min_size=3, max_size=60).filter(lambda found: len(set(found)) > 2))
def test_copies_of_a_photo_are_in_one_part(tmp_path_factory, contents):
    root = tmp_path_factory.mktemp("copies")
    for number, content in enumerate(contents):
        (root / f"{number}.png").write_text(f"{content:09}")
    split = split_folder(root)
    assert sorted(chain.from_iterable(split.values())) == sorted(root.iterdir())
    parts = [{path.read_text() for path in part} for part in split.values()]
    assert all(parts)
    assert sum(map(len, parts)) == len(set(contents))
    assert not any(shared_photos(split["train"], split[name]) for name in SPLITS[1:])


def test_copies_of_two_photos_are_too_few(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.png").write_text(f"{number % 2}")
    with pytest.raises(InputError, match="holds 9 photos, of which 2 differ: at least three"):
        split_folder(tmp_path)


@pytest.mark.parametrize("count", [1, 2])
def test_three_photos_are_needed(tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number}.png").write_text(f"{number}")
    with pytest.raises(InputError, match=f"holds {count} photos: at least three"):
        split_folder(tmp_path)


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n"])
def test_a_missing_or_foreign_split_is_refused(tmp_path, content):
    if content:
        (tmp_path / "split.csv").write_text(content)
    with pytest.raises(InputError, match=r"split\.csv"):
        read_split(tmp_path / "split.csv")


def test_a_broken_photo_is_named(tmp_path, chelsea):
    Image.fromarray(chelsea).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:500])
    with pytest.raises(InputError, match=r"bad\.png"):
        load_photos([tmp_path / "good.png", tmp_path / "bad.png"])


# Crops


@pytest.fixture(scope="module")
def photos(chelsea, photo_folder) -> list[Photo]:
    return [*load_photos(sorted(photo_folder.glob("*.png"))), Photo("chelsea", chelsea)]


@pytest.fixture(scope="module")
def source(photos) -> CropSource:
    return CropSource(photos, crop=64, seed=1)


def stacked(source: CropSource, numbers: range) -> torch.Tensor:
    return torch.stack([source.crop(number) for number in numbers]).float() / 255


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.sampled_from([64, 128]))
def test_a_crop_follows_from_photos_seed_and_number(photos, seed, number, crop):
    source, again = (CropSource(photos, crop=crop, seed=seed) for _ in range(2))
    x = source.crop(number)
    assert (x.shape, x.dtype) == ((3, crop, crop), torch.uint8)
    np.random.default_rng(number).random()  # nothing else that draws has a say
    torch.manual_seed(number)
    again.crop(number + 1)
    assert torch.equal(again.crop(number), x)
    assert torch.equal(pickle.loads(pickle.dumps(source)).crop(number), x)


def test_crops_differ(photos, source):
    seen = {
        CropSource(photos, crop=64, seed=seed).crop(k).numpy().tobytes() for seed in (1, 2) for k in range(9)
    }
    assert len(seen) == 18


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (63, 64), (64, 64), (65, 67), (300, 5)])
@pytest.mark.parametrize("crop", [64, 192])
def test_photos_of_any_size_are_cropped(size, crop):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    source = CropSource([Photo("noise", pixels)], crop=crop, seed=0)
    for number in range(20):
        assert source.crop(number).shape == (3, crop, crop)


def test_enlarging_to_the_edge_is_not_foiled_by_rounding():
    """448 * (29 / 448) is more than 29."""
    for short, crop in ((29, 448), (225, 448), (25, 704)):
        photo = Photo("flat", np.full((short, short + 3, 3), 9, np.uint8))
        assert CropSource([photo], crop=crop, seed=0).crop(0).unique().tolist() == [9]


def test_a_small_photo_is_enlarged_whole(chelsea):
    small = chelsea[:40, :40]
    x = CropSource([Photo("small", small)], crop=64, seed=0).crop(0).numpy().transpose(1, 2, 0)
    whole = np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.array_equal(x, whole) or np.array_equal(x[:, ::-1], whole)


def test_a_photo_of_the_crops_size_keeps_its_pixels(chelsea):
    photo = Photo("exact", chelsea[:64, :64])
    found = [CropSource([photo], crop=64, seed=0).crop(k).numpy().transpose(1, 2, 0) for k in range(8)]
    plain = [np.array_equal(x, photo.pixels) for x in found]
    assert 0 < sum(plain) < 8
    assert all(a or np.array_equal(x[:, ::-1], photo.pixels) for a, x in zip(plain, found, strict=True))


def test_a_constant_photo_gives_constant_crops():
    source = CropSource([Photo("grey", np.full((150, 170, 3), 77, np.uint8))], crop=64, seed=3)
    x = next(batches(source, batch=40, first=0, last=1))
    assert torch.equal(x, torch.full((40, 3, 64, 64), 77 / 255))


def test_crops_come_from_everywhere_at_every_scale_and_are_flipped():
    """A ramp tells where a crop came from: its mean; its range, the scale; its direction."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    source = CropSource([Photo("ramp", np.ascontiguousarray(ramp))], crop=64, seed=0)
    crops = next(batches(source, batch=200, first=0, last=1)) * 255
    means = crops.mean((1, 2, 3))
    assert means.min() < 50
    assert means.max() > 205
    ends = crops[:, 0, 0, 0], crops[:, 0, 0, -1]
    assert 0.35 < (ends[0] > ends[1]).float().mean() < 0.65
    widths = (ends[0] - ends[1]).abs()
    assert widths.min() < 70
    assert widths.max() > 120


def test_photos_are_drawn_in_proportion_to_their_size():
    heights = {0: 64, 100: 192, 255: 384}
    photos = [Photo(str(v), np.full((h, 64, 3), v, np.uint8)) for v, h in heights.items()]
    source = CropSource(photos, crop=64, seed=0)
    drawn = [int(source.crop(number)[0, 0, 0]) for number in range(1000)]
    for value, height in heights.items():
        share = height / sum(heights.values())
        assert drawn.count(value) / 1000 == pytest.approx(share, abs=4 * (share * (1 - share) / 1000) ** 0.5)


@pytest.mark.parametrize("crop", [0, 63, 100, -64])
def test_crops_are_multiples_of_64(photos, crop):
    with pytest.raises(InputError, match="multiple of 64"):
        CropSource(photos, crop=crop, seed=0)


# Batches


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("first", [0, 3])
def test_batches_do_not_depend_on_who_makes_them_nor_on_the_start(source, workers, first):
    """Resumed is uninterrupted; nor is the global generator touched."""
    before = torch.get_rng_state()
    found = list(batches(source, batch=4, first=first, last=6, workers=workers, pin=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(found) == 6 - first
    for step, x in enumerate(found, first):
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert 0 <= x.min() < x.max() <= 1
        assert torch.equal(x, stacked(source, range(4 * step, 4 * step + 4)))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_processes_share_a_joint_batch(source, world):
    shares = [batches(source, batch=6, first=1, last=3, rank=rank, world=world) for rank in range(world)]
    for step, parts in enumerate(zip(*shares, strict=True), 1):
        assert {part.shape for part in parts} == {(6 // world, 3, 64, 64)}
        assert torch.equal(torch.cat(parts), stacked(source, range(6 * step, 6 * step + 6)))


def test_a_batch_that_cannot_be_shared_is_refused(source):
    with pytest.raises(InputError, match=r"batch of 8 .* by 3 processes: set batch to a multiple of 3\.$"):
        batches(source, batch=8, first=0, last=1, world=3)


def test_there_may_be_nothing_left(source):
    assert list(batches(source, batch=2, first=5, last=5, workers=1)) == []


# Workers


def test_workers_end_with_their_iterator(source):
    for end in ("close", "forget"):
        served = batches(source, batch=2, first=0, last=10**9, workers=2)
        next(served)
        assert len(multiprocessing.active_children()) == 2
        if end == "close":
            served.close()
        else:
            del served
            gc.collect()
        assert not multiprocessing.active_children()


def test_more_workers_than_cores_are_no_cause_for_warnings(source, monkeypatch):
    monkeypatch.setattr(torch._utils, "cpu_count", lambda: 1)
    assert len(list(batches(source, batch=2, first=0, last=2, workers=2))) == 2


@pytest.mark.slow  # a process that imports torch anew
def test_workers_may_be_spawned(source):
    """As on macOS and Windows."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        found = list(batches(source, batch=2, first=3, last=5, workers=1))
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert torch.equal(torch.cat(found), stacked(source, range(6, 10)))


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has run torch")
def test_workers_leave_ctrl_c_to_the_loop(source, tmp_path):
    """The whole group gets it, as from a terminal: the loop goes on for as long as it likes, in silence."""
    fork = multiprocessing.get_context("fork")
    begun, ended = fork.Event(), fork.SimpleQueue()
    loop = fork.Process(target=interrupted_loop, args=(source, tmp_path / "stderr", begun, ended))
    loop.start()
    assert begun.wait(30)
    os.killpg(loop.pid, signal.SIGINT)
    loop.join(30)
    assert (loop.exitcode, (tmp_path / "stderr").read_text()) == (0, "")
    assert ended.get() == (2, 0)


def interrupted_loop(source, errors: Path, begun, ended) -> None:
    """Stops 20 batches after Ctrl-C; tells how many workers there were before it stopped, and after."""
    os.setpgrp()
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    noted = []
    try:
        for x in batches(source, batch=2, first=0, last=10**9, workers=2):
            if not begun.is_set():
                signal.signal(signal.SIGINT, lambda *_: noted.append("Ctrl-C"))
                begun.set()
            if noted:
                noted.append(x)
            if len(noted) > 20:
                workers = len(multiprocessing.active_children())
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        gc.collect()
        ended.put((workers, len(multiprocessing.active_children())))
