"""Fine-tuning: what may change and what may not, going on, and what is refused."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from families import NAMES, SPACES, exact_codec, image, net_of, seeded_supernet
from PIL import Image
from typer.testing import CliRunner

from nas import console
from nas.cli import app
from nas.codec.bitstream import compress_image, decompress_image
from nas.codec.codec import Codec
from nas.codec.family import CodecFamily, Member
from nas.codec.folder import load_codec, load_family, save_family
from nas.codec.nic import Nic
from nas.codec.quantize import can_be_exact, quantized
from nas.comparison.evaluate import evaluate_codec
from nas.metrics.objective import Objective
from nas.photos.split import photos_of, split_folder
from nas.run import Run
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.training.settings import read_recipe
from nas.training.start import TrainingRequest, start_training
from nas.verbs import finetune
from nas.verbs.finetune import Finetuned, FinetuneRequest, finetune_codec
from nas.verbs.info import describe as describe_thing

SETTINGS = {"crop": 64, "batch": 1, "steps": 4, "warmup": 0, "learning_rate": 1e-3, "checkpoint_every": 2}
FACTS = {"lmbda": 0.01, "metric": "mse", "params": 1, "stages": 1}
COSTS = {"kmac_px": {"encoder": 2.0, "decoder": 1.0, "total": 3.0}}
FINISHED = {"config.yaml", "split.csv", "metrics.csv"}


@pytest.fixture(scope="module")
def family_folder(small_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of two decoders and two layouts, with seeded weights."""
    net = seeded_supernet(small_space, seed=3, spread=100)
    keys = [f"g_a=5+h_a=4-3+h_s=4+decoder={width}+entropy_parameters=8+layout=raster" for width in (2, 6)]
    architectures = [small_space.parse(key) for key in keys]
    layouts = {name: small_space.layouts[name] for name in ("raster", "uneven")}
    floating = Codec(net.extract(architectures[1]), architectures[1])
    y_hat, z_hat = floating.latents(image(0))
    assert z_hat is not None
    base = quantized(floating, [(y_hat, z_hat)], list(layouts.values()))
    members = [
        Member(small_space.only(found), net.extract(found).g_s.eval().requires_grad_(False), COSTS)
        for found in architectures[:1]
    ]
    members.append(Member(small_space.only(architectures[1]), base.network.g_s, COSTS))
    folder = tmp_path_factory.mktemp("codecs") / "family"
    save_family(CodecFamily(base, layouts, members), folder, FACTS | COSTS)
    return folder


@pytest.fixture(scope="module")
def codec_folder(small_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec with seeded weights."""
    net = seeded_supernet(small_space, seed=2, spread=100)
    architecture = small_space.parse("g_a=5+h_a=4-3+h_s=4+decoder=4+entropy_parameters=8+layout=uneven")
    codec = exact_codec(Codec(net.extract(architecture), architecture), image(0))
    folder = tmp_path_factory.mktemp("codecs") / "codec"
    save_family(CodecFamily(codec), folder, FACTS | COSTS)
    return folder


def request_for(codec: Path, photos: Path, out: Path, **changes: Any) -> FinetuneRequest:
    request = FinetuneRequest(codec, str(photos), out, settings=SETTINGS, device="cpu")
    return replace(request, **changes)


@pytest.fixture(scope="module")
def whole(codec_folder, photo_folder, tmp_path_factory) -> Finetuned:
    """The codec with all of it trained."""
    return finetune_codec(request_for(codec_folder, photo_folder, tmp_path_factory.mktemp("tuned") / "whole"))


@pytest.fixture(scope="module")
def of_g_s(codec_folder, photo_folder, tmp_path_factory) -> Finetuned:
    """The codec with g_s trained alone."""
    out = tmp_path_factory.mktemp("tuned") / "g_s"
    return finetune_codec(request_for(codec_folder, photo_folder, out, only="g_s"))


@pytest.fixture(scope="module")
def of_entropy(codec_folder, photo_folder, tmp_path_factory) -> Finetuned:
    """The codec with its entropy path trained alone."""
    out = tmp_path_factory.mktemp("tuned") / "entropy"
    return finetune_codec(request_for(codec_folder, photo_folder, out, only="entropy"))


def changed(before: Codec, after: Codec) -> set[str]:
    """The names of tensors that are not equal to the bit."""
    old, new = before.state_dict(), after.state_dict()
    assert list(old) == list(new)
    return {name for name, value in old.items() if not torch.equal(value, new[name])}


def edges_of(names: set[str]) -> set[str]:
    """The parts of the network that tensors belong to; whole numbers and the table belong to none."""
    return {name.split(".")[1] for name in names if name.startswith("network.")}


def weights_of(folder: Path) -> bytes:
    return (folder / "codec.safetensors").read_bytes()


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# What may change


def test_g_s_alone_leaves_all_else_as_it_is(codec_folder, of_g_s):
    before, after = load_codec(codec_folder), load_codec(of_g_s.path)
    names = changed(before, after)
    assert {name.split(".")[1] for name in names} == {"g_s"}
    learned = [name for name, _ in before.network.g_s.named_parameters() if name.endswith(("weight", "bias"))]
    assert {f"network.g_s.{name}" for name in learned} <= names
    assert after.path_identity == before.path_identity
    assert after.fingerprint != before.fingerprint


def test_files_made_before_decode_with_the_new_g_s(codec_folder, of_g_s, chelsea):
    before, after = load_codec(codec_folder), load_codec(of_g_s.path)
    data = compress_image(before, chelsea).to_bytes()
    decoded = [decompress_image(codec, Nic.parse(data)) for codec in (before, after)]
    assert decoded[1].shape == chelsea.shape
    assert not np.array_equal(*decoded)
    assert np.array_equal(decoded[1], decompress_image(after, compress_image(after, chelsea)))
    assert any("decode with both" in sentence for sentence in of_g_s.sentences())


def test_the_entropy_path_alone_leaves_pictures_as_they_are(codec_folder, of_entropy, chelsea):
    before, after = load_codec(codec_folder), load_codec(of_entropy.path)
    assert edges_of(changed(before, after)) == {"h_a", "h_s", "context", "prior"}
    assert after.path_identity != before.path_identity
    assert after.exact
    files = [compress_image(codec, chelsea) for codec in (before, after)]
    assert files[0].to_bytes() != files[1].to_bytes()
    pictures = [decompress_image(codec, file) for codec, file in zip((before, after), files, strict=True)]
    assert np.array_equal(*pictures)


def test_everything_trained_is_another_codec(codec_folder, whole, chelsea):
    before, after = load_codec(codec_folder), load_codec(whole.path)
    assert edges_of(changed(before, after)) == {"g_a", "h_a", "h_s", "context", "prior", "g_s"}
    assert after.path_identity != before.path_identity
    assert after.exact
    with pytest.raises(InputError, match="did not make the file"):
        decompress_image(after, compress_image(before, chelsea))
    assert any("alone" in sentence for sentence in whole.sentences())


@pytest.mark.parametrize("kind", ["whole", "of_g_s", "of_entropy"])
def test_what_it_gained_is_told(kind, codec_folder, photo_folder, request):
    """Both sides are measured on the held-out photos, and what the codec costs is what it did."""
    result: Finetuned = request.getfixturevalue(kind)
    content = yaml.safe_load((result.path / "codec.yaml").read_text())
    assert content == result.content
    old = yaml.safe_load((codec_folder / "codec.yaml").read_text())
    for name in ("arch", "widths", "layout", "lmbda", "metric", "kmac_px", "stages", "params"):
        assert content[name] == old[name]
    photos = photos_of(Run.open(next((result.path / "training").iterdir())), "held-out")
    for folder, said in ((codec_folder, content["finetuned"]["before"]), (result.path, content["measured"])):
        found = evaluate_codec(load_codec(folder), photos, Objective(content["lmbda"]))
        assert (said["bpp"], said["psnr"], said["rd_loss"]) == (found.bpp, found.psnr, found.rd_loss)
    gained = content["measured"]["rd_loss"] / content["finetuned"]["before"]["rd_loss"] - 1
    assert content["finetuned"]["rd_loss_change"] == pytest.approx(gained, abs=1e-6)
    assert content["finetuned"]["rd_loss_change"] < 0  # from random weights, four steps are enough
    told = describe_thing(str(result.path)).to_json()
    assert told["finetuned"] == content["finetuned"]
    ((title, columns, (row,)),) = result.tables()
    assert title.startswith("1 held-out photo,")
    assert dict(zip(columns, row, strict=True))["loss %"] == pytest.approx(100 * gained)


def test_the_training_leaves_its_metrics(whole):
    training = whole.path / "training" / "all"
    assert files_in(training) == FINISHED
    with open(training / "metrics.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]
    assert [path for path in whole.path.iterdir() if path.is_dir()] == [training.parent]


def test_held_out_photos_are_not_trained_on(codec_folder, photo_folder, whole, tmp_path):
    """Noise in their place changes what is measured, and no weight."""
    photos = tmp_path / "photos"
    shutil.copytree(photo_folder, photos)
    (held_out,) = split_folder(photos)["held-out"]
    with Image.open(held_out) as picture:
        noise = np.random.default_rng(0).integers(0, 256, (picture.height, picture.width, 3), np.uint8)
    Image.fromarray(noise).save(held_out)
    result = finetune_codec(request_for(codec_folder, photos, tmp_path / "out"))
    assert weights_of(result.path) == weights_of(whole.path)
    assert result.content["measured"]["bpp"] != whole.content["measured"]["bpp"]


# Going on


def stop_at(stage: str, step: int) -> Any:
    def report(told: str, done: int, total: int, note: str) -> None:
        if (told, done) == (stage, step):
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize(
    ("stage", "step"),
    [
        ("training", 3),
        pytest.param("training", 1, marks=pytest.mark.slow),
        pytest.param("measuring after", 0, marks=pytest.mark.slow),
    ],
)
def test_resumed_is_uninterrupted(codec_folder, photo_folder, whole, tmp_path, stage, step):
    request = request_for(codec_folder, photo_folder, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        finetune_codec(request, stop_at(stage, step))
    assert not (request.out / "codec.yaml").exists()
    steps = []
    result = finetune_codec(
        request, lambda told, done, *_: steps.append(done) if told == "training" else None
    )
    assert steps == list(range(step + 1, 5)) if stage == "training" else steps == []
    assert weights_of(result.path) == weights_of(whole.path)
    assert result.content == whole.content
    assert files_in(result.path) == files_in(whole.path)


def everything(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_what_is_no_fine_tuning_is_left_alone(codec_folder, photo_folder, tmp_path):
    """A training in OUT/training, and a file beside an unfinished fine-tuning."""
    out = tmp_path / "out"
    request = TrainingRequest(
        "factorized-tiny",
        str(photo_folder),
        out / "training" / "all",
        settings={"crop": 64, "batch": 1, "steps": 9},
    )

    def stop(progress: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_training(request, stop)
    before = everything(out)
    for force in (False, True):
        with pytest.raises(InputError, match=r"training/all does not belong to a fine-tuning"):
            finetune_codec(request_for(codec_folder, photo_folder, out, force=force))
        assert everything(out) == before
    own = request_for(codec_folder, photo_folder, tmp_path / "own")
    with pytest.raises(KeyboardInterrupt):
        finetune_codec(own, stop_at("training", 1))
    (own.out / "note.txt").write_text("mine")
    with pytest.raises(InputError, match=r"note.txt does not belong"):
        finetune_codec(own)
    assert (own.out / "note.txt").read_text() == "mine"


def test_a_decoder_trained_beside_the_old_encoder_does_not_go_on_beside_a_new_one(
    family_folder, photo_folder, tmp_path
):
    request = request_for(family_folder, photo_folder, tmp_path / "out", only="g_s")
    with pytest.raises(KeyboardInterrupt):
        finetune_codec(request, stop_at("training 1 of 2", 3))
    with pytest.raises(InputError, match=r"unfinished.*--force"):
        finetune_codec(replace(request, only=None))


def test_another_request_does_not_go_on(codec_folder, photo_folder, whole, tmp_path):
    request = request_for(codec_folder, photo_folder, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        finetune_codec(request, stop_at("training", 3))
    others = tmp_path / "photos"
    shutil.copytree(photo_folder, others)
    for changes in ({"only": "g_s"}, {"steps": 5}, {"seed": 1}, {"data": str(others)}):
        with pytest.raises(InputError, match=r"unfinished.*--force"):
            finetune_codec(replace(request, **changes))


@pytest.mark.slow
def test_force_replaces_what_is_there(codec_folder, photo_folder, whole, tmp_path):
    """An unfinished attempt of another request, then a finished codec."""
    request = request_for(codec_folder, photo_folder, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        finetune_codec(request, stop_at("training", 3))
    result = finetune_codec(replace(request, only="g_s", force=True))
    assert {path.name for path in (result.path / "training").iterdir()} == {"g_s"}
    with pytest.raises(InputError, match="already exists"):
        finetune_codec(request)
    assert weights_of(finetune_codec(replace(request, force=True)).path) == weights_of(whole.path)


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"only": "g_t"}, "'g_t' cannot be trained alone: use --only g_s"),
        ({"only": "h_s"}, "--only g_s or --only entropy"),
        ({"data": "no-such-folder"}, "is not a folder"),
        ({"codec": Path("no-such-codec")}, "is not a codec"),
        ({"settings": {"lmbda": 1}}, "lmbda cannot be set here"),
        ({"settings": {"metric": "mse"}}, "metric cannot be set here"),
        ({"settings": {"architectures": 2}}, "architectures cannot be set here"),
        ({"settings": {"only": "g_s"}}, "Write --only g_s"),
        ({"settings": {"only": "entropy"}}, "Write --only entropy"),
        ({"settings": {"stepps": 2}}, "did you mean steps"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"settings": {"crop": 100}}, "multiple of 64"),
        ({"device": "tpu"}, "choose auto, cpu or cuda"),
    ],
)
def test_a_request_that_cannot_be_met_writes_nothing(codec_folder, photo_folder, tmp_path, changes, message):
    request = replace(request_for(codec_folder, photo_folder, tmp_path / "out"), **changes)
    with pytest.raises(InputError, match=message) as caught:
        finetune_codec(request)
    assert "\n" not in str(caught.value)
    assert not request.out.exists()


def test_too_few_photos_are_refused(codec_folder, photo_folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted(photo_folder.glob("*.png"))[:2]:
        shutil.copy(path, photos)
    with pytest.raises(InputError, match="at least three"):
        finetune_codec(request_for(codec_folder, photos, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_nothing_is_replaced_unasked(codec_folder, photo_folder, whole, tmp_path, monkeypatch):
    for out in (whole.path, tmp_path / "other"):
        out.mkdir(exist_ok=True)
        (out / "note.txt").write_text("mine")
        with pytest.raises(InputError, match=r"already exists.*--force"):
            finetune_codec(request_for(codec_folder, photo_folder, out))
        assert (out / "note.txt").read_text() == "mine"
        (out / "note.txt").unlink()
    for out in (codec_folder, codec_folder.parent):
        with pytest.raises(InputError, match=r"which is read|is not a codec"):
            finetune_codec(request_for(codec_folder, photo_folder, out, force=True))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="without torchrun"):
        finetune_codec(request_for(codec_folder, photo_folder, tmp_path / "out"))


def test_one_edge_is_trained_of_trained_weights(photo_folder, tmp_path):
    settings = {"only": "g_s", "steps": 1, "crop": 64}
    request = TrainingRequest("joint-ar-tiny", str(photo_folder), tmp_path / "run", settings=settings)
    with pytest.raises(InputError, match="--init-from"):
        start_training(request)
    assert not (tmp_path / "run").exists()


def test_a_recipe_says_all_but_how_long(codec_folder, photo_folder, tmp_path, monkeypatch):
    """A recipe says what a step is; the number of steps is that of fine-tuning, or as given."""
    seen: list[TrainingRequest] = []

    def ask(request: TrainingRequest, report: Any) -> None:
        seen.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "train_or_resume", ask)
    recipe = read_recipe("laptop")
    own = {"learning_rate": 2e-3, "batch": 3}
    for settings in ({"recipe": "laptop"}, {"recipe": "laptop", **own}):
        with pytest.raises(KeyboardInterrupt):
            finetune_codec(
                request_for(codec_folder, photo_folder, tmp_path / "out", settings=settings, seed=4)
            )
    by_recipe, by_hand = (request.settings for request in seen)
    assert (by_recipe["steps"], by_recipe["warmup"]) == (finetune.FINETUNING_STEPS, finetune.WARMUP)
    for name in ("learning_rate", "batch", "crop"):
        assert by_recipe[name] == recipe[name]
    assert by_recipe["seed"] == 4
    assert (by_recipe["architectures"], by_recipe["lmbda"]) == (1, FACTS["lmbda"])
    assert by_hand == by_recipe | own


# From the command line


def command(*words: Any) -> Any:
    return CliRunner().invoke(app, ["finetune", *map(str, words)])


def test_the_command(codec_folder, photo_folder, of_g_s, tmp_path, monkeypatch):
    """Interrupted, it says how to go on; the same words go on, and tell what is gained."""
    settings = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    words = (codec_folder, "--data", photo_folder, "--out", tmp_path / "out", "--only", "g_s", *settings)

    @contextmanager
    def progress() -> Iterator[Any]:
        yield stop_at("training", 3)

    monkeypatch.setattr(console, "progress", progress)
    done = command(*words)
    assert done.exit_code == 130
    assert "Run the same command again to continue" in done.stderr
    monkeypatch.undo()
    done = command(*words)
    assert done.exit_code == 0, done.stderr
    assert "loss %" in done.stdout
    assert "decode with both" in done.stderr
    assert weights_of(tmp_path / "out") == weights_of(of_g_s.path)
    done = command(*words)
    assert done.exit_code == 2
    assert "already exists" in done.stderr


@pytest.mark.slow
def test_the_command_in_json(codec_folder, photo_folder, tmp_path):
    words = ("--data", photo_folder, "--out", tmp_path / "out", "--steps", 1, "--set", "crop=64", "--json")
    done = command(codec_folder, *words)
    assert done.exit_code == 0, done.stderr
    content = json.loads(done.stdout)
    assert content.pop("codec") == str(tmp_path / "out")
    assert content == yaml.safe_load((tmp_path / "out" / "codec.yaml").read_text())


# Families


def file_of(codec: Codec, pixels: Any) -> bytes:
    return compress_image(codec, pixels).to_bytes()


@pytest.mark.slow
def test_every_decoder_of_a_family_is_trained_and_every_file_decodes(
    family_folder, photo_folder, tmp_path, chelsea
):
    before = load_family(family_folder)
    result = finetune_codec(request_for(family_folder, photo_folder, tmp_path / "out", only="g_s"))
    after = load_family(result.path)
    assert {path.name for path in (result.path / "training").iterdir()} == {"g_s-0", "g_s-1"}
    for layout in before.layouts:
        data = file_of(before.codec(layout), chelsea)
        for place in range(2):
            old, new = (family.codec(layout, place) for family in (before, after))
            assert {name.split(".")[1] for name in changed(old, new)} == {"g_s"}
            pictures = [decompress_image(codec, Nic.parse(data)) for codec in (old, new)]
            assert not np.array_equal(*pictures)
    (_, _, rows), (_, _, layouts) = result.tables()
    assert (len(rows), len(layouts)) == (2, 2)
    for entry in result.content["decoders"]:
        assert entry["finetuned"]["rd_loss_change"] < 0
        assert entry["kmac_px"] == COSTS["kmac_px"]


@pytest.mark.slow
def test_a_family_trained_whole_stays_one(family_folder, photo_folder, tmp_path, chelsea):
    """Other decoders learn the new encoder, all layouts have the new entropy path; stopped, it goes on."""
    before = load_family(family_folder)
    request = request_for(family_folder, photo_folder, tmp_path / "out")
    result = finetune_codec(request)
    after = load_family(result.path)
    assert [path.name for path in sorted((result.path / "training").iterdir())] == ["all", "g_s-0", "g_s-1"]
    for layout in before.layouts:
        assert after.codec(layout).path_identity != before.codec(layout).path_identity
        file = Nic.parse(file_of(after.codec(layout), chelsea))
        pictures = [decompress_image(after.codec(layout, place), file) for place in range(2)]
        assert not np.array_equal(*pictures)
    for place in range(2):
        names = changed(before.codec(None, place), after.codec(None, place))
        assert {"g_a", "g_s"} <= edges_of(names)
    again = replace(request, out=tmp_path / "again")
    for stage in ("training 1 of 3", "training 3 of 3"):
        with pytest.raises(KeyboardInterrupt):
            finetune_codec(again, stop_at(stage, 3))
    finetune_codec(again)
    assert weights_of(again.out) == weights_of(result.path)


@pytest.mark.slow
def test_the_entropy_path_of_a_family_is_trained_once(family_folder, photo_folder, tmp_path, chelsea):
    before = load_family(family_folder)
    result = finetune_codec(request_for(family_folder, photo_folder, tmp_path / "out", only="entropy"))
    after = load_family(result.path)
    assert [path.name for path in (result.path / "training").iterdir()] == ["entropy"]
    for layout, place in itertools.product(before.layouts, range(2)):
        old, new = (family.codec(layout, place) for family in (before, after))
        assert not {"g_a", "g_s"} & edges_of(changed(old, new))
        pictures = [decompress_image(codec, Nic.parse(file_of(codec, chelsea))) for codec in (old, new)]
        assert np.array_equal(*pictures)


@pytest.mark.slow
@pytest.mark.parametrize("only", [None, "g_s", "entropy"])
@pytest.mark.parametrize("name", NAMES)
def test_any_codec_can_be_tuned(name, only, photo_folder, tmp_path):
    """Of every family, integer or centred, with a hyperprior or without."""
    space, net = SPACES[name], net_of(name)
    for architecture in {space.widest(), space.narrowest()}:
        codec = Codec(net.extract(architecture), architecture)
        codec = exact_codec(codec, image(0)) if can_be_exact(codec) else codec
        folder = tmp_path / architecture.key
        save_family(CodecFamily(codec), folder / "codec", FACTS | COSTS)
        result = finetune_codec(request_for(folder / "codec", photo_folder, folder / "out", only=only))
        after = load_codec(result.path)
        assert after.exact == codec.exact
        assert (after.path_identity == codec.path_identity) == (only == "g_s")
        names = edges_of(changed(codec, after))
        if only == "g_s":
            assert names == {"g_s"}
        if only == "entropy":
            assert names
            assert not names & {"g_a", "g_s"}
