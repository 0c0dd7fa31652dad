"""The rank check: how far a supernet's scores can be trusted, from a few architectures trained alone.

A search ranks architectures by their scores with shared weights. The check measures whether this order agrees
with the order after training alone, and how much loss the sharing costs each architecture. The trained
architectures are kept in RUN/rank-check/, one run for each, under a name that stands for everything that the
weights depend on. An interrupted check therefore continues where it stopped, and nothing is trained twice.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.analysis.rank_result import RANK_COLUMNS, RankResult, RankRow
from nas.analysis.rank_spread import spread
from nas.photos.images import BUNDLED
from nas.photos.split import split_folder
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator
from nas.searching.scoring.scores import Scores
from nas.searching.searcher import Searcher
from nas.spaces.architecture import Architecture
from nas.support.errors import InputError, InputWarning
from nas.support.files import clear, digest, write_atomically
from nas.support.progress import StageReport, silent
from nas.support.tables import write_rows
from nas.training.expected import seconds_at_cost, warning_of
from nas.training.loop import Progress
from nas.training.settings import ALONE, TrainingSettings, settings_of
from nas.training.start import KLT, TrainingRequest, train_or_resume
from nas.weights.checkpoint import supernet_of

STARTS = ("scratch", "supernet")
_OF_THE_RUN = ("lmbda", "metric")


@dataclass(frozen=True)
class RankRequest:
    """The settings of `nas rank-check`.

    Attributes:
        data: folder of photos that the run was trained on, or `bundled`.
        count: number of architectures to train.
        steps: training steps for each one. None means as many as the run had.
        start: `scratch` starts as the run did, from random weights or from the photos' KLT, which is the
            classical check. `supernet` starts from the architecture's weights in the supernet, which shows
            the cost of sharing in fewer steps.
        settings: training settings that differ from the run's, by name.
        seed: seed for choosing the architectures. Training uses the run's seed.
        force: replace the results of a check with other settings.
    """

    data: str
    count: int = 6
    steps: int | None = None
    start: str = "scratch"
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    force: bool = False


def rank_check(searcher: Searcher, request: RankRequest, *, report: StageReport = silent) -> RankResult:
    """Train some architectures of a run alone, and compare them with the supernet's scores.

    Args:
        searcher: searcher of the trained run. It scores both sides on its calibration photos.
        request: the settings.
        report: called with a stage's name, the work done, the total work and a note.

    Returns:
        The result, which is also written to RUN/rank-check as it comes.

    Raises:
        InputError: the request cannot be met. Raised before anything is written.
        KeyboardInterrupt: finished trainings are kept, and the same call continues.
    """
    searcher.run.refuse_read_only()
    return _Check(searcher, request).run(report)


# The check


class _Check:
    """One rank check. The constructor refuses a wrong request before anything is written."""

    def __init__(self, searcher: Searcher, request: RankRequest) -> None:
        self.searcher, self.request, self.source = searcher, request, searcher.run
        self.folder = searcher.run.path / "rank-check"
        if request.start not in STARTS:
            raise InputError(f"There is no start '{request.start}': choose {' or '.join(STARTS)}.")
        source = self.source.config.get("init_from")
        self.scratch = KLT if source == KLT else None  # the photos give it to each architecture as to the run
        self.training = self._training()
        self.architectures = spread(searcher.costs, request.count, request.seed)
        self.photos, self.notes = _photos(self.source, request.data)
        if request.start == "scratch" and source != self.scratch:
            self.notes.append(
                f"The run began from {source}, so its steps alone did not make its weights: the "
                "architectures that begin from scratch may need more (--steps)."
            )
        self.settings = {
            "count": request.count,
            "steps": self.training.steps,
            "start": request.start,
            "seed": request.seed,
            "training": self.training.model_dump(mode="json", exclude_defaults=True),
            "photos": self.photos,
            "calibration": searcher.evaluator.calibration,
            "weights": self.source.fingerprint,
        }
        self._replaces = self._compare()

    def _training(self) -> TrainingSettings:
        """The run's own settings, for a single architecture."""
        given, steps = dict(self.request.settings), self.request.steps
        for name in given:
            if name in _OF_THE_RUN or name == "recipe":
                raise InputError(
                    f"{name} cannot be set here, because architectures are trained and scored as the run "
                    "was: leave it out."
                )
            if name in ALONE:
                raise InputError(
                    f"{name} cannot be set here, because each architecture is trained alone: leave it out."
                )
        if steps is not None:
            given["steps"] = steps
        of_run = {**settings_of(self.source).model_dump(), **ALONE}
        if self.request.start == "scratch" and self.scratch is None:  # random weights need no protection
            of_run |= {"only": None, "frozen": []}
        return TrainingSettings.make({**of_run, **given})

    def _compare(self) -> bool:
        """Whether there are results of another check, which this one replaces."""
        path = self.folder / "rank.json"
        if not path.is_file():
            return False
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))["settings"]
            different = [name for name in self.settings if earlier.get(name) != self.settings[name]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            earlier, different = {}, list(self.settings)
        if different and not self.request.force:
            name = different[0]
            plain = isinstance(earlier.get(name), int | str) and name in ("count", "steps", "start", "seed")
            change = f"{name} {earlier[name]}, now {self.settings[name]}" if plain else f"other {name}"
            raise InputError(
                f"{self.folder} holds a check with other settings ({change}): add --force to replace its "
                "results; what was trained for it is kept."
            )
        return bool(different)

    def run(self, report: StageReport) -> RankResult:
        """Find finished trainings, run the missing ones, and write the results after each one."""
        self.searcher.store_costs()
        rows: dict[Architecture, RankRow] = {}
        trained = [architecture for architecture in self.architectures if self._trained(architecture)]
        for done, architecture in enumerate(trained, 1):
            rows[architecture] = self._row(architecture)
            report("scoring", done, len(trained), "trained before")
        if rows:
            self._write(rows)
        self._warn([architecture for architecture in self.architectures if architecture not in rows])
        for number, architecture in enumerate(self.architectures, 1):
            if architecture not in rows:
                stage = f"training {number} of {len(self.architectures)} alone"
                self._train(architecture, stage, report)
                rows[architecture] = self._row(architecture)
                self._write(rows)
        return self._result(rows, self._files)

    def _warn(self, left: Sequence[Architecture]) -> None:
        """Warn if the remaining trainings take more than a day."""
        kmac_px = sum(self.searcher.costs.kmac_px(architecture, "total") for architecture in left)
        seconds = seconds_at_cost(kmac_px, self.training, self.searcher.evaluator.device.type)
        what = f"{len(left)} trainings of {self.training.steps:,} steps"
        quicker = "fewer --steps; a smaller --count; or --start supernet with few steps"
        if long := warning_of("check", seconds, what, quicker):
            warnings.warn(long, InputWarning, stacklevel=4)

    # What was trained

    def _place(self, architecture: Architecture) -> Path:
        """The folder of an architecture's own run. Its name identifies all that the weights depend on."""
        facts = {"training": self.settings["training"], "photos": self.photos, "start": self.request.start}
        if self.request.start == "supernet":
            facts["weights"] = self.source.fingerprint
        elif self.scratch:
            facts["init_from"] = self.scratch
        name = digest(architecture.key, json.dumps(facts, sort_keys=True))
        return self.folder / f"{architecture.key[:24].strip('.+-=_')}-{name}"

    def _trained(self, architecture: Architecture) -> Run | None:
        """An architecture's own run, or None if it is not trained to the end."""
        folder = self._place(architecture)
        if not (folder / "supernet.safetensors").is_file():
            return None
        run = Run.open(folder)
        wanted = self.searcher.space.only(architecture)
        if settings_of(run) != self.training or run.trained_space.to_dict() != wanted.to_dict():
            raise InputError(
                f"{run.config_path} was changed since it was made: delete {folder} to train it again."
            )
        return run

    def _train(self, architecture: Architecture, stage: str, report: StageReport) -> None:
        folder = self._place(architecture)

        def show(progress: Progress) -> None:
            report(stage, progress.step, progress.steps, f"loss {progress.loss:.3f}  {progress.bpp:.3f} bpp")

        data = self.request.data
        request = TrainingRequest(
            space=self.searcher.space,
            data=data if data == BUNDLED else str(Path(data).resolve()),
            out=folder,
            arch=architecture.key,
            settings=self.training.model_dump(),
            init_from=self.source.path if self.request.start == "supernet" else self.scratch,
            device=self.searcher.evaluator.device.type,
        )
        train_or_resume(request, show)

    def _row(self, architecture: Architecture) -> RankRow:
        run = self._trained(architecture)
        assert run is not None
        mine = self.searcher.evaluator
        evaluator = Evaluator(
            supernet_of(run),
            mine.photos,
            settings_of(self.source).objective,
            device=mine.device,
        )
        return RankRow(
            arch=architecture.key,
            total_kmac_px=self.searcher.costs.kmac_px(architecture, "total"),
            supernet=self.searcher.scores.of(architecture),
            standalone=Scores(run.scores_path, evaluator, run.fingerprint).of(evaluator.space.widest()),
            steps=self.training.steps,
            run=run.path.name,
        )

    # What is written

    def _result(self, rows: Mapping[Architecture, RankRow], files: Sequence[Path] = ()) -> RankResult:
        ordered = [rows[architecture] for architecture in self.architectures if architecture in rows]
        return RankResult(ordered, settings_of(self.source).metric, self.settings, self.notes, list(files))

    @property
    def _files(self) -> tuple[Path, Path]:
        return self.folder / "rank.csv", self.folder / "rank.json"

    def _write(self, rows: Mapping[Architecture, RankRow]) -> None:
        result = self._result(rows)
        if self._replaces:
            for name in ("rank.png", "rank.svg"):
                clear(self.folder / name)
            self._replaces = False
        table, content = self._files
        write_atomically(content, json.dumps(result.to_json(), indent=2) + "\n")
        write_rows(table, RANK_COLUMNS, (row.to_dict() for row in result.rows))


# Photos


def _photos(run: Run, data: str) -> tuple[str, list[str]]:
    """A short name for the training photos of a folder, and notes on them.

    Raises:
        InputError: there are too few photos, or some of the run's calibration photos are among them.
    """
    of_the_run = run.config.get("data") == BUNDLED
    where = "the bundled photos" if data == BUNDLED else data
    different = [f"Trained on {where}, which are not the photos that the run was trained on."]
    if data == BUNDLED:
        return digest(BUNDLED), [] if of_the_run else different
    train = split_folder(data)["train"]
    name = digest(*(f"{path.relative_to(data).as_posix()} {path.stat().st_size}" for path in train))
    if of_the_run:
        return name, different
    split = run.split()
    exact = _among(train, split["train"])
    if len(train) == len(split["train"]) == len(exact):
        return name, []
    scored = [path for path in _among(train, split["calibration"]) if path not in exact]
    if scored:
        raise InputError(
            f"{data} would train on {len(scored)} of the photos that {run.path} is scored on, such as "
            f"{scored[0].name}: give the folder that the run was trained on, as it was then, or one "
            "without them."
        )
    return name, different


def _among(photos: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """The photos that are among other photos: the same file, or the same bytes."""
    by_size: dict[int, list[Path]] = {}
    for path in others:
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(path)

    def known_already(path: Path) -> bool:
        alike = by_size.get(path.stat().st_size, [])
        if any(path.resolve() == other.resolve() for other in alike):
            return True
        return any(path.read_bytes() == other.read_bytes() for other in alike)

    return [path for path in photos if known_already(path)]
