"""The plan of an evaluation. It is checked completely before anything is measured."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas.codec.codec import Codec
from nas.codec.folder import load_codec, read_description
from nas.codec.refining.effort import check_effort
from nas.comparison.evaluate import METRICS
from nas.comparison.formats import formats, require_format
from nas.comparison.published import is_published, read_published
from nas.metrics.curves import Curve
from nas.spaces.budget import SCOPES
from nas.spaces.rates import anchor_qualities
from nas.support.errors import InputError, nearest
from nas.support.files import refuse_existing, sibling_path


@dataclass(frozen=True)
class Subject:
    """A codec to measure, at one rate.

    Attributes:
        name: as short as tells it from the others; over a range of rates with the quality.
        codec: the name of the codec itself.
        quality: from 0 to 100, where the codec codes at a range of rates.
        kmac_px: by scope, at 768x512; stages and params likewise from codec.yaml.
        folder: folder of the codec.
        lmbda: lambda of the loss.
        metric: `mse` or `ms-ssim`.
    """

    name: str
    folder: Path
    lmbda: float
    metric: str
    kmac_px: dict[str, float]
    stages: int
    params: int
    codec: str
    quality: float | None = None

    @classmethod
    def of(cls, name: str, folder: Path) -> Subject:
        """A codec as its codec.yaml describes it.

        Args:
            name: name of the codec.
            folder: folder of the codec.

        Raises:
            InputError: codec.yaml lacks something, or has a metric that is unknown.
        """
        content = read_description(folder)
        try:
            facts = (
                float(content["lmbda"]),
                str(content["metric"]),
                {scope: float(content["kmac_px"][scope]) for scope in SCOPES},
                int(content["stages"]),
                int(content["params"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder}/codec.yaml lacks what an evaluation needs ({error}): export the codec again."
            ) from None
        if facts[1] not in METRICS:
            raise InputError(f"{folder}/codec.yaml has the metric '{facts[1]}': it must be mse or ms-ssim.")
        return cls(name, folder, *facts, codec=name)

    def at_rates(self, anchors: Sequence[float]) -> tuple[Subject, ...]:
        """The same at every anchor of a range of rates; as it is where there is none.

        Args:
            anchors: lambdas of the anchors, rising; empty for a codec of one rate.
        """
        return tuple(
            replace(self, name=f"{self.name} q{quality:g}", lmbda=lmbda, quality=quality)
            for quality, lmbda in anchor_qualities(anchors).items()
        ) or (self,)


@dataclass(frozen=True)
class Group:
    """Subjects that make one curve, by their names: codecs, or one codec at several rates.

    Attributes:
        name: name of the curve.
        codecs: names of the subjects.
    """

    name: str
    codecs: tuple[str, ...]


@dataclass(frozen=True)
class Outputs:
    """The output files: results, one row per photo, pictures, and curves of their own.

    Attributes:
        json: FILE.json.
        names: names of the curves with files of their own.
        whole_curve: all codecs are one curve, and FILE.json is it.
    """

    json: Path
    names: tuple[str, ...]
    whole_curve: bool = False

    @property
    def table(self) -> Path:
        """The table by photo."""
        return self.json.with_suffix(".csv")

    @property
    def pictures(self) -> tuple[Path, Path]:
        """The drawing of the curves, as PNG and as SVG."""
        return self.json.with_suffix(".png"), self.json.with_suffix(".svg")

    @property
    def kept(self) -> Path:
        """The results of an unfinished evaluation."""
        return sibling_path(self.json, ".", ".unfinished")

    def curve(self, name: str) -> Path:
        """A curve's own results.

        Args:
            name: name of the curve.
        """
        return sibling_path(self.json, "", f"-{_safe(name)}.json")

    def all(self) -> list[Path]:
        """All files that an evaluation writes."""
        return [self.json, self.table, *self.pictures, *map(self.curve, self.names)]


@dataclass(frozen=True)
class Plan:
    """The arguments of `nas evaluate`, resolved.

    Attributes:
        subjects: the codecs, in the order given; one over a range of rates at each of its anchors.
        codecs: that of each subject.
        groups: which of them make curves.
        formats: to compare with.
        published: curves from files.
        anchors: the names of those that BD-rates are against.
        outputs: None where nothing is written.
        effort: with which the codecs compress.
    """

    subjects: tuple[Subject, ...]
    codecs: tuple[Codec, ...]
    groups: tuple[Group, ...]
    formats: tuple[str, ...]
    published: tuple[Curve, ...]
    anchors: tuple[str, ...]
    outputs: Outputs | None
    effort: int = 0

    @classmethod
    def of(
        cls,
        folders: Sequence[str | Path],
        *,
        against: Sequence[str] = (),
        anchors: Sequence[str] = (),
        curves: Sequence[str] = (),
        out: Path | None = None,
        effort: int = 0,
        force: bool = False,
    ) -> Plan:
        """Check the arguments and make the plan.

        Args:
            folders: exported codecs.
            against: formats to compare with, among `formats()`.
            anchors: anchors of the BD-rates: a format (it is measured too), a curve of the codecs,
                FILE.json in CompressAI's format or FILE.csv:NAME. By default, every format of `against`.
            curves: `NAME=CODEC,CODEC,...`: which codecs make a curve. The others of one folder make one
                where they were trained for the same metric and each for another lambda. A codec over a
                range of rates makes a curve by itself.
            out: FILE.json, where results are written.
            effort: how long latents are refined for each photo, from 0 to 10.
            force: replace what is there.

        Raises:
            InputError: a codec, a format, a curve, an anchor or an output cannot be used.
        """
        check_effort(effort)
        if not folders:
            raise InputError("There is no codec to evaluate: give the folder of at least one.")
        if out is not None and out.suffix != ".json":
            raise InputError(f"{out} is not a name for the results: choose one that ends in .json.")
        subjects = [Subject.of(*pair) for pair in _named(folders)]
        codecs = [load_codec(subject.folder) for subject in subjects]
        for index, codec in enumerate(codecs):
            for earlier, other in zip(subjects, codecs[:index], strict=False):
                if other.fingerprint == codec.fingerprint:
                    raise InputError(
                        f"{subjects[index].folder} is a copy of the codec {earlier.folder}: name one of them."
                    )
        at_rates = [subject.at_rates(codec.rates) for subject, codec in zip(subjects, codecs, strict=True)]
        groups = list(_groups(at_rates, curves))
        if effort:  # the same without effort may be what they are compared with
            groups = [replace(group, name=f"{group.name} effort {effort}") for group in groups]
        codecs = [codec for codec, same in zip(codecs, at_rates, strict=True) for _ in same]
        subjects = [subject for same in at_rates for subject in same]
        asked = [require_format(name) for name in against]
        published, bases = [], []
        for anchor in dict.fromkeys(anchors):
            if any(group.name == anchor for group in groups):
                bases.append(anchor)
            elif is_published(anchor):
                published.append(read_published(anchor))
                bases.append(published[-1].name)
            elif anchor in formats():
                asked.append(anchor)
                bases.append(anchor)
            else:
                names = [*formats(), *(group.name for group in groups)]
                raise InputError(
                    f"There is no anchor '{anchor}': {nearest(anchor, names)} "
                    "Or give FILE.json in CompressAI's format, or FILE.csv:NAME."
                )
        asked = list(dict.fromkeys(asked))
        names = [group.name for group in groups] + asked
        _refuse_equal([*names, *(curve.name for curve in published)])
        outputs = None
        if out is not None:
            whole = len(groups) == 1 and len(groups[0].codecs) == len(subjects)
            outputs = Outputs(out, tuple(asked if whole else names), whole)
            for path in outputs.all():
                refuse_existing(path, force=force, what="results", folder=False)
        return cls(
            tuple(subjects),
            tuple(codecs),
            tuple(groups),
            tuple(asked),
            tuple(published),
            tuple(bases or asked),
            outputs,
            effort,
        )


def _refuse_equal(names: Sequence[str]) -> None:
    for name in names:
        same = [other for other in names if _safe(other) == _safe(name)]
        if len(same) > 1:
            raise InputError(
                f"Two curves would be called {name}: name codecs by --curve NAME=CODEC,CODEC,..., or "
                "change the name in a file of results."
            )


def _named(folders: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """Codecs with the ends of their paths that tell them apart.

    Raises:
        InputError: a folder is given twice.
    """
    paths = [Path(folder).resolve() for folder in folders]
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise InputError(f"The codec {twice[0]} is given twice: name it once.")
    return list(zip(_short(paths), map(Path, folders), strict=True))


def _short(paths: Sequence[Path]) -> list[str]:
    """As much of the ends of different paths as tells them apart."""
    names: list[str] = []
    for count in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = [str(Path(*path.parts[-count:])) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _groups(at_rates: Sequence[Sequence[Subject]], asked: Sequence[str]) -> Iterator[Group]:
    """The curves asked for, one for each folder whose codecs differ in lambda, and codecs of all rates.

    Raises:
        InputError: a curve cannot be what was asked for.
    """
    taken = set()
    subjects = [same[0] for same in at_rates if len(same) == 1]
    whole = {same[0].codec: same for same in at_rates if len(same) > 1}
    for text in asked:
        name, equals, rest = text.partition("=")
        words = [word.strip() for word in rest.split(",") if word.strip()]
        if not equals or not name.strip() or len(words) < 2:
            raise InputError(f"'{text}' is not a curve: write NAME=CODEC,CODEC,... with two codecs or more.")
        members = dict.fromkeys(_member(word, [same[0] for same in at_rates]) for word in words)
        for member in members:
            if member in whole:
                raise InputError(
                    f"The codec {member} codes at a range of rates and is a curve by itself: leave it out of "
                    f"--curve {name.strip()}."
                )
        taken |= set(members)
        yield Group(name.strip(), tuple(members))
    beside: dict[Path, list[Subject]] = defaultdict(list)
    for subject in subjects:
        if subject.name not in taken:
            beside[subject.folder.resolve().parent].append(subject)
    curves = {parent: neighbours for parent, neighbours in beside.items() if _is_curve(neighbours)}
    for name, neighbours in zip(_short(list(curves)), curves.values(), strict=True):
        yield Group(name, tuple(subject.name for subject in neighbours))
    for name, same in whole.items():
        yield Group(name, tuple(subject.name for subject in same))


def _is_curve(subjects: Sequence[Subject]) -> bool:
    alike = len({subject.metric for subject in subjects}) == 1
    return len(subjects) > 1 and alike and len({s.lmbda for s in subjects}) == len(subjects)


def _member(word: str, subjects: Sequence[Subject]) -> str:
    for subject in subjects:
        if word == subject.codec or Path(word).resolve() == subject.folder.resolve():
            return subject.codec
    names = [subject.codec for subject in subjects]
    raise InputError(f"There is no codec '{word}' among those given: {nearest(word, names)}")


def _safe(name: str) -> str:
    """A name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name)
