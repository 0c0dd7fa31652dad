"""Information on a run, and on the supernets that the package carries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.report.info.codecs import rate_fields
from nas.report.info.info import Info
from nas.report.structure.layout_text import stages_text
from nas.shipped import zoo_names, zoo_run
from nas.spaces.rates import range_text
from nas.support.paths import as_typed
from nas.support.resources import ZOO
from nas.support.tables import read_rows

if TYPE_CHECKING:
    from nas.run import Run


def run_info(run: Run) -> Info:
    """Describe a run's folder."""
    training, space = run.noted("training"), run.space
    trained = run.config.get(
        "trained"
    )  # for zoo supernets over all phases; settings and split are only those of the last phase
    steps, photos = training.get("steps"), _photos_by_part(run)
    if trained is not None:
        photos.pop("train", None)
    fields = {
        "path": str(run.path),
        "space": run.config.get("name"),
        "architectures": space.size,
        "layouts": {name: stages_text(space.layouts[name]) for name in space.layout_names},
        "lmbda": training.get("lmbda"),
        **rate_fields(space),
        "metric": training.get("metric"),
        **({"steps": steps} if trained is None else {"trained": trained, "steps_of_the_last_phase": steps}),
        "reaches": run.config.get("reaches"),
        "seed": run.config.get("seed"),
        "data": photos,
        "fingerprint": run.fingerprint if run.weights_path.is_file() else None,
        "state": _state(run),
        "scored": _csv_rows(run.search_path / "scores.csv"),
        "front": _csv_rows(run.path / "front.csv"),
        "profiles": sorted(file.parent.name for file in run.profile_path.glob("*/measured.yaml")),
        "codecs": sorted(file.parent.name for file in run.codecs_path.glob("*/codec.yaml")),
        "versions": run.noted("versions"),
    }
    return Info("run", fields)


def zoo_info() -> Info:
    """List the supernets that the package carries."""
    runs = {f"{ZOO}{name}": zoo_run(f"{ZOO}{name}") for name in zoo_names()}
    supernets = {name: _in_the_zoo(run) for name, run in runs.items()}
    first = next((name for name, run in runs.items() if run.space.rates), next(iter(runs)))
    fields = {
        "supernets": supernets,
        "more": f"nas info {ZOO}NAME",
        "use": f"nas search {first} --target 60%",
    }
    return Info("zoo", fields)


def _in_the_zoo(run: Run) -> dict[str, str]:
    """The rates and budgets of a zoo supernet, and the quality that it reaches."""
    rates = run.space.rates or (float(run.config["training"]["lmbda"]),)
    costs = [float(row["decoder_kmac_px"]) for row in read_rows(run.front_path)]
    told = {
        "lambda": range_text(rates),
        "decoder": f"{min(costs):.2f} to {max(costs):.2f} kMAC/px on its front",
        "reaches": str(run.config.get("reaches", "")),
        "size": f"{run.weights_path.stat().st_size / 1e6:.1f} MB",
    }
    return {name: text for name, text in told.items() if text}


def _state(run: Run) -> str:
    if not run.weights_path.is_file():
        hint = (
            f"nas train --out {as_typed(run.path)} --resume" if run.checkpoint_path.is_file() else "nas train"
        )
        return f"not trained yet (go on with: {hint})"
    return "trained and searched" if (run.path / "front.csv").is_file() else "trained"


def _photos_by_part(run: Run) -> dict[str, int]:
    """Number of photos in each part of the split."""
    counts: dict[str, int] = {}
    if run.split_path.is_file():
        for row in read_rows(run.split_path):
            part = str(row.get("split"))
            counts[part] = counts.get(part, 0) + 1
    return counts


def _csv_rows(path: Path) -> int:
    """Number of rows of a CSV file, without its heading."""
    return len(read_rows(path)) if path.is_file() else 0
