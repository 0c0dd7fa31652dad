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
    """A trained run: search it, look at its front, export from it.

    Made by `nas.load_run`.
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
        """Score `trials` architectures more and write front.csv; see `Searcher.search`.

        Args:
            budget: a Budget, a shipped one's name, a YAML file's path, or None for the whole range.
            target: instead, 20 (kMAC/px), 60% (of the widest) or, after `nas profile`, 30ms.
            scope: of the target: encoder, decoder or total (the default).

        Raises:
            InputError: see `Budget.asked`.
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
        """front.csv as a table."""
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
        """Export the architecture of least loss at or under a target, or a named one, as a codec's folder.

        Args:
            out: the folder.
            target: 20 (kMAC/px), 60% or 30ms.
            budget: a Budget, a shipped one's name or a YAML file's path, whose limits the architecture meets;
                of several targets the largest counts, unless `target` names another.
            arch: instead of both, an architecture's key.
            family: export every decoder and layout that is worth it beside the encoder and the entropy path
                of that architecture; without `target` and `arch`, of the one of least loss.
            scope: of a target without a budget: encoder, decoder or total (the default).
            arithmetic: of the entropy path: see `codec.export.make_codec`.
            onnx: write it as ONNX models, too, see `onnx.write`.
            force: replace what is there.
            report: called as the work goes on.

        Returns:
            The content of codec.yaml; after a target in ms also `timed`: by action, the seconds that the
            codec takes here, and the milliseconds that the run's profile says.
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
        """Train some architectures alone, and compare with what the supernet says; see `RankRequest`.

        Args:
            data: the folder of photos that the run was trained on, or `bundled`.
            options: `count`, `steps`, `start`, `settings`, `seed`, `force`.
        """
        from nas.analysis.rank import RankRequest, rank_check
        from nas.report.rank import save_rank

        result = rank_check(self._searcher, RankRequest(str(data), **options), report=report)
        return replace(result, files=[*result.files, *save_rank(result, self.run.path / "rank-check")])

    def explain(self, arch: str, *, scope: str = "total", report: StageReport = silent) -> PriceList:
        """One step in each slot of an architecture: what it costs and what it loses; see `price_list`.

        Args:
            arch: its key.
            scope: whose MACs count: `encoder`, `decoder` or `total`.
        """
        from nas.analysis.prices import price_list

        return price_list(self._searcher, self._searcher.space.parse(arch), scope, report)

    def draw(self, folder: str | Path | None = None, *, scope: str = "total") -> None:
        """Draw pareto.png, pareto.svg and report.html of this run alone."""
        from nas.report.front.make import draw_runs

        draw_runs([self.run], Path(folder) if folder else self.run.path, scope=scope)

    @property
    def searcher(self) -> Any:
        """The `Searcher` behind this run."""
        return self._searcher


def load_run(path: str | Path, *, device: str = "auto") -> LoadedRun:
    """A trained run from its folder.

    Raises:
        InputError: not a run, or not trained yet.
    """
    return LoadedRun(Run.open(path), device=device)


def load_codec(path: str | Path) -> Codec:
    """An exported codec from its folder; of a family, that of the first layout and of the best decoder.

    Raises:
        InputError: not a codec's folder, or its files are damaged or do not belong together.
    """
    from nas.codec.folder import load_codec as load

    return load(path)


def load_family(path: str | Path) -> Family:
    """All codecs of an exported family: `load_family(path).codec(layout, decoder)`.

    Raises:
        InputError: as `load_codec`.
    """
    from nas.codec.folder import load_family as load

    return load(path)


def finetune_codec(
    codec: str | Path, data: str | Path, out: str | Path, *, report: StageReport = silent, **options: Any
) -> Finetuned:
    """Train an exported codec on, and measure what that gained; see `FinetuneRequest`.

    Args:
        codec: its folder.
        data: a folder of photos, or `bundled`.
        out: the new codec's folder.
        report: called as the work goes on.
        options: `only`, `steps`, `settings`, `seed`, `device`, `force`.

    Raises:
        InputError: before anything is written, where the request cannot be met.
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
