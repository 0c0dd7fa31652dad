"""Probes: interfaces of every family, exact projections, true ranks, no negative gains, the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from families import NAMES, ONE_QUANTIZER, RATED, SPACES, image, net_of, others_slow
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_run import small_run
from torch import Tensor
from typer.testing import CliRunner

import nas
from nas.analysis.probes.headroom import RATES, lowest_losses, rate_of, steps_of
from nas.analysis.probes.interfaces import Interface, changed, interfaces
from nas.analysis.probes.passage import Passage
from nas.analysis.probes.probe import ProbeRequest, ProbeResult, probe_network
from nas.analysis.probes.redundancy import Components, components_needed, fewest, mean_loss
from nas.cli import app
from nas.codec.refining.annealing import RATE
from nas.graph.entropy import bits
from nas.graph.network import CodecNetwork
from nas.metrics.losses import distortion
from nas.metrics.objective import Objective
from nas.photos.images import Photo, Pixels
from nas.photos.tensors import pad, to_pixels, to_tensor
from nas.report.probes import save_probes
from nas.run import Run
from nas.shipped import zoo_run
from nas.spaces.space import SearchSpace
from nas.weights.checkpoint import supernet_of

LMBDA = 0.01
HEIGHT, WIDTH = 40, 56  # no multiples of what networks need
# Each family with one quantiser, and with both in the slow tests
ALTERNATE = others_slow(NAMES, ONE_QUANTIZER)
# What a rate changes does not depend on the family: without z and with z and a context, all in the slow tests
SOME_RATED = others_slow(RATED, ["factorized-integer-rates", "joint-ar-integer-rates"])


def network(name: str, share: float = 1.0) -> tuple[CodecNetwork, Passage]:
    """An architecture of one of the small spaces, and a picture of odd size on its way through it."""
    space = (SPACES | RATED)[name]
    architecture = space.uniform(share)
    net = net_of(name).extract(architecture).requires_grad_(False)
    pixels = to_pixels(image(1, HEIGHT, WIDTH, batch=1))
    return net, Passage(net, space.layout(architecture), [pixels], Objective(LMBDA))


def named(net: CodecNetwork, name: str) -> Interface:
    (found,) = [each for each in interfaces(net) if each.name == name]
    return found


# Where interfaces lie


@pytest.mark.parametrize("name", [*NAMES, *RATED])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_passage_loses_what_the_network_does(name: str, share: float) -> None:
    net, passage = network(name, share)
    pixels = to_pixels(image(1, HEIGHT, WIDTH, batch=1))
    x = to_tensor(pixels)
    with torch.no_grad():
        out = net(pad(x, net.space.family.alignment), passage.layout, lmbda=LMBDA, coded=True)
    rate = sum(float(bits(likelihood)) for likelihood in out["likelihoods"].values())
    error = float(distortion(x, out["x_hat"][..., :HEIGHT, :WIDTH].clamp(0, 1), "mse"))
    expected = rate / (HEIGHT * WIDTH) + LMBDA * 255**2 * error
    assert float(passage.losses) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", [*ALTERNATE, *SOME_RATED])
def test_every_interface_is_read_and_all_its_components_reproduce_the_loss(name: str) -> None:
    net, passage = network(name)
    found = interfaces(net)
    assert len({each.name for each in found}) == len(found)
    for interface in found:
        components = Components.of([passage.activation(interface)])
        whole = mean_loss([passage], interface, components, len(components.mean))
        assert whole == pytest.approx(float(passage.losses), rel=1e-6), interface
        other = passage.losses_with(interface, lambda values: 3 * values + 1)
        assert float(other) != float(passage.losses), interface


def test_interfaces_of_a_network_with_blocks_and_branches() -> None:
    space = SPACES["patch-integer"]
    widest = space.widest()
    names = [each.name for each in interfaces(net_of("patch-integer").extract(widest))]
    one_block = [
        "g_a.1",
        "g_a.1 block 1 part 1 depthwise",
        "g_a.1 block 1 part 1",
        "g_a_inner.1 block 1 leaky_relu",
        "g_a.1 block 1",
    ]
    assert names[:6] == ["linear.1", *one_block]
    first = names.index("y")
    assert names[first : first + 7] == ["y", "h_a.1", "h_a.2", "z", "h_s.1", "h_s.2", "psi"]
    assert names[-1] == "g_s_renderer (2)"
    narrowest = [each.name for each in interfaces(net_of("patch-integer").extract(space.narrowest()))]
    assert narrowest == ["linear.1", "y", "linear.2"]  # without z and without any learned part


def test_a_change_lasts_no_longer_than_asked() -> None:
    net, passage = network("cheng-integer")
    interface = interfaces(net)[0]
    with changed(net, interface, torch.zeros_like):
        assert not passage.activation(interface).any()
    assert passage.activation(interface).any()


# Components


def test_a_projection_is_what_the_formula_says() -> None:
    """One component of a few positions, by singular vectors and loops."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3, 2, 2)) * np.array([3.0, 1.0, 0.2])[None, :, None, None] + 5
    positions = np.array([values[b, :, i, j] for b in range(2) for i in range(2) for j in range(2)])
    mean = positions.mean(0)
    first = np.linalg.svd(positions - mean)[2][0]
    expected = np.empty_like(values)
    for b in range(2):
        for i in range(2):
            for j in range(2):
                away = values[b, :, i, j] - mean
                expected[b, :, i, j] = mean + first * sum(first[c] * away[c] for c in range(3))
    components = Components.of([torch.from_numpy(values)])
    np.testing.assert_allclose(components.projected(torch.from_numpy(values), 1), expected, atol=1e-12)
    np.testing.assert_allclose(components.spread, positions.std(0), atol=1e-12)
    nothing = components.projected(torch.from_numpy(values), 0)
    np.testing.assert_allclose(nothing, np.broadcast_to(mean[:, None, None], values.shape), atol=1e-12)


def test_components_of_pictures_of_several_sizes_are_those_of_all_positions() -> None:
    parts = [torch.randn(1, 4, 2, 3), torch.randn(2, 4, 5, 1)]
    rows = torch.cat([part.permute(0, 2, 3, 1).reshape(-1, 4) for part in parts])
    apart, together = Components.of(parts), Components.of([rows.t()[None, :, :, None]])
    torch.testing.assert_close(apart.mean, together.mean)
    torch.testing.assert_close(apart.projected(parts[0], 2), together.projected(parts[0], 2))


@given(most=st.integers(0, 300), share=st.floats(0, 1))
def test_the_fewest_are_found_in_few_questions(most: int, share: float) -> None:
    least, asked = round(share * most), list[int]()

    def keeps(count: int) -> bool:
        asked.append(count)
        return count >= least

    assert fewest(most, keeps) == least
    assert len(asked) == len(set(asked)) <= max(1, most).bit_length() + 1


@pytest.fixture(scope="module")
def trained() -> tuple[CodecNetwork, Run]:
    run = zoo_run("zoo:joint-ar-tiny")
    return supernet_of(run).extract(run.space.uniform(0.5)).requires_grad_(False), run


def passage_of(trained: tuple[CodecNetwork, Run], pictures: Sequence[Pixels]) -> Passage:
    net, run = trained
    layout = run.space.layout(run.space.uniform(0.5))
    return Passage(net, layout, pictures, Objective(run.config["training"]["lmbda"]))


@pytest.mark.parametrize("rank", [5, 12])
def test_y_of_a_weight_of_few_ranks_needs_as_many_components(
    trained: tuple[CodecNetwork, Run], chelsea: Pixels, rank: int
) -> None:
    net, _ = trained
    last = net.g_a[-1]
    weight, bias = last.weight.data.clone(), last.bias.data.clone()
    y = named(net, "y")
    of = Components.of([passage_of(trained, [chelsea]).activation(y)])
    kept = (of.basis[:, :rank] @ of.basis[:, :rank].t()).float()
    try:
        last.weight.data = torch.einsum("po,oikl->pikl", kept, weight)
        last.bias.data = kept @ (bias - of.mean.float()) + of.mean.float()
        passage = passage_of(trained, [chelsea])
        components = Components.of([passage.activation(y)])
        assert components_needed([passage], y, components, tolerance=1e-5) == rank
    finally:
        last.weight.data, last.bias.data = weight, bias


def test_channels_that_repeat_others_need_no_components(
    trained: tuple[CodecNetwork, Run], chelsea: Pixels
) -> None:
    """Through the activation function, too: a multiple of a channel stays one."""
    net, _ = trained
    conv = net.h_a[0]
    weight, bias = conv.weight.data.clone(), conv.bias.data.clone()
    half = len(bias) // 2
    try:
        conv.weight.data[half : 2 * half] = 0.5 * weight[:half]
        conv.bias.data[half : 2 * half] = 0.5 * bias[:half]
        passage = passage_of(trained, [chelsea])
        interface = named(net, "h_a.1")
        components = Components.of([passage.activation(interface)])
        most = len(bias) - half
        assert mean_loss([passage], interface, components, most) == pytest.approx(
            float(passage.losses), rel=1e-6
        )
        assert components_needed([passage], interface, components, tolerance=1e-7) <= most
    finally:
        conv.weight.data, conv.bias.data = weight, bias


def test_a_looser_tolerance_needs_no_more_components(
    trained: tuple[CodecNetwork, Run], chelsea: Pixels
) -> None:
    passage = passage_of(trained, [chelsea[:96, :96]])
    for interface in interfaces(trained[0]):
        components = Components.of([passage.activation(interface)])
        needed = [components_needed([passage], interface, components, t) for t in (0.0, 0.01, 0.1)]
        assert needed == sorted(needed, reverse=True), interface


# Headroom


@pytest.mark.parametrize("name", [*ALTERNATE, *SOME_RATED])
def test_gains_are_never_negative(name: str) -> None:
    net, passage = network(name)
    generator = torch.Generator().manual_seed(0)
    for interface in interfaces(net):
        spread = Components.of([passage.activation(interface)]).spread
        best = lowest_losses(passage, interface, steps_of(interface, spread), 1, generator)
        assert best.shape == passage.losses.shape
        assert bool((best <= passage.losses).all()), interface
    assert all(value.grad is None for value in net.parameters())


def test_better_activations_are_found_wherever_there_are_some(
    trained: tuple[CodecNetwork, Run], chelsea: Pixels
) -> None:
    net, _ = trained
    passage = passage_of(trained, [chelsea[:96, :96], chelsea[40:136, 90:186]])
    for name in ("g_a.3", "y", "z", "psi", "g_s.1", "g_s.3"):
        interface = named(net, name)
        spread = Components.of([passage.activation(interface)]).spread
        generator = torch.Generator().manual_seed(0)
        best = lowest_losses(passage, interface, steps_of(interface, spread), 8, generator)
        assert bool((best < passage.losses).any()), name
        again = lowest_losses(passage, interface, steps_of(interface, spread), 8, generator.manual_seed(0))
        torch.testing.assert_close(again, best, rtol=0, atol=0)


def test_a_rate_is_of_the_size_of_moves_that_the_loss_bears(
    trained: tuple[CodecNetwork, Run], chelsea: Pixels
) -> None:
    net, _ = trained
    passage = passage_of(trained, [chelsea[:96, :96]])
    y, inner = named(net, "y"), named(net, "g_s.1")
    generator = torch.Generator()
    unit = Components.of([passage.activation(inner)]).spread.float()[:, None, None]
    rates = [rate_of(passage, inner, scale * unit, generator.manual_seed(0)) for scale in (1.0, 4.0, 1e6)]
    assert rates[0] in RATES[:-1]
    assert rates[1] == pytest.approx(rates[0] / 4)  # the same move, in other units
    assert rates[2] == RATES[-1]
    assert rate_of(passage, y, torch.ones(1), generator) == RATE


# The command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_space: SearchSpace, photo_folder: Path) -> Run:
    return small_run(tmp_path_factory.mktemp("probes") / "run", small_space, photo_folder)


def probe(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["probe", *map(str, words), "--device", "cpu"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_the_command(run: Run, tmp_path: Path) -> None:
    architecture = run.space.uniform(0.5)
    words = (run.path, "--arch", architecture.key, "--steps", 1)
    status, out, err = probe(*words, "--json", "--out", tmp_path / "found.json")
    assert status == 0, err
    assert "probing" in err
    content = json.loads(out)
    assert content["files"] == [str(tmp_path / f"found.{kind}") for kind in ("json", "csv", "png", "svg")]
    kept = json.loads((tmp_path / "found.json").read_text())
    assert kept == {key: value for key, value in content.items() if key != "files"}
    with open(tmp_path / "found.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["interface"] for row in rows] == [row["interface"] for row in content["interfaces"]]
    assert [int(row["components"]) for row in rows] == [row["components"] for row in content["interfaces"]]
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.width == 1650
    drawn = (tmp_path / "found.svg").read_text()
    assert all(f"{row['components']} of {row['channels']}" in drawn for row in rows)

    status, out, err = probe(*words)
    assert status == 0, err
    found = nas.load_run(run.path, device="cpu").probe(architecture.key, steps=1)
    assert found.to_json() == kept
    for sentence in found.sentences():
        assert sentence in out
    for row in found.probes:
        assert row.interface.name in out


def test_the_loss_is_what_a_search_scores(run: Run) -> None:
    loaded, architecture = nas.load_run(run.path, device="cpu"), run.space.uniform(0.5)
    scored = loaded.searcher.scores.of(architecture).rd_loss
    assert loaded.probe(architecture.key, steps=1).loss == pytest.approx(scored, rel=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("RUN --arch g_a=3", "does not fit"),
        ("RUN --arch KEY --quality 50", "has one rate"),
        ("RUN --arch KEY --out PLACE/there.json", "already exists"),
        ("RUN --arch KEY --out PLACE/new.png", "must end in .json"),
        ("RUN --arch KEY --data PLACE/nothing", "nothing"),
        ("RUN --arch KEY --tolerance nan", "tolerance"),
        ("PLACE --arch KEY", "not a run"),
    ],
)
def test_what_cannot_be_probed(run: Run, tmp_path: Path, words: str, said: str) -> None:
    (tmp_path / "there.csv").write_text("mine")
    places = {"RUN": run.path, "KEY": run.space.widest().key, "PLACE": tmp_path}
    given = words.split()
    for name, value in places.items():
        given = [word.replace(name, str(value)) for word in given]
    status, _, err = probe(*given)
    assert status == 2
    assert said in err.splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "there.csv"]


@pytest.mark.parametrize("wrong", [{"tolerance": -1.0}, {"tolerance": float("nan")}, {"steps": 0}])
def test_a_request_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(nas.InputError, match="at least"):
        ProbeRequest(**wrong)


def test_ms_ssim_takes_photos_that_are_large_enough() -> None:
    space = SPACES["factorized-integer"]
    architecture, request = space.narrowest(), ProbeRequest(steps=1)
    net, objective = net_of("factorized-integer").extract(architecture), Objective(10.0, "ms-ssim")
    small, large = (Photo("p", to_pixels(image(2, side, side, batch=1))) for side in (160, 176))
    found = probe_network(net, architecture, [large], objective, request)
    assert found.loss > 0
    assert len(found.probes) == len(interfaces(net))
    with pytest.raises(nas.InputError, match="more than 160 pixels"):
        probe_network(net, architecture, [large, small], objective, request)


def test_photos_of_ones_own_and_a_quality(tmp_path: Path, photo_folder: Path) -> None:
    rated = RATED["mean-scale-hyperprior-centred-rates"]
    run = small_run(tmp_path / "run", rated, photo_folder)
    key = rated.narrowest().key
    low, usual, high = (
        nas.probe(run, key, data=photo_folder, photos=2, quality=quality, steps=1, device="cpu")
        for quality in (0, None, 100)
    )
    assert (low.quality, high.quality) == (0, 100)
    assert [found.objective.lmbda for found in (low, usual, high)] == pytest.approx(list(rated.rates))
    assert len(low.photos) == 2
    assert low.loss < usual.loss < high.loss
    with pytest.raises(nas.InputError, match="from 0 to 100"):
        nas.probe(run, key, quality=101, device="cpu")


def test_a_result_says_what_it_holds(run: Run, tmp_path: Path) -> None:
    found = nas.probe(run.path, run.space.widest().key, steps=1, device="cpu")
    assert isinstance(found, ProbeResult)
    assert found.most_redundant.interface.name in repr(found)
    assert found.most_headroom.interface.name in repr(found)
    table = found.to_dataframe()
    assert list(table["interface"]) == [each.interface.name for each in found.probes]
    assert bool((table["share"] == table["components"] / table["channels"]).all())
    assert bool((table["headroom"] >= 0).all())
    for name in ("a.png", "b.png"):
        save_probes(found, [tmp_path / name])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_weights_and_photos_stay_as_they_are(trained: tuple[CodecNetwork, Run], chelsea: Pixels) -> None:
    net, _ = trained
    before: dict[str, Tensor] = {name: value.clone() for name, value in net.state_dict().items()}
    passage = passage_of(trained, [chelsea[:96, :96]])
    for interface in interfaces(net):
        lowest_losses(passage, interface, torch.ones(1), 1, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.get_submodule("g_a")[0]._forward_hooks
