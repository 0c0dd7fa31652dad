"""The zoo: trained and searched supernets that the package carries. `nas search zoo:NAME` uses them."""

from __future__ import annotations

import shutil
from pathlib import Path

from nas.run import Run
from nas.support.errors import InputError, nearest
from nas.support.files import clear, link_target, make_folder, refuse_existing, temporary_name
from nas.support.resources import ZOO

SUPERNETS = Path(__file__).parent / "supernets"
EXPLAINED = "README.md"  # explains the training; not part of the run


def zoo_names() -> list[str]:
    """The names of the supernets in the package."""
    return sorted(path.parent.name for path in SUPERNETS.glob("*/config.yaml"))


def in_zoo(source: str | Path) -> bool:
    """Whether a run is given as `zoo:NAME`.

    Args:
        source: the run, as the user has given it.
    """
    return str(source).startswith(ZOO)


def zoo_run(source: str | Path) -> Run:
    """The run of `zoo:NAME` inside the package, which is read-only.

    Args:
        source: `zoo:NAME`.

    Raises:
        InputError: the package carries no such supernet.
    """
    name = str(source).removeprefix(ZOO)
    if name not in zoo_names():
        raise InputError(f"The zoo has no supernet '{name}': {nearest(name, zoo_names())}")
    return Run.open(SUPERNETS / name, read_only=True)


def readme(source: str) -> str:
    """The README on the training of `zoo:NAME`.

    Args:
        source: `zoo:NAME`.
    """
    return (zoo_run(source).path / EXPLAINED).read_text(encoding="utf-8").strip()


def copy_at(source: Run, out: Path, *, force: bool = False) -> Run | None:
    """The copy of a run of the zoo that is in a folder already, or None if one can be made there.

    Args:
        source: the run to copy.
        out: folder of the copy.
        force: replace existing content.

    Raises:
        InputError: the folder has other content.
    """
    own = Run(out)
    if own.config_path.is_file() and own.weights_path.is_file() and not force:
        existing = Run.open(out)
        if existing.fingerprint == source.fingerprint:
            return existing
    refuse_existing(out, force=force, what="run")
    return None


def copied(source: Run, out: Path, *, force: bool = False) -> Run:
    """Copy a run of the zoo into a folder of the user. If the folder is such a copy already, return it.

    Args:
        source: the run to copy.
        out: folder of the copy.
        force: replace existing content.

    Raises:
        InputError: the folder has other content, or the copy cannot be written.
    """
    if (existing := copy_at(source, out, force=force)) is not None:
        return existing
    target = link_target(out)
    make_folder(target.parent)
    half_done = temporary_name(target)
    try:
        for file in source.path.rglob("*"):
            if file.is_file() and file.name != EXPLAINED:
                copy = half_done / file.relative_to(source.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        clear(target)
        half_done.rename(target)
    except OSError as error:
        raise InputError(f"Cannot copy the run to {out}: {error.strerror or error}.") from error
    finally:  # leave nothing behind after an interruption or a full disk
        shutil.rmtree(half_done, ignore_errors=True)
    return Run.open(out)
