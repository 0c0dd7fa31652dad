"""`nas search`: finds the best architectures of a run under a budget, and its front."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nas.profiling.possible import Possible
from nas.profiling.quantities import Quantities, costs_of
from nas.run import Run
from nas.shipped import copied, copy_at, in_zoo
from nas.spaces.budget import Budget, Limits
from nas.support.errors import InputError
from nas.support.files import refuse_existing, refuse_over_input, write_yaml
from nas.support.limits import check_count, check_seed
from nas.support.paths import with_paths
from nas.support.progress import StageReport, silent
from nas.support.resources import ZOO
from nas.verbs.runs import opened

if TYPE_CHECKING:
    from nas.searching.searcher import SearchResult

TRIALS = 100  # default number of trials


@with_paths
def search(
    run: Run | str | Path,
    budget: Budget | str | float | Path | None = None,
    *,
    target: str | float | None = None,
    scope: str | None = None,
    limits: Limits = (),
    trials: int | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    storage: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    report: StageReport = silent,
    announce: Callable[[Possible], None] = silent,
) -> SearchResult:
    """Score architectures of a run, answer a budget's targets, and write front.csv again.

    Args:
        run: a trained run, its folder, or `zoo:NAME`.
        budget: a Budget, a shipped one's name, a YAML file, a target such as "60%", or None for the whole
            range.
        target: instead of a budget, the largest cost of the codec: 20 (kMAC per pixel), 60% (of the widest
            architecture), '4 stages', '5M parameters' or, after `nas profile`, 30ms.
        scope: whose cost the target limits: `encoder`, `decoder` or `total` (the default).
        limits: further limits, beside the target or those of the budget: "stages <= 4", or a list of such.
        trials: number of architectures to score, beyond those that are scored already. 0 scores none. By
            default 100, and for `zoo:NAME` only those near the target.
        data: folder of your own photos to score on. It needs `out`.
        out: folder for a copy of the run, which is then searched. By default the run itself is searched, and
            for `zoo:NAME` the copy is the folder NAME.
        storage: Optuna storage that several machines share. By default it is a journal in the run.
        seed: seed for all random choices.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        force: replace an existing folder `out`.
        report: called with a stage's name, the work done, the total work and a note.
        announce: called before anything is scored, with the costs that the space can reach.

    Returns:
        A `SearchResult`. `choices` are the answers to the targets, `scored` and `front` are tables, and
        `ranges` are the reachable costs by scope, in kMAC per pixel.

    Raises:
        InputError: the budget is wrong, or no architecture can meet it. Nothing is written then.
        KeyboardInterrupt: every score is kept. The same call continues.

    Example:
        >>> result = nas.search("runs/a", target="60%", trials=0)
        >>> len(result.choices)
        1
    """
    from_zoo = not isinstance(run, Run) and in_zoo(run)
    if not from_zoo and (data is None) != (out is None):
        raise InputError("--data and --out go together: a search on other photos gets a run of its own.")
    if data is not None:
        from nas.photos.images import list_images

        list_images(data)  # or refused, before anything is computed
    asked = Budget.asked(budget, target, scope, limits)
    searched = opened(run)
    _ = searched.trained_weights  # refuses a run without weights
    quantities = Quantities(searched, costs_of(searched), device)
    question = quantities.question(asked)  # refuses an impossible budget before slow imports
    possible = Possible.of(quantities, question)
    where = None if storage is None else str(storage)
    if trials is None and not (from_zoo and data is None):
        trials = TRIALS
    check_seed(seed)  # or refused, before anything is made
    check_count(0 if trials is None else trials, "trials")
    from nas.searching.searcher import Searcher
    from nas.support.device import choose

    choose(device)
    own = searched_at(run, out)
    if data is not None:
        refuse_copy(searched, data, own, force=force)
    elif out is not None or from_zoo:
        copy_at(searched, own, force=force)
    else:
        searched.refuse_read_only()
    announce(possible)
    searcher, split = None, {}
    if data is not None:
        split = split_on_photos(searched, data)
    elif out is None and not from_zoo:
        searcher = Searcher(searched, device=device, quantities=quantities)  # reads all that a search needs
    with contextlib.ExitStack() as stack:
        opened_storage = None  # opening makes a new storage, so all else was checked before
        if where is not None:
            from nas.searching.study.storage import close_storage, open_storage

            opened_storage = open_storage(where)  # refuses a bad storage before a copy is made
            stack.callback(close_storage, opened_storage)
        if searcher is None:
            searched = (
                _copied_on_photos(searched, split, own, force=force)
                if data is not None
                else copied(searched, own, force=force)
            )
            searcher = Searcher(searched, device=device, quantities=quantities.of_copy(searched))
        return searcher.search(
            asked, trials=trials, storage=where, opened=opened_storage, seed=seed, report=report
        )


def refuse_copy(run: Run, data: str | Path, out: Path, *, force: bool) -> None:
    """Refuse a folder that a run for other photos cannot be copied into. See `run_on_photos`."""
    refuse_existing(out, force=force, what="run")
    refuse_over_input(out, run.path, data)


def searched_at(run: Run | str | Path, out: str | Path | None) -> Path:
    """The folder of the run that `search` searches.

    Args:
        run: a run, its folder, or `zoo:NAME`.
        out: folder of a copy that is searched instead, or None.
    """
    if out is not None:
        return Path(out)
    if isinstance(run, Run):
        return run.path
    return Path(str(run).removeprefix(ZOO))


@with_paths
def run_on_photos(run: Run, data: str | Path, out: Path, *, force: bool = False) -> Run:
    """Copy a run without its scores, with the user's own photos as calibration photos.

    Everything that was found for the weights is copied (layouts, logits, costs, profiles). The best
    architectures on the run's own photos are scored first. Held-out photos that are among the new photos are
    no longer held out.

    Args:
        run: a trained run.
        data: folder of the photos.
        out: folder of the copy.
        force: replace an existing folder.

    Raises:
        InputError: there are no photos, one cannot be read, or all held-out photos are among them.
    """
    refuse_copy(run, data, out, force=force)
    return _copied_on_photos(run, split_on_photos(run, data), out, force=force)


def split_on_photos(run: Run, data: str | Path) -> dict[str, list[Path]]:
    """The split of a run's copy for other photos: see `run_on_photos`. Nothing is written.

    Args:
        run: a trained run. Everything that its copy needs is read, so that damage is found now.
        data: folder of the photos.

    Raises:
        InputError: there are no photos, one cannot be read, all held-out photos are among them, or the run is
            damaged.
    """
    from nas.photos.images import BUNDLED, list_images
    from nas.photos.split import load_photos, shared_photos
    from nas.training.settings import settings_of
    from nas.weights.checkpoint import supernet_of

    photos = list_images(data)
    load_photos(photos)
    _ = run.fingerprint, settings_of(run), supernet_of(run), _best(run)
    split = {} if run.config.get("data") == BUNDLED else run.split()
    if split:
        seen = set(shared_photos(split["held-out"], photos))
        split["held-out"] = [photo for photo in split["held-out"] if photo not in seen]
        if not split["held-out"]:
            raise InputError(
                f"All held-out photos of {run.path} are in {data}: leave some out, so that codecs can be "
                "measured on photos that the search does not see."
            )
    return {**split, "calibration": photos}


def _best(run: Run) -> list[str]:
    """Keys of the best architectures on a run's own photos."""
    if not run.front_path.is_file():
        return []
    best: list[str] = run.front().query("on_front_total")["arch"].tolist()
    return best


def _copied_on_photos(run: Run, split: dict[str, list[Path]], out: Path, *, force: bool) -> Run:
    """Copy a run for other photos, as `split_on_photos` split them."""
    from nas.photos.images import BUNDLED
    from nas.photos.split import write_split
    from nas.support.files import clear, make_folder, write_atomically

    best = _best(run)
    if force:
        clear(out)
    make_folder(out)
    config = {key: value for key, value in run.config.items() if key != "data"}
    if run.config.get("data") == BUNDLED:
        split = {**_bundled_files(out), **split}
    write_yaml(out / "config.yaml", config)
    write_atomically(out / "supernet.safetensors", run.weights_path.read_bytes())
    of_weights = (
        *("structure.yaml", "layout.yaml", "profile/*/measured.yaml"),
        *("search/layouts.yaml", "search/logits-*.yaml", "search/costs.npz"),
    )
    for file in (file for pattern in of_weights for file in run.path.glob(pattern)):
        write_atomically(out / file.relative_to(run.path), file.read_bytes())
    if best:
        Run(out).begin_with(best)
    write_split(out / "split.csv", split)
    return Run.open(out)


def _bundled_files(out: Path) -> dict[str, list[Path]]:
    """Write the bundled photos as files of a run, so that its split can name them."""
    from nas.photos.images import bundled, write_image

    parts = bundled()
    split: dict[str, list[Path]] = {}
    for name, part in (("train", "train"), ("held-out", "test")):
        for photo in parts[part]:
            path = out / "photos" / f"{Path(photo.name).stem}.png"
            write_image(path, photo.pixels)
            split.setdefault(name, []).append(path)
    return split
