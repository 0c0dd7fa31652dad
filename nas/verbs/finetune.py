"""`nas finetune`: trains an exported codec further, from the weights of the supernet to weights of its own.

No run is needed. The codec's folder describes it, and a space with one architecture is trained from its
layers, at its own lambda and metric. There are three ways:

- everything, which gives the best result at these MACs, and a codec with another identity;
- g_s alone, which keeps everything that a file depends on bit-exact: older files decode with the new codec,
  into better pictures;
- the entropy path alone, which is everything except g_a and g_s: the same pictures from smaller files, with
  another identity.

Of a family, the base codec is trained under all its layouts, and then every g_s for the new encoder,
including its own. With `only`, one of these two parts is done. Each training is a run in OUT/training. After
an interruption, the same request continues it. When the codec is written, files that only serve to resume are
removed.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.codec.codec import Codec
from nas.codec.family import CodecFamily
from nas.codec.folder import DESCRIPTION, KEPT_FACTS, WEIGHTS, load_family, read_description, save_family
from nas.codec.standalone import MODEL
from nas.comparison.evaluate_family import FamilyResult, measure_family
from nas.graph.network import CodecNetwork
from nas.photos.split import photos_of, split_of
from nas.run import HELD_OUT_PHOTOS, Run
from nas.spaces.budget import SCOPES
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError, InputWarning
from nas.support.files import clear, refuse_existing, refuse_over_input
from nas.support.limits import check_settings
from nas.support.paths import with_paths
from nas.support.progress import StageReport, silent
from nas.support.tables import TitledTable, signed
from nas.training.expected import seconds_at_cost, warning_of
from nas.training.loop import Progress
from nas.training.settings import ALONE, TrainingSettings, settings_of
from nas.training.start import TrainingRequest, check_training, train_or_resume
from nas.verbs.export import make_codec
from nas.weights.checkpoint import supernet_of

TUNED_ALONE = ("g_s", "entropy")
# Settings that a recipe for a supernet from scratch does not have. Its learning rate is suitable: on a small
# codec, a third of it gained less, also after 1500 steps (docs/finetune.md).
FINETUNING_STEPS, WARMUP = 2000, 50
_FIXED_SETTINGS = {**ALONE, "random_layouts": 0.0}
_OF_THE_CODEC = ("lmbda", "metric")


@dataclass(frozen=True)
class FinetuneRequest:
    """A request to fine-tune a codec.

    Attributes:
        codec: folder of the exported codec.
        data: a folder of photos, or `bundled`, which is split as for `nas train`.
        out: folder of the new codec.
        only: the part to train: `g_s`, or `entropy` for everything but g_a and g_s. None for everything.
        steps: training steps in each training. None for `FINETUNING_STEPS`.
        settings: training settings by name. `recipe` sets everything but steps and warm-up.
        seed: seed for all random choices.
        device: where to compute: `auto`, `cpu` or `cuda`.
        force: replace an existing folder. An interrupted attempt of the same request continues in any case.
    """

    codec: Path
    data: str
    out: Path
    only: str | None = None
    steps: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    force: bool = False


@dataclass(frozen=True)
class Finetuned:
    """A codec before and after fine-tuning, measured with real files on the same held-out photos.

    Attributes:
        path: folder of the new codec.
        content: content of its codec.yaml.
        source: folder of the codec before.
        identity: identity of the entropy path before.
        before: measurements of the codec before.
        after: measurements of the new codec.
    """

    path: Path
    content: dict[str, Any]
    source: Path
    identity: str
    before: FamilyResult
    after: FamilyResult

    def tables(self) -> list[TitledTable]:
        """The gains by decoder, and by layout if there are several: title, columns and rows."""
        photos = self.content["measured"]["photos"]
        counted = f"{photos} held-out photo{'s' * (photos != 1)}"
        title = f"{counted}, as files, before and after; costs in kMAC/px, as they were"
        pairs = list(zip(self._costs(), self.before.decoders, self.after.decoders, strict=True))
        rows = [{**costs, **_compared(before, after)} for costs, before, after in pairs]
        titled_tables: list[TitledTable] = [(title, list(rows[0]), [list(row.values()) for row in rows])]
        layouts = self.before.layouts
        if len(layouts) > 1:
            columns = ["layout", "bpp before", "bpp after", "rate %"]
            bpps = [(name, bpp, self.after.layouts[name]) for name, bpp in layouts.items()]
            lines = [[name, old, new, _percent(old, new)] for name, old, new in bpps]
            titled_tables.append(("files by layout", columns, lines))
        return titled_tables

    def _costs(self) -> list[dict[str, float]]:
        """The costs of each decoder's codec, by scope."""
        entries = self.content.get("decoders", [self.content])
        return [{scope: float(entry["kmac_px"][scope]) for scope in SCOPES} for entry in entries]

    def sentences(self) -> list[str]:
        """Sentences on what the new codec means for existing files, and whether it was worth it."""
        identity = self.content["entropy_path"]
        if identity == self.identity:
            files = (
                f"The entropy path is the same ({identity}): files that {self.source} made decode with both."
            )
        else:
            files = (
                f"The entropy path is another one ({self.identity} before, now {identity}): files that "
                f"{self.source} made decode with {self.source} alone."
            )
        sentences = [files]
        if identity != self.identity and "exact_costs" in self.content:
            sentences.append(
                f"It is exact on every machine, for {signed(self.content['exact_costs'], '.2%')} in rate."
            )
        if self.content["finetuned"]["rd_loss_change"] > 0:
            sentences.append(
                f"The loss on held-out photos rose: keep {self.source}, or train longer, on more photos or "
                "with a lower learning rate."
            )
        return sentences

    def to_json(self) -> dict[str, Any]:
        """The content of codec.yaml, and the path."""
        return {"codec": str(self.path), **self.content}


def _compared(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {
        "bpp before": before["bpp"],
        "bpp after": after["bpp"],
        "PSNR before": before["psnr"],
        "PSNR after": after["psnr"],
        "rd_loss before": before["rd_loss"],
        "rd_loss after": after["rd_loss"],
        "rate %": _percent(before["bpp"], after["bpp"]),
        "loss %": _percent(before["rd_loss"], after["rd_loss"]),
    }


def _percent(before: float, after: float) -> float:
    return 100 * (after / before - 1)


@with_paths
def finetune(
    codec: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    only: str | None = None,
    steps: int | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
) -> Finetuned:
    """Train an exported codec further, alone, and measure what that gains at the same MACs.

    Args:
        codec: folder of the exported codec.
        data: a folder of photos, or `bundled`. It is split as for `nas train`.
        out: folder of the new codec.
        only: part to train: `g_s`, or `entropy` for everything but g_a and g_s. By default everything.
        steps: training steps of each training (default 2000).
        settings: training settings by name. `lmbda` and `metric` are those of the codec.
        seed: seed for all random choices.
        device: where to compute: `auto`, `cpu` or `cuda`.
        force: replace an existing folder.
        report: called as the work goes on.

    Returns:
        A `Finetuned` with both codecs' measurements on the same held-out photos, with real files.

    Raises:
        InputError: the request cannot be met. Nothing is written then.
        KeyboardInterrupt: what was trained is kept; the same call continues.

    Example:
        >>> done = nas.finetune("codecs/a", "bundled", "codecs/tuned", only="g_s", steps=2)
        >>> done.path.name
        'tuned'
    """
    request = FinetuneRequest(
        Path(codec), str(data), Path(out), only, steps, check_settings(settings), seed, device, force
    )
    return finetune_codec(request, report)


def finetune_codec(request: FinetuneRequest, report: StageReport = silent) -> Finetuned:
    """Train an exported codec further, and write the resulting codec.

    Args:
        request: the codec, the photos and the settings.
        report: called as the work goes on.

    Raises:
        InputError: the request cannot be met. Raised before anything is written.
    """
    return _Finetuning(request).run(report)


class _Finetuning:
    """One fine-tuning. The constructor refuses a wrong request before anything is written."""

    def __init__(self, request: FinetuneRequest) -> None:
        self.request = request
        if request.only not in (None, *TUNED_ALONE):
            raise InputError(
                f"'{request.only}' cannot be trained alone: use --only g_s or --only entropy, or "
                "leave it out."
            )
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise InputError("A codec is fine-tuned by one process: start it without torchrun.")
        self.content = read_description(request.codec)
        missing = [name for name in _OF_THE_CODEC if name not in self.content]
        missing += ["kmac_px.total"] if "total" not in self.content.get("kmac_px", {}) else []
        if missing:
            raise InputError(f"{request.codec / DESCRIPTION} has no `{missing[0]}`: export the codec again.")
        self.family = load_family(request.codec)
        self.family.codec()  # refuses a machine that computes other numbers
        self.of_base = self._settings("entropy" if request.only == "entropy" else None)
        self.of_g_s = self._settings("g_s")
        self.split = split_of(request.data)
        refuse_over_input(request.out, request.codec, request.data)
        self.folder = request.out / "training"
        self._replaced = self._compare()

    def _settings(self, only: str | None) -> TrainingSettings:
        """Settings for a space with one architecture, at the codec's own lambda and metric."""
        request = self.request
        for name in request.settings:
            if name in _OF_THE_CODEC:
                raise InputError(f"{name} cannot be set here, because a codec keeps its own: leave it out.")
            if name in _FIXED_SETTINGS:
                raise InputError(
                    f"{name} cannot be set here, because a codec is one architecture: leave it out."
                )
            if name == "only":
                raise InputError(f"Write --only {request.settings[name]} instead of --set only.")
        own = {name: self.content[name] for name in _OF_THE_CODEC}
        always = {**_FIXED_SETTINGS, **own, "only": only}
        given = {"seed": request.seed, "warmup": WARMUP, "steps": FINETUNING_STEPS, **request.settings}
        given |= {} if request.steps is None else {"steps": request.steps}
        return TrainingSettings.make({**given, **always})

    # The trainings, in order

    def _place(self, decoder: int) -> Path:
        """The folder in which the g_s of one decoder is trained alone."""
        return self.folder / ("g_s" if len(self.family.decoders) == 1 else f"g_s-{decoder}")

    @property
    def _place_of_base(self) -> Path:
        """The folder in which the base codec, or its entropy path, is trained."""
        return self.folder / ("all" if self.request.only is None else self.request.only)

    @property
    def _places(self) -> dict[Path, TrainingSettings]:
        decoders = range(len(self.family.decoders))
        if self.request.only == "entropy":
            return {self._place_of_base: self.of_base}
        if self.request.only == "g_s":
            return {self._place(decoder): self.of_g_s for decoder in decoders}
        alone = decoders if len(decoders) > 1 else ()
        return {self._place_of_base: self.of_base, **{self._place(each): self.of_g_s for each in alone}}

    @property
    def _notes(self) -> dict[str, Any]:
        """Notes in a training's config.yaml on its origin."""
        decoders = [entry["weights"] for entry in self.content.get("decoders", [])]
        only = self.request.only  # the g_s of a family are trained for the old encoder or for a new one
        return {"finetune": {"codec": self.family.base.fingerprint, "decoders": decoders, "only": only}}

    def _compare(self) -> list[Path]:
        """The trainings of other requests in OUT, which this one replaces.

        Raises:
            InputError: something there must not be replaced.
        """
        request = self.request
        runs = [Run.open(path.parent) for path in sorted(self.folder.glob("*/config.yaml"))]
        others = [run.path for run in runs if not self._is_same(run)]
        if not runs or (request.out / DESCRIPTION).is_file():
            refuse_existing(request.out, force=request.force, what="codec")
            return others
        own_paths = {self.folder, *(run.path for run in runs if isinstance(run.config.get("finetune"), dict))}
        foreign = [
            path
            for path in sorted([*request.out.iterdir(), *self.folder.iterdir()])
            if path not in own_paths and path.name not in (WEIGHTS, MODEL) and not path.name.startswith(".")
        ]
        if foreign:
            raise InputError(
                f"{foreign[0]} does not belong to a fine-tuning: move it away, or choose another place."
            )
        if others and not request.force:
            raise InputError(
                f"{request.out} holds an unfinished fine-tuning of another codec, on other photos or with "
                "other settings: give the same ones to continue it, or add --force to replace it."
            )
        return others

    def _is_same(self, run: Run) -> bool:
        wanted, noted = self._notes["finetune"], run.config.get("finetune")
        return (
            run.path in self._places
            and settings_of(run) == self._places[run.path]
            and isinstance(noted, dict)
            and {"only": wanted["only"], **noted} == wanted  # earlier versions do not have this note
            and run.split_path.is_file()
            and run.split() == self.split
        )

    def run(self, report: StageReport) -> Finetuned:
        """Train, measure both codecs, and write the new one."""
        if self._replaced:
            self._check_trainings()
        for path in self._replaced:
            clear(path)
        self._warn()
        family, facts = self._trained(report)
        photos = photos_of(Run.open(next(iter(self._places))), "held-out", HELD_OUT_PHOTOS)

        def measured(family: CodecFamily, when: str) -> FamilyResult:
            return measure_family(
                family,
                photos,
                self.of_base.objective,
                report=lambda done, total, note: report(f"measuring {when}", done, total, note),
            )

        before, after = measured(self.family, "before"), measured(family, "after")
        facts["measured"] = {"split": "held-out", "photos": len(photos), **after.decoders[family.default]}
        content = self._write(family, before, after, facts)
        request = self.request
        return Finetuned(request.out, content, request.codec, self.family.base.path_identity, before, after)

    def _check_trainings(self) -> None:
        """Raise InputError if a training that is still to do would be refused: before others are removed."""
        base = self.family.base.network
        for folder in self._places:
            if folder in self._replaced or not folder.exists():
                check_training(replace(self._request(folder, base.space, base), force=True))

    def _warn(self) -> None:
        """Warn if all trainings together take more than a day."""
        places, settings = len(self._places), self.of_base
        kmac_px = places * float(self.content["kmac_px"]["total"])
        seconds = seconds_at_cost(kmac_px, settings, self.request.device)
        what = f"{places} training{'s' * (places != 1)} of {settings.steps:,} steps"
        if long := warning_of("fine-tuning", seconds, what, "or fewer --steps"):
            warnings.warn(long, InputWarning, stacklevel=4)

    def _trained(self, report: StageReport) -> tuple[CodecFamily, dict[str, Any]]:
        """The family after all trainings, and the cost of its exact entropy path, if it is known."""
        before = self.family.base
        if self.request.only == "g_s":
            base = copy.deepcopy(before)
            facts = {name: self.content[name] for name in ("exact_costs",) if name in self.content}
        else:
            base, facts = self._of_base(report)
        members = []
        for index, member in enumerate(self.family.decoders):
            own = base.network.g_s if index == self.family.default else copy.deepcopy(member.g_s)
            members.append(replace(member, g_s=own))
        family = CodecFamily(base, self.family.layouts, members, self.family.layout_facts)
        for index, member in enumerate(members):
            if self._place(index) in self._places:
                codec = family.codec(decoder=index)
                run = self._train(self._place(index), member.space, codec.network, report)
                member.g_s.load_state_dict(supernet_of(run).extract(member.architecture).g_s.state_dict())
                codec.update()
        return family, facts

    def _of_base(self, report: StageReport) -> tuple[Codec, dict[str, Any]]:
        """Train the base codec, or its entropy path, under every layout of the family."""
        before, layouts = self.family.base, self.family.layouts
        space = replace(before.network.space, layouts=layouts)
        run = self._train(self._place_of_base, space, before.network, report)
        arithmetic = "float64" if before.integers is None else "exact"
        made = make_codec(run, before.architecture, arithmetic, list(layouts.values()))
        if self.request.only == "entropy":  # bit-exact: a supernet's GDN rounds differently
            for name in ("g_a", "g_s"):
                weights = getattr(before.network, name).state_dict()
                getattr(made.codec.network, name).load_state_dict(weights)
        return made.codec, {} if made.cost is None else {"exact_costs": round(made.cost, 6)}

    def _train(self, folder: Path, space: SearchSpace, network: CodecNetwork, report: StageReport) -> Run:
        """Run one training that starts from a network's layers."""
        places = list(self._places)
        number = f" {places.index(folder) + 1} of {len(places)}" if len(places) > 1 else ""

        def show(progress: Progress) -> None:
            note = f"loss {progress.loss:.3f}  {progress.bpp:.3f} bpp"
            report(f"training{number}", progress.step, progress.steps, note)

        return train_or_resume(self._request(folder, space, network), show)

    def _request(self, folder: Path, space: SearchSpace, network: CodecNetwork) -> TrainingRequest:
        """The training in a folder, from a network's layers."""
        return TrainingRequest(
            space=space,
            data=self.request.data,
            out=folder,
            settings=self._places[folder].model_dump(),
            init_from=network,
            device=self.request.device,
            notes=self._notes,
        )

    # Output

    def _write(
        self, family: CodecFamily, before: FamilyResult, after: FamilyResult, facts: dict[str, Any]
    ) -> dict[str, Any]:
        out, training = self.request.out, self.of_base

        def gained(index: int) -> dict[str, Any]:
            old, new = before.decoders[index], after.decoders[index]
            return {"before": dict(old), "rd_loss_change": round(new["rd_loss"] / old["rd_loss"] - 1, 6)}

        finetuned = {
            "from": self.family.base.fingerprint,
            "only": self.request.only,
            "steps": training.steps,
            "learning_rate": training.learning_rate,
            "seed": training.seed,
            "photos": len(self.split["train"]),
            **gained(family.default),
        }
        noted = after.noted_in(family)
        members = [
            replace(member, facts={**member.facts, "finetuned": gained(index)})
            for index, member in enumerate(noted.decoders)
        ]
        content = {
            **{name: self.content[name] for name in KEPT_FACTS if name in self.content},
            **facts,
            "finetuned": finetuned,
        }
        for other in out.iterdir():
            if other != self.folder:
                clear(other)
        written = save_family(
            CodecFamily(noted.base, noted.layouts, members, noted.layout_facts), out, content
        )
        self._tidy()
        return written

    def _tidy(self) -> None:
        """Remove everything except the record of the training."""
        for folder in self.folder.iterdir():
            run = Run(folder)
            if folder in self._places:
                for path in (run.checkpoint_path.parent, run.weights_path, run.search_path):
                    clear(path)
            else:
                clear(folder)
