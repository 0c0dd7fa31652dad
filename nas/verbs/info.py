"""`nas info`: describes a run, codec, .nic file, search space, budget, recipe, layout or architecture key.

Nothing here needs torch, except counting the MACs of a key or of the user's own space (an exported codec
knows its own MACs).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from nas.report.info.architectures import key_info
from nas.report.info.codecs import codec_info, nic_info
from nas.report.info.info import Info, chained
from nas.report.info.layouts import WINDOW, layout_info, layout_table_info
from nas.report.info.runs import run_info, zoo_info
from nas.report.info.spaces import budget_info, recipe_info, setting_names, space_info, space_with_reach
from nas.shipped import in_zoo, readme, zoo_run
from nas.spaces.budget import Budget
from nas.spaces.layout import MADE_IN_RUNS, Layout, layout_names, named_layout
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError, nearest
from nas.support.paths import with_paths

Y_CHANNELS = 192  # channels for layouts that are given by name, as in joint-ar


@with_paths
def info(thing: str | Path, *, out: str | Path | None = None, force: bool = False) -> Info:
    """Describe a run, codec, .nic file, space, budget, recipe, layout, architecture or the zoo.

    Args:
        thing: path, name or key of the thing, `zoo:NAME`, or `zoo` for a list.
        out: draw a codec, key or layout into this file: .png, .svg or .pdf.
        force: replace an existing file.

    Returns:
        An `Info`. `fields` has its properties by name, and `lines()` are the lines that `nas info` prints.

    Raises:
        InputError: nothing has this name, there is nothing to draw, or the file exists already.

    Example:
        >>> nas.info("raster-2x2").fields["stages_768x512"]
        4
    """
    described = describe(str(thing))
    if out is None:
        return described
    return replace(described, drawn=described.draw(Path(out), force=force))


def describe(thing: str) -> Info:
    """Describe the thing with a path, a name or a key.

    Raises:
        InputError: nothing has this name. The message gives the nearest shipped names.
    """
    if thing == "zoo":
        return zoo_info()
    if in_zoo(thing):
        return replace(run_info(zoo_run(thing)), text=(readme(thing),))
    path = Path(thing)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    if path.suffix in {".yaml", ".yml", ".nic"} or (len(path.parts) > 1 and "=" not in thing):
        raise InputError(f"There is no file or folder {thing}: check the path.")
    if thing in resources.shipped("search_spaces"):
        info = space_info(SearchSpace.load(thing))
        if thing in layout_names():
            return replace(layout_info(named_layout(thing, Y_CHANNELS, WINDOW)), also=info)
        return info
    named = [budget_info(Budget.load(thing))] if thing in resources.shipped("budgets") else []
    named += [recipe_info(thing)] if thing in resources.shipped("recipes") else []
    if named:
        return chained(named)  # `laptop` is both a budget and a recipe
    if "=" in thing:
        return key_info(thing)
    return _layout_or_nothing(thing)


def _folder(path: Path) -> Info:
    if (path / "config.yaml").is_file():
        from nas.run import Run

        return run_info(Run.open(path))
    if (path / "codec.yaml").is_file():
        return codec_info(path / "codec.yaml")
    raise InputError(f"{path} is neither a run (config.yaml) nor a codec (codec.yaml): give another folder.")


def _file(path: Path) -> Info:
    """Describe a file by its content, not by its name."""
    with open(path, "rb") as file:
        start = file.read(3)
    if start == b"NIC" or path.suffix == ".nic":
        return nic_info(path)
    if path.suffix not in {".yaml", ".yml"}:
        raise InputError(
            f"{path} is not a file of this toolkit: give a .nic file, a YAML file, a run or a codec."
        )
    content = resources.read_yaml(path)
    if str(content.get("format", "")).startswith("nas-run"):
        return _folder(path.parent)
    if "arch" in content:
        return codec_info(path)
    if {"family", "widths", "latents"} & set(content):
        space, folder = SearchSpace.load(path), resources.folder("search_spaces")
        return space_info(space) if path.resolve().parent == folder.resolve() else space_with_reach(space)
    if content and set(content) <= set(setting_names()):
        return recipe_info(str(path))
    if "layout" in content:
        with resources.errors_as_damage(path, "correct it"):
            return layout_info(Layout.from_dict(content["layout"], name=path.stem))
    if "layouts" in content:
        return layout_table_info(path, content["layouts"])
    return budget_info(Budget.load(path))


def _layout_or_nothing(name: str) -> Info:
    try:
        return layout_info(named_layout(name, Y_CHANNELS, WINDOW), WINDOW)
    except InputError:
        families = "|".join(
            sorted({*MADE_IN_RUNS, *(layout_name.split("-")[0] for layout_name in layout_names())})
        )
        if re.match(rf"({families})-[0-9]", name):
            raise  # the name of a layout, but an impossible one
    kinds = ("search_spaces", "budgets", "recipes")
    names = [*(name for kind in kinds for name in resources.shipped(kind)), *layout_names()]
    raise InputError(f"There is no space, budget, layout or file named '{name}': {nearest(name, names)}")
