"""`nas export`: writes architectures of a run as a codec, measured with real files on held-out photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nas.codec.codec import Codec
from nas.codec.family import CodecFamily, Member
from nas.codec.folder import save_family
from nas.codec.quantize import can_be_exact, quantized
from nas.comparison.evaluate import bits_of_latents
from nas.comparison.evaluate_family import measure_family
from nas.graph.network import Supernet
from nas.onnx.write import not_integer_error, require_integers, require_package, write_onnx
from nas.photos.images import Photo
from nas.photos.split import photos_of
from nas.photos.tensors import Padded
from nas.profiling.quantities import costs_of
from nas.run import HELD_OUT_PHOTOS, Run
from nas.searching.family import FamilyMembers, find_family_members, places_of_g_s
from nas.searching.scoring.final import note_tested
from nas.searching.scoring.front import write_front
from nas.searching.searcher import Searcher
from nas.spaces.architecture import Architecture
from nas.spaces.budget import THIS_MACHINE, Budget, Limits
from nas.spaces.layout import Layout
from nas.spaces.rates import scored
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError
from nas.support.files import clear, refuse_existing, refuse_over_input
from nas.support.paths import with_paths
from nas.support.progress import StageReport, silent
from nas.training.settings import settings_of
from nas.verbs.runs import opened
from nas.weights.checkpoint import supernet_of

QUANTIZING_PHOTOS = 8  # number of calibration photos for converting the entropy path to integers
MOST_COST = 0.005  # largest cost of the exact entropy path in rate; beyond it the path stays in float64
ARITHMETICS = ("exact", "float64")
ONNX = "onnx"  # name of the folder of ONNX models in a codec's folder


@dataclass(frozen=True)
class Made:
    """A codec, and the cost of its exact entropy path.

    Attributes:
        codec: codec of one architecture.
        cost: share of additional bits on calibration photos with integers instead of float64, or None if
            there is nothing to compare.
    """

    codec: Codec
    cost: float | None = None


def make_codec(
    run: Run,
    architecture: Architecture,
    arithmetic: str | None = None,
    layouts: Sequence[Layout] = (),
    *,
    supernet: Supernet | None = None,
) -> Made:
    """Make the codec of one architecture of a run's supernet.

    Args:
        run: a trained run.
        architecture: the architecture to extract.
        arithmetic: arithmetic of the entropy path: `exact` or `float64`. By default it is exact, unless that
            is impossible or costs more than `MOST_COST`.
        layouts: all layouts that the entropy path will use. By default only the architecture's own.
        supernet: the run's supernet, if it is loaded already.

    Raises:
        InputError: the arithmetic is unknown, or exact although latents are not integers.
    """
    network = (supernet or supernet_of(run)).extract(architecture).cpu()
    floating = Codec(network, architecture)
    return with_arithmetic(floating, arithmetic, photos_of(run, "calibration"), layouts)


def with_arithmetic(
    floating: Codec, arithmetic: str | None, photos: Sequence[Photo], layouts: Sequence[Layout] = ()
) -> Made:
    """Convert the entropy path of a codec to integers, or keep it in float64.

    Args:
        floating: the codec in float64.
        arithmetic, layouts: see `make_codec`.
        photos: calibration photos. The conversion to integers is calibrated on the first ones.

    Raises:
        InputError: see `make_codec`.
    """
    _check_arithmetic(arithmetic, floating.network.space)
    if not can_be_exact(floating) or arithmetic == "float64":
        return Made(floating)
    rates = scored(floating.rates) if floating.rates else (None,)
    latents = [_latents(floating, photo, rate) for photo in photos[:QUANTIZING_PHOTOS] for rate in rates]
    exact = quantized(floating, latents, layouts)
    theirs, ours = (sum(bits_of_latents(codec, *each) for each in latents) for codec in (floating, exact))
    cost = ours / theirs - 1
    kept = arithmetic == "exact" or cost <= MOST_COST
    return Made(exact if kept else floating, cost)


def _check_arithmetic(arithmetic: str | None, space: SearchSpace, *, onnx: bool = False) -> None:
    if arithmetic not in (None, *ARITHMETICS):
        raise InputError(f"There is no arithmetic '{arithmetic}': use exact or float64.")
    if space.quantizer == "centred" and arithmetic == "exact":
        raise InputError(
            "The exact entropy path reads integers, and this space's quantiser is centred: export with "
            "--arithmetic float64."
        )
    if onnx and (space.quantizer == "centred" or (arithmetic == "float64" and "h_a" in space.family.edges)):
        raise not_integer_error()


def _latents(floating: Codec, photo: Photo, lmbda: float | None) -> tuple[Tensor, Tensor]:
    y_hat, z_hat = floating.latents(Padded(photo.pixels, floating.alignment), lmbda=lmbda)
    assert z_hat is not None
    return y_hat, z_hat


@with_paths
def export(
    run: Run | str | Path,
    out: str | Path,
    *,
    target: str | float | None = None,
    budget: Budget | str | float | Path | None = None,
    arch: str | None = None,
    family: bool = False,
    scope: str | None = None,
    limits: Limits = (),
    arithmetic: str | None = None,
    onnx: bool = False,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> dict[str, Any]:
    """Export the architecture of least loss at or under a target, or a named one, as a codec's folder.

    Args:
        run: a searched run, its folder, or `zoo:NAME`.
        out: the codec's folder.
        target: largest cost of the codec: 20 (kMAC per pixel), 60% (of the widest architecture),
            '4 stages', '5M parameters' or, after `nas profile`, 30ms.
        budget: a Budget, the name of a shipped one or a YAML file's path. The architecture meets its
            limits. If it has several targets, the largest counts, unless `target` names another.
        arch: key of the architecture, instead of a target or budget.
        family: export every decoder and layout that is worth its cost together with one encoder. It is the
            encoder of the chosen architecture, or by default that of the architecture with the least loss on
            the front.
        scope: scope of a target without a budget: `encoder`, `decoder` or `total` (the default).
        limits: further limits that the codec meets: "stages <= 4", or a list of such.
        arithmetic: arithmetic of the entropy path: `exact` (files decode on every machine) or `float64`. By
            default it is exact, unless that costs more than 0.5 % in rate.
        onnx: also write ONNX models, with an encoder and a decoder that need no torch.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace an existing folder.
        report: called with a stage's name, the work done, the total work and a note.

    Returns:
        The content of codec.yaml. After a target in ms it also has `timed`: by action, the seconds that the
        codec takes here, and the milliseconds that the run's profile predicts. After a target of another
        device it is `expected` instead: the milliseconds that its profile predicts.

    Raises:
        InputError: nothing can meet the target, the arguments exclude each other, or `out` exists already.
            Nothing is written then.

    Example:
        >>> content = nas.export("runs/a", "codecs/half", target="50%")
        >>> content["kmac_px"]["total"] <= 0.5 * 6.469
        True
    """
    return export_from(
        Searcher(opened(run), device=device),
        Path(out),
        target=target,
        budget=budget,
        arch=arch,
        family=family,
        scope=scope,
        limits=limits,
        arithmetic=arithmetic,
        onnx=onnx,
        force=force,
        report=report,
    )


def export_from(
    searcher: Searcher,
    out: Path,
    *,
    target: str | float | None = None,
    budget: Budget | str | float | Path | None = None,
    arch: str | None = None,
    family: bool = False,
    scope: str | None = None,
    limits: Limits = (),
    arithmetic: str | None = None,
    onnx: bool = False,
    force: bool = False,
    report: StageReport = silent,
) -> dict[str, Any]:
    """Export from a run that is open already. See `export`.

    Args:
        searcher: searcher of the open run.
        out: folder of the codec.
        target: largest cost of the codec, such as 20 (kMAC per pixel), 60% or 30ms.
        budget: a Budget, the name of a shipped one or a YAML file's path. `target` may choose among its
            targets.
        arch: key of the architecture, instead of a target or budget.
        family: export every decoder and layout that is worth its cost together with one encoder.
        scope: scope of a target: `encoder`, `decoder` or `total`.
        limits: further limits that the codec meets, such as "stages <= 4".
        arithmetic: arithmetic of the entropy path, `exact` or `float64`. See `make_codec` for the default.
        onnx: also write ONNX models.
        force: replace an existing folder.
        report: called as the work goes on.

    Raises:
        InputError: the arguments exclude each other, nothing is chosen, or the request cannot be met.
    """
    limited = target is not None or budget is not None or bool(limits)
    if limited and arch is not None:
        raise InputError(
            "Give a target, budget or limits, or the key of an architecture (--arch), but not both."
        )
    if not limited and arch is None and not family:
        raise InputError(
            "Choose what to export: a target (20, 60%), a budget, the key of an architecture (--arch), or a "
            "family."
        )
    if budget is None or target is None:
        asked = Budget.asked(budget, target, scope, limits)
    else:
        asked = Budget.asked(budget, None, scope, limits).narrowed(str(target))
    _check_output(out, force=force, onnx=onnx)  # or refused, before anything is scored
    refuse_over_input(out, searcher.run.path)
    _check_arithmetic(arithmetic, searcher.space, onnx=onnx)
    if family:
        places_of_g_s(searcher.space)  # refuses a space without families before anything is scored
    photos = photos_of(searcher.run, "held-out", HELD_OUT_PHOTOS)  # refuses damaged ones likewise
    architecture, clock = None, None
    if arch is not None:
        architecture = searcher.space.parse(arch)
        searcher.scores.of(architecture)
    elif limited:
        question = searcher.question(asked)
        architecture = searcher.choose(question, report=report).architecture
        clock = question.quantity if question.quantity.unit == "ms" else None
    if family or architecture is None:
        members = find_family_members(searcher, architecture, report)
    else:
        members = FamilyMembers.alone(architecture)
    if searcher.run.is_writable:
        searcher.write_front()
    content = _written(
        searcher.run,
        members,
        out,
        photos,
        supernet=searcher.evaluator.supernet,
        arithmetic=arithmetic,
        onnx=onnx,
        force=force,
        report=report,
    )
    if clock is not None and architecture is not None:
        from nas.profiling.profile import measured_seconds

        _, _, size, device = asked.measure
        if device not in (None, *THIS_MACHINE):
            content["expected"] = {clock.title: clock.value(architecture)}
            return content
        seconds = measured_seconds(out, clock.name, size, searcher.quantities.device)
        content["timed"] = {clock.name: (seconds, clock.value(architecture))}
    return content


def export_codec(
    run: Run,
    members: FamilyMembers,
    out: Path,
    *,
    supernet: Supernet | None = None,
    arithmetic: str | None = None,
    onnx: bool = False,
    force: bool = False,
    report: StageReport = silent,
) -> dict[str, Any]:
    """Write a codec's folder and note its results on held-out photos in the run's front.csv.

    Args:
        run: a trained run.
        members: the architectures to export: a single one, or a family.
        out: folder of the codec.
        supernet: the run's supernet, if it is loaded already.
        arithmetic: arithmetic of the entropy path: see `make_codec`.
        onnx: also write ONNX models into the subfolder `onnx`.
        force: replace an existing folder.
        report: called for each measured photo and each written model.

    Returns:
        The content of codec.yaml.

    Raises:
        InputError: the folder exists already, or the request is impossible. Nothing is written then.
    """
    _check_output(out, force=force, onnx=onnx)
    _check_arithmetic(arithmetic, run.space, onnx=onnx)
    photos = photos_of(run, "held-out", HELD_OUT_PHOTOS)
    return _written(
        run,
        members,
        out,
        photos,
        supernet=supernet,
        arithmetic=arithmetic,
        onnx=onnx,
        force=force,
        report=report,
    )


def _check_output(out: Path, *, force: bool, onnx: bool) -> None:
    """InputError where a codec's folder, or the ONNX models in it, cannot be written."""
    refuse_existing(out, force=force, what="codec")
    if onnx:
        require_package()


def _written(
    run: Run,
    members: FamilyMembers,
    out: Path,
    photos: Sequence[Photo],
    *,
    supernet: Supernet | None,
    arithmetic: str | None,
    onnx: bool,
    force: bool,
    report: StageReport,
) -> dict[str, Any]:
    """`export_codec` into a folder that may be written, measured on held-out photos."""
    settings = settings_of(run)
    supernet = supernet or supernet_of(run)
    made = make_codec(run, members.base, arithmetic, members.orders(run.space), supernet=supernet)
    family = _family(run, members, made.codec, supernet)
    if onnx:
        require_integers(family)
    measurement = measure_family(
        family,
        photos,
        settings.objective,
        report=lambda done, total, note: report("measuring photos", done, total, note),
    )
    facts = {
        "lmbda": settings.lmbda,
        "metric": settings.metric,
        **family.decoders[family.default].facts,
        "stages": made.codec.layout.stages(),
        "measured": {"split": "held-out", "photos": len(photos), **measurement.decoders[family.default]},
        **({} if made.cost is None else {"exact_costs": round(made.cost, 6)}),
    }
    if force:
        clear(out)
    content = save_family(measurement.noted_in(family), out, facts)
    if onnx:
        write_onnx(measurement.noted_in(family), out / ONNX, report=report)
    if not run.is_writable:  # codec.yaml has the measurements, too
        return content
    for architecture, measured in zip(members.decoders, measurement.decoders, strict=True):
        note_tested(run, architecture, measured)
    if run.front_path.is_file():
        write_front(run, run.front())
    return content


def _family(run: Run, members: FamilyMembers, codec: Codec, supernet: Supernet) -> CodecFamily:
    """The codecs of a run's architectures with their costs."""
    costs, space = costs_of(run), run.space
    decoders = []
    for architecture in members.decoders:
        g_s: nn.Module = codec.network.g_s
        if architecture != members.base:
            g_s = supernet.extract(architecture).cpu().g_s
        by_edge = {edge: round(cost, 6) for edge, cost in costs.by_edge(architecture).items()}
        facts = {
            "kmac_px": _rounded(costs.scopes(architecture)),
            "kmac_px_by_edge": by_edge,
            "params": costs.params(architecture),
        }
        decoders.append(Member(space.only(architecture), g_s.eval().requires_grad_(False), facts))
    layouts = dict(zip(members.layouts, members.orders(space), strict=True))
    layout_facts = {
        name: {"stages": layout.stages(), "kmac_px": _rounded(costs.scopes(space.under(name, members.base)))}
        for name, layout in layouts.items()
    }
    return CodecFamily(codec, layouts, decoders, layout_facts)


def _rounded(costs: dict[str, float]) -> dict[str, float]:
    return {name: round(cost, 6) for name, cost in costs.items()}
