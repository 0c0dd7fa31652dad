"""What a thing is: a run, a codec, a .nic file, a search space, a budget, a layout or an architecture's key.

Nothing here needs torch, except reading a .nic file: asking is quick.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas import resources
from nas.budget import Budget
from nas.errors import InputError, nearest
from nas.graph.layout import MADE_IN_RUNS, Block, Layout, layout_names, named_layout, read_layouts
from nas.space import Architecture, SearchSpace

if TYPE_CHECKING:
    from nas.run import Run

Y_CHANNELS, WINDOW = 192, 5  # a layout asked for by its name alone is shown as in joint-ar
MOST_WINDOWS = 32  # so many are drawn
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.]*=[^+=]*(\+[A-Za-z][A-Za-z0-9_.]*=[^+=]*)*")


@dataclass(frozen=True)
class Info:
    """What a thing is.

    Attributes:
        kind: run, codec, nic, space, budget, recipe, layout or architecture.
        fields: what is known of it, as plain values.
        text: lines that are more than names and values (drawings).
        also: another thing of the same name.
    """

    kind: str
    fields: dict[str, Any]
    text: tuple[str, ...] = ()
    also: Info | None = None

    def lines(self) -> list[str]:
        """Readable text: one line per field, then the drawings."""
        drawn = {"tile"} if self.text else set()
        fields = {name: value for name, value in self.fields.items() if name not in drawn}
        shown = {name.replace("_", " "): _shown(value) for name, value in fields.items() if value is not None}
        wide = max(map(len, shown), default=0)
        found = []
        for name, values in shown.items():
            found += [f"{name if k == 0 else '':<{wide}}  {value}".rstrip() for k, value in enumerate(values)]
        found += ([""] if self.text else []) + list(self.text)
        return found if self.also is None else [*found, "", *self.also.lines()]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        also = {} if self.also is None else {"also": self.also.to_json()}
        return {"kind": self.kind, **self.fields, **also}


def _shown(value: Any) -> list[str]:
    """A field's value as one or more lines."""
    if isinstance(value, dict):
        return [f"{key}: {_word(inner)}" for key, inner in value.items()] or ["none"]
    return [_word(value)]


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_word, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_word(inner)}" for key, inner in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def describe(thing: str) -> Info:
    """What `nas info` tells of a path, a name or a key.

    Raises:
        InputError: nothing of that name; names the nearest shipped ones.
    """
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
    if thing in resources.shipped("budgets"):
        return budget_info(Budget.load(thing))
    if thing in resources.shipped("recipes"):
        return recipe_info(thing)
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
    """A file, by what it holds rather than by its name."""
    with open(path, "rb") as file:
        start = file.read(3)
    if start == b"NIC" or path.suffix == ".nic":
        return nic_info(path)
    if path.suffix not in {".yaml", ".yml"}:
        raise InputError(f"{path} is none of ours: give a .nic file, a YAML file, a run or a codec.")
    content = resources.read_yaml(path)
    if str(content.get("format", "")).startswith("nas-run"):
        return _folder(path.parent)
    if "arch" in content:
        return codec_info(path)
    if {"family", "widths", "latents"} & set(content):
        return space_info(SearchSpace.load(path))
    if "layout" in content:
        return layout_info(Layout.from_dict(content["layout"], name=path.stem))
    if "layouts" in content:
        return _table_info(path, content["layouts"])
    return budget_info(Budget.load(path))


def _layout_or_nothing(name: str) -> Info:
    try:
        return layout_info(named_layout(name, Y_CHANNELS, WINDOW), WINDOW)
    except InputError:
        families = "|".join(sorted({*MADE_IN_RUNS, *(known.split("-")[0] for known in layout_names())}))
        if re.match(rf"({families})-[0-9]", name):
            raise  # a layout, but one that cannot be
    kinds = ("search_spaces", "budgets", "recipes")
    known = [*(name for kind in kinds for name in resources.shipped(kind)), *layout_names()]
    raise InputError(f"There is no space, budget, layout or file named '{name}': {nearest(name, known)}")


# Runs, codecs, files


def run_info(run: Run) -> Info:
    """What a run's folder holds."""
    training, space = run.config.get("training", {}), run.space
    fields = {
        "path": str(run.path),
        "space": run.config.get("name"),
        "architectures": space.size,
        "layouts": {name: _stages(space.layouts[name]) for name in space.layout_names},
        "lmbda": training.get("lmbda"),
        "metric": training.get("metric"),
        "steps": training.get("steps"),
        "seed": run.config.get("seed"),
        "data": _photos_by_part(run),
        "fingerprint": run.fingerprint if run.weights_path.is_file() else None,
        "state": _state(run),
        "scored": _csv_rows(run.search_path / "scores.csv"),
        "front": _csv_rows(run.path / "front.csv"),
        "codecs": sorted(found.parent.name for found in run.codecs_path.glob("*/codec.yaml")),
        "versions": run.config.get("versions", {}),
    }
    return Info("run", fields)


def _state(run: Run) -> str:
    if not run.weights_path.is_file():
        hint = f"nas train --out {run.path} --resume" if run.checkpoint_path.is_file() else "nas train"
        return f"not trained yet (go on with: {hint})"
    return "trained and searched" if (run.path / "front.csv").is_file() else "trained"


def _photos_by_part(run: Run) -> dict[str, int]:
    """How many photos each part of the split has."""
    counts: dict[str, int] = {}
    if run.split_path.is_file():
        with open(run.split_path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                part = str(row.get("split"))
                counts[part] = counts.get(part, 0) + 1
    return counts


def _csv_rows(path: Path) -> int:
    """Rows of a table, its heading apart."""
    if not path.is_file():
        return 0
    with open(path, newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


def codec_info(description: Path) -> Info:
    """What a codec.yaml says, and how large the weights beside it are."""
    content = resources.read_yaml(description)
    space = SearchSpace.from_dict(content, name="codec", source=str(description))
    layout = next(iter(space.layouts.values()))
    weights = description.parent / "codec.safetensors"
    fields = {
        "path": str(description.parent),
        "family": space.family.name,
        "arch": content.get("arch"),
        "widths": _by_edge(space.layer_widths(space.widest())),
        "layout": layout.name,
        **{
            name: content.get(name) for name in ("stages", "kmac_px", "params", "lmbda", "metric", "measured")
        },
        "fingerprint": content.get("fingerprint"),
        "entropy_path": content.get("entropy_path"),
        "weights_bytes": weights.stat().st_size if weights.is_file() else None,
    }
    fields["stages"] = fields["stages"] or layout.stages()
    return Info("codec", fields)


def nic_info(path: Path) -> Info:
    """What a .nic file's header says."""
    from nas.codec.bitstream import VERSION, Nic
    from nas.codec.codec import read_varint

    nic, size = Nic.read(path), path.stat().st_size
    z_limit, rest = read_varint(nic.stream)
    y_limit, _ = read_varint(rest)
    fields = {
        "path": str(path),
        "version": VERSION,
        "width": nic.width,
        "height": nic.height,
        "bytes": size,
        "bpp": 8 * size / (nic.width * nic.height),
        "header_bytes": nic.header_bytes,
        "entropy_path": nic.path_identity,
        "fingerprint": nic.fingerprint,
        "largest_z": z_limit,
        "largest_y": y_limit,
    }
    return Info("nic", fields)


# Spaces, budgets, keys


def space_info(space: SearchSpace) -> Info:
    """The slots and layouts of a search space."""
    grouping = {
        "groups": space.grouping.groups,
        "tile": list(space.grouping.tile),
        "stages": list(space.grouping.stages),
    }
    fields = {
        "space": space.name,
        "family": space.family.name,
        "latents": _latents(space),
        "quantizer": space.quantizer,
        "window": f"{space.window}x{space.window}" if space.family.context else None,
        "architectures": space.size,
        "slots": {slot.name: list(slot.candidates) for slot in space.slots},
        "layouts": {name: _stages(space.layouts[name]) for name in space.layout_names},
        "grouping": grouping if space.family.context else None,
        "narrowest": space.narrowest().key,
        "widest": space.widest().key,
    }
    return Info("space", fields)


def budget_info(budget: Budget) -> Info:
    """The limits of a budget."""
    fields = {
        "budget": budget.name,
        "scope": budget.scope,
        "targets": [str(target) for target in budget.targets] or None,
        "levels": budget.levels or None,
        "max_stages": budget.max_stages,
    }
    return Info("budget", fields)


def recipe_info(name: str) -> Info:
    """What a shipped recipe sets, and what every other setting of `nas train` is then."""
    from nas.training.settings import TrainingSettings, read_recipe

    content = read_recipe(name)
    rest = TrainingSettings.make({"recipe": name}).model_dump(exclude=set(content))
    return Info("recipe", {"recipe": name, "sets": content, "and_by_default": rest})


def key_info(key: str) -> Info:
    """What an architecture's key says; where a shipped space has it, the width of every layer, too.

    Raises:
        InputError: not shaped like a key.
    """
    spaces = [SearchSpace.load(name) for name in resources.shipped("search_spaces")]
    found = []
    for space in spaces:
        with contextlib.suppress(InputError):
            found.append((space, space.parse(key)))
    if found:
        return _architecture_info(found)
    if not _KEY.fullmatch(key):
        example = spaces[0].narrowest().key if spaces else "g_a=8-8-8+layout=none"
        raise InputError(f"'{key[:60]}' is no architecture's key: they look like {example}")
    parts = dict(part.split("=") for part in key.split("+"))
    layout = parts.pop("layout", None)
    widths = {edge: _numbers(edge, values) for edge, values in parts.items()}
    return Info(
        "architecture", {"arch": key, "space": "none of the shipped ones", "widths": widths, "layout": layout}
    )


def _architecture_info(found: Sequence[tuple[SearchSpace, Architecture]]) -> Info:
    """One key, in every space that has it."""
    space, architecture = found[0]
    layout = space.layout(architecture)
    fields = {
        "arch": architecture.key,
        "space": ", ".join(space.name for space, _ in found),
        "family": ", ".join(dict.fromkeys(space.family.name for space, _ in found)),
        "widths": _by_edge(space.layer_widths(architecture)),
        "layout": architecture.layout,
        "stages": layout.stages(),
    }
    return Info("architecture", fields)


def _numbers(edge: str, text: str) -> list[int]:
    values = text.split("-")
    if not all(value.isdecimal() for value in values):
        raise InputError(f"'{edge}={text}' is no part of a key: after '=' come widths joined by '-'.")
    return [int(value) for value in values]


def _by_edge(widths: dict[str, int]) -> dict[str, list[int]]:
    """The choices of every edge, in the order of its layers; depths apart from widths."""
    found: dict[str, list[int]] = {}
    for choice, width in widths.items():
        found.setdefault(choice.rsplit(".", 1)[0], []).append(width)
    return found


def _latents(space: SearchSpace) -> dict[str, Any]:
    """The channels of y and z; what they can be, where a slot sets them."""
    nodes = ("y", "z") if space.family.has_z else ("y",)
    choices = {node: list(space.candidates(node)) for node in nodes}
    return {node: sizes[0] if len(sizes) == 1 else sizes for node, sizes in choices.items()}


# Layouts


def layout_info(layout: Layout, window: int = WINDOW) -> Info:
    """A layout: its tile by channel group, and what an element of each stage may see, drawn as text."""
    fields = {
        "layout": layout.name,
        "channels": layout.channels,
        "groups": list(layout.groups),
        "slope": list(layout.slope),
        "tile": layout.table.tolist(),
        "stages_768x512": layout.stages(),
        "visible_share": visible_share(layout, window),
    }
    text = [*_draw_tile(layout), "", *_draw_slope(layout), "", *_draw_windows(layout, window)]
    return Info("layout", fields, tuple(text))


def _table_info(path: Path, entries: Any) -> Info:
    """Every layout of a run's search/layouts.yaml, the first one's facts as its own."""
    found = [layout_info(layout) for layout in read_layouts(path, entries)]
    if not found:
        raise InputError(f"{path} lists no layout: run the search again, which makes it.")
    told = None
    for info in reversed(found):
        told = replace(info, also=told)
    assert told is not None
    return told


def _stages(layout: Layout) -> str:
    count = layout.stages()
    return f"{count} stage{'s' * (count != 1)}"


def visible_share(layout: Layout, window: int) -> float:
    """The share of a dense pass of the context model's convolution that this layout computes."""
    sizes = np.array(layout.groups)
    _, rows, columns = layout.table.shape
    seen = sum(
        int(block.visible.sum((1, 2)) @ sizes) * int(sizes[list(block.groups)].sum())
        for block in layout.blocks(window)
    )
    return float(seen / (rows * columns * window**2 * layout.channels**2))


def _draw_tile(layout: Layout) -> list[str]:
    """The stage numbers of one tile, side by side for channel groups that differ."""
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for group, tile in enumerate(layout.tile):
        kinds.setdefault(tile, []).append(group)
    pieces = []
    wide = len(str(int(layout.table.max())))
    for tile, groups in kinds.items():
        rows = [" ".join(f"{stage:>{wide}}" for stage in row) for row in tile]
        pieces.append([_channels(layout, groups), *rows])
    return ["the tile: the stage of each position, by channels of y", *_beside(pieces)]


def _draw_slope(layout: Layout) -> list[str]:
    down, across = layout.slope
    stages = f"{_stages(layout)} at 768x512"
    if (down, across) == (0, 0):
        return [f"slope 0, 0: the tile repeats over the picture; {stages}"]
    return [f"slope {down}, {across}: a row lower is {down} later, a column further {across} later; {stages}"]


def _draw_windows(layout: Layout, window: int) -> list[str]:
    """For every stage, the window around an element, by channels that are seen alike."""
    lines = [f"what an element sees of its {window}x{window} window:  # decoded before, . not yet, o itself"]
    drawn: set[tuple[Any, ...]] = set()
    for block in layout.blocks(window):
        view = (block.stage, block.visible.tobytes(), block.groups)
        if view in drawn:
            continue
        if len(drawn) == MOST_WINDOWS:
            return [*lines, "", "(and so on for later stages)"]
        drawn.add(view)
        lines += ["", *_draw_view(layout, block, window)]
    return lines


def _draw_view(layout: Layout, block: Block, window: int) -> list[str]:
    what = "any stage" if layout.slope != (0, 0) and layout.table.size == 1 else f"stage {block.stage}"
    kinds: dict[bytes, list[int]] = {}
    for group, visible in enumerate(block.visible):
        kinds.setdefault(visible.tobytes(), []).append(group)
    whole, nothing, pieces = [], [], []
    for groups in kinds.values():
        visible = block.visible[groups[0]]
        if visible.all():
            whole += groups
        elif not visible.any():
            nothing += groups
        else:
            own = bool(set(groups) & set(block.groups))
            pieces.append([_channels(layout, groups), *_draw_window(visible, window, own)])
    lines = [f"{what} ({_channels(layout, list(block.groups))})"]
    if whole:
        lines.append(f"  everything of {_channels(layout, sorted(whole))}")
    if nothing:
        lines.append(f"  nothing of {_channels(layout, sorted(nothing))}")
    return lines + [f"  {line}".rstrip() for line in _beside(pieces)]


def _draw_window(visible: Any, window: int, own: bool) -> list[str]:
    reach = window // 2
    marks = np.where(visible, "#", ".")
    if own:
        marks[reach, reach] = "o"
    return [" ".join(row) for row in marks.tolist()]


def _channels(layout: Layout, groups: Sequence[int]) -> str:
    """The channels of some groups, as ranges."""
    ends = [0, *np.cumsum(layout.groups).tolist()]
    spans: list[list[int]] = []
    for group in groups:
        if spans and spans[-1][1] == ends[group]:
            spans[-1][1] = ends[group + 1]
        else:
            spans.append([ends[group], ends[group + 1]])
    if spans == [[0, layout.channels]]:
        return "all channels"
    named = [f"{start}-{end - 1}" if end - start > 1 else str(start) for start, end in spans]
    return f"channels {', '.join(named)}"


def _beside(pieces: Sequence[Sequence[str]]) -> list[str]:
    """Blocks of lines side by side, as many in a row as fit 100 characters."""
    lines: list[str] = []
    row: list[Sequence[str]] = []
    for piece in [*pieces, None]:
        width = sum(max(map(len, p)) + 3 for p in ([*row, piece] if piece else row))
        if row and (piece is None or width > 100):
            wide = [max(map(len, block)) for block in row]
            for k in range(max(map(len, row))):
                cells = [block[k] if k < len(block) else "" for block in row]
                lines.append("   ".join(f"{c:<{w}}" for c, w in zip(cells, wide, strict=True)).rstrip())
            row = []
        if piece is not None:
            row.append(piece)
    return lines
