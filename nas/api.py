"""The library's front door: runs and codecs as people use them from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.run import Run
from nas.spaces.budget import Budget
from nas.support.errors import InputError
from nas.support.files import refuse_existing, refuse_over_input, write_yaml
from nas.support.progress import StageReport, silent

if TYPE_CHECKING:
    import pandas as pd

    from nas.analysis.prices import PriceList
    from nas.analysis.rank import RankResult
    from nas.codec.codec import Codec
    from nas.codec.family import Family
    from nas.profiling.quantities import Quantities
    from nas.searching.searcher import SearchResult
    from nas.searching.sources import Sources
    from nas.verbs.finetune import Finetuned


class LoadedRun:
    """A trained run: search it, look at its front, and export codecs from it.

    Get one from `nas.load_run`.

    Args:
        run: the run's folder as a `Run`.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        quantities: the run's costs, if they are loaded already.

    Example:
        >>> run = nas.load_run("runs/a")
        >>> result = run.search("60%", trials=0)
        >>> run.front()["total_kmac_px"].min() < result.choices[0].kmac_px["total"]
        True
    """

    def __init__(self, run: Run, *, device: str = "auto", quantities: Quantities | None = None) -> None:
        from nas.searching.searcher import Searcher

        self.run = run
        self._searcher = Searcher(run, device=device, quantities=quantities)

    def search(
        self,
        budget: Budget | str | float | Path | None = None,
        *,
        target: str | float | None = None,
        trials: int | None = 100,
        scope: str | None = None,
        storage: str | None = None,
        sources: Sources | None = None,
        seed: int = 0,
        report: StageReport = silent,
    ) -> SearchResult:
        """Score architectures, write front.csv, and answer the budget's targets.

        Args:
            budget: a Budget, the name of a shipped one, a YAML file's path, or None for the whole range.
            target: instead of a budget: 20 (kMAC per pixel), 60% (of the widest architecture) or, after
                `nas profile`, 30ms.
            trials: number of architectures to score, beyond those that have a score. A few more may be scored
                near a target. 0 scores none, and None only those near a target.
            scope: scope of the target: `encoder`, `decoder` or `total` (the default).
            storage: Optuna storage that several machines share. By default it is a journal in the run.
            sources: switches that turn sources of candidates off, for ablations.
            seed: seed for all random choices.
            report: called with a stage's name, how much of it is done, of how much, and a note.

        Returns:
            A `SearchResult`. `choices` are the answers to the targets, `scored` and `front` are tables, and
            `ranges` are the reachable costs by scope.

        Raises:
            InputError: the budget is wrong, or no architecture can meet it.
        """
        return self._searcher.search(
            Budget.asked(budget, target, scope),
            trials=trials,
            storage=storage,
            sources=sources,
            seed=seed,
            report=report,
        )

    def front(self) -> pd.DataFrame:
        """Return front.csv as a table: the architectures that no other one beats in both cost and loss.

        Raises:
            InputError: the run has not been searched yet.
        """
        return self.run.front()

    def export(
        self,
        out: str | Path,
        *,
        target: str | None = None,
        budget: Budget | str | Path | None = None,
        arch: str | None = None,
        family: bool = False,
        scope: str | None = None,
        arithmetic: str | None = None,
        onnx: bool = False,
        force: bool = False,
        report: StageReport = silent,
    ) -> dict[str, Any]:
        """Export one architecture as a codec's folder: the best at or under a target, or a named one.

        Args:
            out: folder of the codec.
            target: the most that the codec may cost: 20 (kMAC per pixel), 60% (of the widest architecture) or
                30ms (on a profiled machine).
            budget: a Budget, the name of a shipped one or a YAML file's path. The codec meets its limits. If
                it has several targets, the largest counts, unless `target` names another.
            arch: key of the architecture, instead of a target or budget.
            family: export every decoder and layout that is worth its cost beside one encoder. The encoder is
                that of the chosen architecture. Without `target`, `budget` and `arch` it is that of the least
                loss on the front.
            scope: scope of a target without a budget: `encoder`, `decoder` or `total` (the default).
            arithmetic: arithmetic of the entropy path: `exact` or `float64`. By default it is exact, unless
                that costs more than 0.5 % in rate.
            onnx: also write ONNX models and a decoder that needs no torch.
            force: replace an existing folder.
            report: called as the work goes on.

        Returns:
            The content of codec.yaml. After a target in ms it also has `timed`: by action, the seconds that
            the codec takes here, and the milliseconds that the run's profile predicts.

        Raises:
            InputError: nothing can meet the target, the arguments exclude each other, or `out` exists
                already.

        Example:
            >>> content = nas.load_run("runs/a").export("codecs/small", target="30%")
            >>> content["kmac_px"]["total"] <= 0.3 * 6.469
            True
        """
        from nas.searching.family import Kin, find_kin
        from nas.verbs.export import export_codec

        limited = target is not None or budget is not None
        if limited and arch is not None:
            raise InputError("Export takes a target or budget, or an architecture's key, not both.")
        if not limited and arch is None and not family:
            raise InputError("Export needs a target (20, 60%), a budget, an architecture's key, or a family.")
        if budget is None or target is None:
            asked = Budget.asked(budget, target, scope)
        else:
            asked = Budget.asked(budget, None, scope).narrowed(target)
        refuse_existing(Path(out), force=force, what="codec")
        refuse_over_input(Path(out), self.run.path)
        architecture, clock = None, None
        if arch is not None:
            architecture = self._searcher.space.parse(arch)
            self._searcher.scores.of(architecture)
        elif limited:
            question = self._searcher.question(asked)
            architecture = self._searcher.choose(question, report=report).best.architecture
            clock = question.quantity if question.quantity.unit == "ms" else None
        if family or architecture is None:
            kin = find_kin(self._searcher, architecture, report)
        else:
            kin = Kin.alone(architecture)
        if self.run.is_writable:
            self._searcher.write_front()
        content = export_codec(
            self.run,
            kin,
            Path(out),
            arithmetic=arithmetic,
            onnx=onnx,
            force=force,
            report=report,
        )
        if clock is not None and architecture is not None:
            from nas.profiling.profile import seconds_of

            _, size = asked.measure[1:]
            seconds = seconds_of(Path(out), clock.name, size, self._searcher.quantities.device)
            content["timed"] = {clock.name: (seconds, clock.value(architecture))}
        return content

    def rank_check(self, data: str | Path, *, report: StageReport = silent, **options: Any) -> RankResult:
        """Train a few architectures alone, and compare them with the supernet's scores.

        Results are kept in `rank-check/` of the run, and nothing is trained twice.

        Args:
            data: folder of the photos that the run was trained on, or `bundled`.
            report: called as the work goes on.
            **options: `count`, the number of architectures (default 6); `steps` for each (default: as many as
                the run had); `start`, either `scratch` (random weights, the default) or `supernet`;
                `settings`, training settings that differ from the run's; `seed` for choosing the
                architectures; `force`, to replace results with other settings.

        Returns:
            A `RankResult`. `agreement` has Kendall's tau with its interval, and `penalty` is the relative
            loss that sharing weights costs: its mean, least and most.

        Raises:
            InputError: a setting is wrong, or results with other settings are there.
        """
        from nas.analysis.rank import RankRequest, rank_check
        from nas.report.rank import save_rank

        result = rank_check(self._searcher, RankRequest(str(data), **options), report=report)
        return replace(result, files=[*result.files, *save_rank(result, self.run.path / "rank-check")])

    def explain(self, arch: str, *, scope: str = "total", report: StageReport = silent) -> PriceList:
        """Return the cost table of an architecture: what one step in each slot costs and gains.

        Steps without a score are scored now.

        Args:
            arch: key of the architecture.
            scope: whose MACs to show: `encoder`, `decoder` or `total`.
            report: called as the work goes on.

        Raises:
            InputError: it is not a key of this space, or there is no such scope.
        """
        from nas.analysis.prices import price_list

        return price_list(self._searcher, self._searcher.space.parse(arch), scope, report)

    def draw(self, folder: str | Path | None = None, *, scope: str = "total") -> None:
        """Draw pareto.png, pareto.svg and report.html for this run.

        Args:
            folder: folder for the drawings. By default it is the run's own.
            scope: whose MACs to show: `encoder`, `decoder` or `total`.

        Raises:
            InputError: the run has not been searched yet, or there is no such scope.
        """
        from nas.report.front.make import draw_runs

        draw_runs([self.run], Path(folder) if folder else self.run.path, scope=scope)

    @property
    def searcher(self) -> Any:
        """The `Searcher` behind this run, for everything that has no method here."""
        return self._searcher


def load_run(path: str | Path, *, device: str = "auto") -> LoadedRun:
    """Load a trained run from its folder.

    Args:
        path: folder that `nas train` or `nas search` has made.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises:
        InputError: the folder is not a run, or the run is not trained yet.

    Example:
        >>> front = nas.load_run("runs/a").front()
        >>> front["arch"].is_unique
        True
    """
    return LoadedRun(Run.open(path), device=device)


def load_codec(path: str | Path) -> Codec:
    """Load an exported codec from its folder.

    The codec follows CompressAI's protocol (see `nas.codec.codec.Codec`). Images are tensors [B, 3, H, W] in
    [0, 1] with sides that are multiples of 64. If the folder holds a family, this is the codec with its first
    layout and its best decoder.

    Args:
        path: folder that `nas export` has made.

    Raises:
        InputError: the folder is not a codec, its files are damaged or do not belong together, or this
            machine computes something else than the codec needs.

    Example:
        >>> import torch
        >>> codec = nas.load_codec("codecs/a")
        >>> coded = codec.compress(torch.rand(1, 3, 64, 128))
        >>> codec.decompress(coded["strings"], coded["shape"])["x_hat"].shape
        torch.Size([1, 3, 64, 128])
    """
    from nas.codec.folder import load_codec as load

    return load(path)


def load_family(path: str | Path) -> Family:
    """Load all codecs of an exported family: several decoders and layouts around one encoder.

    Args:
        path: folder that `nas export` has made. A codec without `--family` is a family of one.

    Raises:
        InputError: the folder is not a codec, or its files are damaged or do not belong together.

    Example:
        >>> family = nas.load_family("codecs/a")
        >>> len(family.layouts), len(family.decoders)
        (1, 1)
        >>> codec = family.codec(layout="raster", decoder=0)
    """
    from nas.codec.folder import load_family as load

    return load(path)


def finetune_codec(
    codec: str | Path, data: str | Path, out: str | Path, *, report: StageReport = silent, **options: Any
) -> Finetuned:
    """Train an exported codec further, alone, and measure what that gains at the same MACs.

    Args:
        codec: folder of the exported codec.
        data: a folder of photos, or `bundled`. It is split as for `nas train`.
        out: folder of the new codec.
        report: called as the work goes on.
        **options: `only`, the part to train: `g_s`, or `entropy` for everything but g_a and g_s (default:
            everything); `steps` of each training (default 2000); `settings`, training settings by name;
            `seed`; `device`; `force`, to replace an existing folder.

    Returns:
        A `Finetuned` with both codecs' measurements on the same held-out photos, with real files.

    Raises:
        InputError: the request cannot be met. Nothing is written then.

    Example:
        >>> done = nas.finetune_codec("codecs/a", "bundled", "codecs/tuned", only="g_s", steps=2)
        >>> done.path.name
        'tuned'
    """
    from nas.verbs.finetune import FinetuneRequest
    from nas.verbs.finetune import finetune_codec as finetune

    return finetune(FinetuneRequest(Path(codec), str(data), Path(out), **options), report)


def run_on_photos(run: Run, data: str | Path, out: Path, *, force: bool = False) -> Run:
    """A copy of a run, without its scores, whose calibration photos are a user's own.

    What was found for the weights is taken along (layouts, logits, costs, profiles); what was best on the
    run's own photos is scored first on these. Held-out photos that are among them are no longer held out.

    Raises:
        InputError: no photos there, an unreadable one, or no held-out photo that is not among them.
    """
    from nas.photos.images import BUNDLED, list_images
    from nas.photos.split import load_photos, shared_photos, write_split
    from nas.support.files import clear, make_folder, write_atomically

    photos = list_images(data)
    refuse_existing(out, force=force, what="run")
    refuse_over_input(out, run.path, data)
    load_photos(photos)  # all of them readable, before anything is written
    _ = run.fingerprint
    is_bundled = run.config.get("data") == BUNDLED
    split = {} if is_bundled else run.split()
    if split:
        seen = set(shared_photos(split["held-out"], photos))
        split["held-out"] = [photo for photo in split["held-out"] if photo not in seen]
        if not split["held-out"]:
            raise InputError(
                f"All held-out photos of {run.path} are in {data}: leave some out, so that codecs can be "
                "measured on photos that the search does not see."
            )
    if force:
        clear(out)
    make_folder(out)
    config = {key: value for key, value in run.config.items() if key != "data"}
    if is_bundled:
        split = _bundled_files(out)
    write_yaml(out / "config.yaml", config)
    write_atomically(out / "supernet.safetensors", run.weights_path.read_bytes())
    of_weights = (
        *("structure.yaml", "layout.yaml", "profile/*/measured.yaml"),
        *("search/layouts.yaml", "search/logits-*.yaml", "search/costs.npz"),
    )
    for file in (file for pattern in of_weights for file in run.path.glob(pattern)):
        write_atomically(out / file.relative_to(run.path), file.read_bytes())
    if run.front_path.is_file():
        best = run.front().query("on_front_total")["arch"].tolist()
        Run(out).begin_with(best)
    write_split(out / "split.csv", {**split, "calibration": photos})
    return Run.open(out)


def _bundled_files(out: Path) -> dict[str, list[Path]]:
    """The bundled photos as files of a run of its own, so that its split can name them."""
    from nas.photos.images import bundled, write_image

    parts = bundled()
    split: dict[str, list[Path]] = {}
    for name, part in (("train", "train"), ("held-out", "test")):
        for photo in parts[part]:
            path = out / "photos" / f"{Path(photo.name).stem}.png"
            write_image(path, photo.pixels)
            split.setdefault(name, []).append(path)
    return split


__all__ = ["LoadedRun", "finetune_codec", "load_codec", "load_family", "load_run", "run_on_photos"]
