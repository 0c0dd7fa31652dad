"""The Python interface: runs and codecs as objects."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.run import Run
from nas.spaces.budget import Budget, Limits
from nas.spaces.space import SearchSpace
from nas.support.paths import with_paths
from nas.support.progress import StageReport, silent

if TYPE_CHECKING:
    import pandas as pd

    from nas.analysis.probes.probe import ProbeResult
    from nas.analysis.rank_result import RankResult
    from nas.analysis.sensitivity import SensitivityTable
    from nas.codec.codec import Codec
    from nas.codec.family import CodecFamily
    from nas.profiling.quantities import Quantities
    from nas.searching.searcher import Searcher, SearchResult
    from nas.searching.sources import Sources


class LoadedRun:
    """A trained run: search it, look at its front, and export codecs from it.

    Get one from `nas.load_run`. The weights are read when something is to be scored.

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
        _ = run.trained_weights  # refuses a run without weights
        self.run, self.device = run, device
        self._quantities = quantities

    def __repr__(self) -> str:
        return f"LoadedRun({str(self.run.path)!r})"

    @property
    def space(self) -> SearchSpace:
        """The run's `SearchSpace`, with the layouts that were found for it."""
        return self.run.space

    @cached_property
    def searcher(self) -> Searcher:
        """The `Searcher` behind this run, for everything that has no method here."""
        from nas.searching.searcher import Searcher

        return Searcher(self.run, device=self.device, quantities=self._quantities)

    @with_paths
    def search(
        self,
        budget: Budget | str | float | Path | None = None,
        *,
        target: str | float | None = None,
        trials: int | None = 100,
        scope: str | None = None,
        limits: Limits = (),
        storage: str | Path | None = None,
        sources: Sources | None = None,
        seed: int = 0,
        report: StageReport = silent,
    ) -> SearchResult:
        """Score architectures, write front.csv, and answer the budget's targets.

        Args:
            budget: a Budget, the name of a shipped one, a YAML file's path, or None for the whole range.
            target: instead of a budget: 20 (kMAC per pixel), 60% (of the widest architecture),
                '4 stages', '5M parameters' or, after `nas profile`, 30ms, or 30ms@phone on another device.
            trials: number of architectures to score, beyond those that have a score. A few more may be scored
                near a target. 0 scores none, and None only those near a target.
            scope: scope of the target: `encoder`, `decoder` or `total` (the default).
            limits: further limits, beside the target or those of the budget: "stages <= 4", or a list of
                such.
            storage: Optuna storage that several machines share. By default it is a journal in the run.
            sources: switches that turn sources of candidates off, for ablations.
            seed: seed for all random choices.
            report: called with a stage's name, the work done, the total work and a note.

        Returns:
            A `SearchResult`. `choices` are the answers to the targets, `scored` and `front` are tables, and
            `ranges` are the reachable costs by scope.

        Raises:
            InputError: the budget is wrong, or no architecture can meet it.
        """
        return self.searcher.search(
            Budget.asked(budget, target, scope, limits),
            trials=trials,
            storage=None if storage is None else str(storage),
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

    @with_paths
    def export(
        self,
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
        force: bool = False,
        report: StageReport = silent,
    ) -> dict[str, Any]:
        """Export one architecture as a codec's folder: the best at or under a target, or a named one.

        Args:
            out: folder of the codec.
            target: largest cost of the codec: 20 (kMAC per pixel), 60% (of the widest architecture),
                '4 stages', '5M parameters' or 30ms (on a profiled machine, or 30ms@phone on a profiled
                device).
            budget: a Budget, the name of a shipped one or a YAML file's path. The codec meets its limits. If
                it has several targets, the largest counts, unless `target` names another.
            arch: key of the architecture, instead of a target or budget.
            family: export every decoder and layout that is worth its cost together with one encoder. The
                encoder is that of the chosen architecture. Without `target`, `budget` and `arch`, it is that
                of the architecture with the least loss on the front.
            scope: scope of a target without a budget: `encoder`, `decoder` or `total` (the default).
            limits: further limits that the codec meets: "stages <= 4", or a list of such.
            arithmetic: arithmetic of the entropy path: `exact` or `float64`. By default it is exact, unless
                that costs more than 0.5 % in rate.
            onnx: also write ONNX models, with an encoder and a decoder that need no torch.
            force: replace an existing folder.
            report: called as the work goes on.

        Returns:
            The content of codec.yaml. After a target in ms it also has `timed`: by action, the seconds that
            the codec takes here, and the milliseconds that the run's profile predicts. After a target of
            another device it is `expected` instead: the milliseconds that its profile predicts.

        Raises:
            InputError: nothing can meet the target, the arguments exclude each other, or `out` exists
                already.

        Example:
            >>> content = nas.load_run("runs/a").export("codecs/small", target="30%")
            >>> content["kmac_px"]["total"] <= 0.3 * 6.469
            True
        """
        from nas.verbs.export import export_from

        return export_from(
            self.searcher,
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

    @with_paths
    def rank_check(
        self,
        data: str | Path,
        *,
        count: int = 6,
        steps: int | None = None,
        start: str = "scratch",
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        force: bool = False,
        report: StageReport = silent,
    ) -> RankResult:
        """Train a few architectures alone, and compare them with the supernet's scores.

        Results are kept in `rank-check/` of the run, and nothing is trained twice.

        Args:
            data: folder of the photos that the run was trained on, or `bundled`.
            report: called as the work goes on.
            count: number of architectures, 3 or more, evenly spread over the range of MACs.
            steps: training steps for each. By default as many as the run had.
            start: `scratch` (as the run began) or `supernet`.
            settings: training settings that differ from the run's.
            seed: seed for choosing the architectures.
            force: replace results with other settings.

        Returns:
            A `RankResult`. `agreement` has Kendall's tau with its interval, and `penalty` is the relative
            loss that sharing weights costs: its mean, least and most.

        Raises:
            InputError: a setting is wrong, or results with other settings exist.
        """
        from nas.verbs.analyse import rank_check

        return rank_check(
            self.run,
            data,
            count=count,
            steps=steps,
            start=start,
            settings=settings,
            seed=seed,
            device=self.device,
            force=force,
            report=report,
        )

    @with_paths
    def explain(self, arch: str, *, scope: str = "total", report: StageReport = silent) -> SensitivityTable:
        """Return the sensitivity table of an architecture: what one step in each slot costs and gains.

        Steps without a score are scored now.

        Args:
            arch: key of the architecture.
            scope: whose MACs to show: `encoder`, `decoder` or `total`.
            report: called as the work goes on.

        Raises:
            InputError: it is not a key of this space, or there is no such scope.
        """
        from nas.analysis.sensitivity import sensitivity_table

        return sensitivity_table(self.searcher, self.searcher.space.parse(arch), scope, report)

    @with_paths
    def probe(
        self,
        arch: str,
        *,
        data: str | Path | None = None,
        photos: int = 8,
        quality: float | None = None,
        tolerance: float = 1.0,
        steps: int = 40,
        seed: int = 0,
        report: StageReport = silent,
    ) -> ProbeResult:
        """Find where an architecture is redundant and where it lacks capacity, without training.

        Args:
            arch: key of the architecture.
            data: folder of photos to probe on, or `bundled`. By default it is the run's calibration photos.
            photos: number of photos, at most.
            quality: 0 to 100, for a run over a range of rates. By default it is that of the middle anchor.
            tolerance: how much the loss may rise when components are left out, in %.
            steps: steps along the gradient for the headroom.
            seed: seed for all random choices.
            report: called as the work goes on.

        Returns:
            A `ProbeResult`. `to_dataframe` has a row for each interface.

        Raises:
            InputError: it is not a key of this space, or a setting is wrong.
        """
        from nas.verbs.analyse import probe

        return probe(
            self.run,
            arch,
            data=data,
            photos=photos,
            quality=quality,
            tolerance=tolerance,
            steps=steps,
            seed=seed,
            device=self.device,
            report=report,
        )

    @with_paths
    def draw(self, folder: str | Path | None = None, *, scope: str = "total") -> None:
        """Draw pareto.png, pareto.svg and report.html for this run.

        Args:
            folder: folder for the drawings. By default it is the run's own.
            scope: whose MACs to show: `encoder`, `decoder` or `total`.

        Raises:
            InputError: the run has not been searched yet, or there is no such scope.
        """
        from nas.verbs.pareto import pareto

        pareto(self.run, scope=scope, out=folder)


@with_paths
def load_run(path: str | Path, *, device: str = "auto") -> LoadedRun:
    """Load a trained run from its folder.

    Args:
        path: folder that `nas train` or `nas search` has made, or `zoo:NAME`.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises:
        InputError: the folder is not a run, or the run is not trained yet.

    Example:
        >>> front = nas.load_run("runs/a").front()
        >>> front["arch"].is_unique
        True
    """
    from nas.verbs.runs import opened

    return LoadedRun(opened(path), device=device)


@with_paths
def load_codec(path: str | Path) -> Codec:
    """Load an exported codec from its folder.

    The codec follows CompressAI's protocol (see `nas.codec.codec.Codec`). Images are tensors [B, 3, H, W] in
    [0, 1] with sides that are multiples of 64. If the folder holds a family, this is the codec with its first
    layout and its best decoder.

    Args:
        path: folder that `nas export` has made.

    Raises:
        InputError: the folder is not a codec, its files are damaged or do not belong together, or this
            machine computes other numbers than the codec needs.

    Example:
        >>> import torch
        >>> codec = nas.load_codec("codecs/a")
        >>> coded = codec.compress(torch.rand(1, 3, 64, 128))
        >>> codec.decompress(coded["strings"], coded["shape"])["x_hat"].shape
        torch.Size([1, 3, 64, 128])
    """
    from nas.codec.folder import load_codec as load

    return load(path)


@with_paths
def load_family(path: str | Path) -> CodecFamily:
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
