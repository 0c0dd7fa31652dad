"""A run: the folder in which one supernet is trained and searched."""

from __future__ import annotations

import importlib.metadata
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.photos.split import read_split
from nas.spaces.layout import Layout, read_layouts
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError
from nas.support.files import digest, is_writable, make_folder, write_yaml
from nas.support.paths import with_paths

if TYPE_CHECKING:
    import pandas as pd

FIRST_SCORED = 30  # number of architectures of another front that a search scores first
CALIBRATION_PHOTOS, HELD_OUT_PHOTOS = 24, 24  # largest numbers of photos for scores and for real files
LIMITED = " with "  # in search/targets.yaml, separates the quantity of the targets from further limits
FRONT_COLUMNS = (
    "arch",
    "encoder_kmac_px",
    "decoder_kmac_px",
    "total_kmac_px",
    "stages",
    "params",
    "bpp",
    "psnr",
    "rd_loss",
    "bd_rate",
    "lmbda",
    "metric",
    "on_front_encoder",
    "on_front_decoder",
    "on_front_total",
    "test_bpp",
    "test_psnr",
    "test_rd_loss",
)
PACKAGES = ("torch", "compressai", "numpy", "optuna", "constriction", "fvcore", "lightning-fabric")


@dataclass(frozen=True)
class Run:
    """The paths and contents of a run's folder.

    Attributes:
        path: the folder.
        read_only: whether nothing may be stored in the folder, even if the system allows it.

    Raises:
        InputError: the folder is not a run, or something in it is missing or damaged.
    """

    path: Path
    read_only: bool = False

    @classmethod
    def create(cls, path: Path, space: SearchSpace, training: Mapping[str, Any]) -> Run:
        """Make a new run: its folder, and config.yaml with the training settings.

        Args:
            path: folder of the run.
            space: the search space.
            training: settings of the training by name, among them `seed`.
        """
        make_folder(path)
        run = cls(path)
        versions = {package: importlib.metadata.version(package) for package in PACKAGES}
        config = {
            "format": "nas-run 1",
            "name": space.name,
            "space": space.to_dict(),
            "training": dict(training),
            "seed": training["seed"],
            "versions": {"nas-codec": importlib.metadata.version("nas-codec"), **versions},
        }
        write_yaml(run.config_path, config)
        return run

    @classmethod
    @with_paths
    def open(cls, path: str | Path, *, read_only: bool = False) -> Run:
        """Open an existing run.

        Args:
            path: folder of the run.
            read_only: whether nothing may be written into the folder.

        Raises:
            InputError: the folder is not a run, or its format is unknown.
        """
        run = cls(Path(path), read_only)
        if not run.config_path.is_file():
            if (run.path / "codec.yaml").is_file():
                raise InputError(f"{path} is not a run but a codec: give the run that it was exported from.")
            why = "it has no config.yaml" if run.path.is_dir() else "there is no such folder"
            raise InputError(
                f"{path} is not a run: {why}. `nas train`, `nas demo` and `nas search zoo:patch` make runs."
            )
        if run.config.get("format") != "nas-run 1":
            raise InputError(
                f"Another version of this toolkit wrote {run.config_path}, and this one cannot read it: "
                "install the version that the file names."
            )
        return run

    @property
    def config_path(self) -> Path:
        """The file with the resolved space, the settings, the seed and the versions."""
        return self.path / "config.yaml"

    @property
    def weights_path(self) -> Path:
        """The file with the trained supernet's weights."""
        return self.path / "supernet.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        """The file with the state of an unfinished training, for `--resume`."""
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def metrics_path(self) -> Path:
        """The file with the metrics of training, one row for each checkpoint."""
        return self.path / "metrics.csv"

    @property
    def learning_path(self) -> Path:
        """The picture of the training's progress."""
        return self.path / "learning.png"

    @property
    def preview_path(self) -> Path:
        """The picture of a photo that the supernet has decoded."""
        return self.path / "preview.png"

    @property
    def structure_path(self) -> Path:
        """The file with the width logits that were learned with the weights."""
        return self.path / "structure.yaml"

    @property
    def split_path(self) -> Path:
        """The file with each photo's part of the split."""
        return self.path / "split.csv"

    @property
    def learned_layout_path(self) -> Path:
        """The file with the layout that was learned with the weights."""
        return self.path / "layout.yaml"

    @property
    def search_path(self) -> Path:
        """The folder of everything that searches store."""
        return self.path / "search"

    @property
    def layouts_path(self) -> Path:
        """The file with the layouts that were found, and their rates."""
        return self.search_path / "layouts.yaml"

    @property
    def costs_path(self) -> Path:
        """The file with the measured costs of the space."""
        return self.search_path / "costs.npz"

    @property
    def profile_path(self) -> Path:
        """The folder of profiles, one for each machine and picture size."""
        return self.path / "profile"

    @property
    def scores_path(self) -> Path:
        """The file with all scores."""
        return self.search_path / "scores.csv"

    @property
    def tested_path(self) -> Path:
        """The file with results of exported codecs on held-out photos."""
        return self.search_path / "tested.csv"

    @property
    def targets_path(self) -> Path:
        """The file with the targets of the last search, by quantity."""
        return self.search_path / "targets.yaml"

    @property
    def first_path(self) -> Path:
        """The file with architectures to score first, because they were best elsewhere."""
        return self.search_path / "first.yaml"

    @property
    def front_path(self) -> Path:
        """The file with the architectures on a front."""
        return self.path / "front.csv"

    @property
    def codecs_path(self) -> Path:
        """The folder of codecs that `nas demo` exports."""
        return self.path / "codecs"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of config.yaml."""
        return resources.read_yaml(self.config_path)

    @cached_property
    def trained_space(self) -> SearchSpace:
        """The space in which the supernet was trained.

        Raises:
            InputError: config.yaml is damaged, or its space is not valid.
        """
        try:
            fields, name = self.config["space"], self.config["name"]
        except KeyError as error:
            raise InputError(f"{self.config_path} lacks `{error.args[0]}`: restore the file.") from None
        if not isinstance(fields, dict):
            raise InputError(f"The `space` in {self.config_path} is not a search space: restore the file.")
        return SearchSpace.from_dict(fields, name=name, source=str(self.config_path))

    @property
    def space(self) -> SearchSpace:
        """The space, with the layouts that were found for this run and that it did not have."""
        if not self.layouts_path.is_file():
            return self.trained_space
        layouts = dict(self.trained_space.layouts)
        reduced = {layout.reduced() for layout in layouts.values()}
        content = resources.read_yaml(self.layouts_path)
        for layout in read_layouts(self.layouts_path, content.get("layouts")):
            if layout not in reduced:  # one order of decoding has one name
                reduced.add(layout)
                layouts[layout.name] = layout
        return self.trained_space.with_layouts(layouts)

    def learned_layouts(self) -> list[Layout]:
        """The layouts that were learned with the weights."""
        path = self.learned_layout_path
        return read_layouts(path, resources.read_yaml(path).get("layouts")) if path.is_file() else []

    def noted(self, name: str) -> dict[str, Any]:
        """A mapping of notes in config.yaml. Empty if there is none."""
        facts = self.config.get(name)
        return facts if isinstance(facts, dict) else {}

    @property
    def is_writable(self) -> bool:
        """Whether results can be stored here. If not, they can still be printed, or exported elsewhere."""
        if self.read_only:
            return False
        return all(is_writable(folder) for folder in (self.path, self.search_path) if folder.is_dir())

    def refuse_read_only(self) -> None:
        """Raise InputError if nothing can be stored here."""
        if self.read_only:
            raise InputError(
                f"{self.of_zoo} belongs to the package, so it stays as it is: {self.how_to_copy}, and use "
                "the copy."
            )
        if not self.is_writable:
            raise InputError(f"{self.path} is read-only here: copy it, and use the copy.")

    @property
    def of_zoo(self) -> str:
        """The name `zoo:NAME` of a run that belongs to the package."""
        return f"{resources.ZOO}{self.path.name}"

    @property
    def how_to_copy(self) -> str:
        """How to make a copy of a run that belongs to the package."""
        return f"make a copy of it with `nas search {self.of_zoo} --out RUN`"

    @property
    def typed(self) -> str:
        """The run's name in commands that only read it."""
        return self.of_zoo if self.read_only else shlex.quote(str(self.path))

    def how_to_run(self, verb: str, options: str = "") -> str:
        """How to run a command that stores something in the run. For a run of the package, in a copy of it.

        Args:
            verb: the command.
            options: its options, with a space before them.
        """
        if self.read_only:
            return f"{self.how_to_copy}, then run `nas {verb} RUN{options}`, and give RUN instead"
        return f"run `nas {verb} {self.typed}{options}`"

    @property
    def trained_weights(self) -> Path:
        """The file with the trained weights. InputError if it does not exist yet."""
        if not self.weights_path.is_file():
            raise InputError(
                f"{self.path} has no trained supernet yet: finish its training with `nas train --out "
                f"{self.path} --resume`."
            )
        return self.weights_path

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the trained weights."""
        return digest(self.trained_weights.read_bytes())

    @property
    def data(self) -> str:
        """The `--data` of the training."""
        return str(self.config.get("data", ""))

    def split(self) -> dict[str, list[Path]]:
        """The photos of each part of the split."""
        return read_split(self.split_path)

    def begin_with(self, keys: Sequence[str]) -> None:
        """Make searches score these architectures first, or some of them at even distances.

        Args:
            keys: keys of architectures.
        """
        make_folder(self.search_path)
        write_yaml(self.first_path, {"arch": list(keys[:: max(1, -(-len(keys) // FIRST_SCORED))])})

    @property
    def how_to_renew_front(self) -> str:
        """What to do about a damaged front.csv."""
        return f"to renew it, {self.how_to_run('pareto')}"

    def front(self) -> pd.DataFrame:
        """front.csv as a table. InputError if it is missing or damaged."""
        import pandas as pd

        if not self.front_path.is_file():
            raise InputError(f"{self.path} has no front yet: {self.how_to_run('search')} first.")
        renew = f"{self.how_to_renew_front}."
        try:
            table = pd.read_csv(self.front_path)
            finite = table["rd_loss"].astype(float).abs() < float("inf")
        except (OSError, ValueError, KeyError, OverflowError) as error:
            raise InputError(f"{self.front_path} is damaged: {renew}") from error
        if "bd_rate" not in table:  # an earlier version wrote it, without ranges of rates
            table.insert(min(FRONT_COLUMNS.index("bd_rate"), table.shape[1]), "bd_rate", float("nan"))
        for column in FRONT_COLUMNS:
            if column not in table or not _is_of_a_front(table[column]):
                raise InputError(f"{self.front_path} lacks or has damaged values of `{column}`: {renew}")
        return table[finite].reset_index(drop=True)


def _is_of_a_front(column: pd.Series) -> bool:
    """Whether a column of front.csv has valid content: names, switches, or numbers and gaps."""
    if str(column.name).startswith("on_front"):
        return not set(column) - {True, False}
    if column.name in ("arch", "metric"):
        return all(isinstance(value, str) for value in column)
    return column.empty or column.dtype.kind in "iuf"
