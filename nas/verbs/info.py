"""What a thing is: a run, a codec, a .nic file, a search space, a budget, a layout or an architecture's key.

Asking is quick: nothing here needs torch, except counting the MACs of a key or of a
space of one's own (an exported codec knows its own).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.report.family import tables
from nas.report.structure.codec_graph import CodecGraph, codec_graph
from nas.report.structure.graph_text import draw_graph
from nas.report.structure.layout_text import draw_layout, stages_text
from nas.shipped import PREFIX, in_zoo, readme, zoo_names, zoo_run
from nas.spaces.architecture import Architecture
from nas.spaces.budget import Budget, Span
from nas.spaces.layout import MADE_IN_RUNS, Layout, layout_names, named_layout, read_layouts
from nas.spaces.rates import anchor_qualities, range_text
from nas.spaces.space import SearchSpace
from nas.support import resources
from nas.support.errors import InputError, nearest
from nas.support.files import read_rows

if TYPE_CHECKING:
    from nas.run import Run

Y_CHANNELS, WINDOW = 192, 5  # a layout asked for by its name alone is shown as in joint-ar
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.]*=[^+=]*(\+[A-Za-z][A-Za-z0-9_.]*=[^+=]*)*")


@dataclass(frozen=True)
class Info:
    """What a thing is.

    Attributes:
        kind: run, codec, nic, space, budget, recipe, layout or architecture.
        fields: what is known of it, as plain values.
        text: lines that are more than names and values (drawings).
        also: another thing of the same name.
        picture: what `draw` shows; None where there is nothing to draw.
        drawn: what was written, where it was drawn.
    """

    kind: str
    fields: dict[str, Any]
    text: tuple[str, ...] = ()
    also: Info | None = None
    picture: CodecGraph | Layout | None = None
    drawn: str | None = None

    def lines(self) -> list[str]:
        """Readable text: one line per field, then the drawings."""
        drawn = {"tile", "kmac_px_by_edge"} if self.text else set()
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

    def draw(self, path: Path, *, force: bool = False) -> str:
        """Write it as a picture, in the format that the file's name says.

        Args:
            path: file of the picture; its ending says the format.
            force: replace an existing file.

        Returns:
            What was written: the path, and of which space where a key means another network in others.

        Raises:
            InputError: nothing to draw, no name of a picture, or something that would be replaced.
        """
        from nas.report.structure.graph import check_picture, save_picture

        check_picture(path, force=force)
        if self.picture is None:
            what = {"nic": "A .nic file", "architecture": "An architecture of none of the shipped spaces"}
            raise InputError(
                f"{what.get(self.kind, f'A {self.kind}')} has nothing to draw: give an exported codec, the "
                "key of an architecture of a shipped space, or a layout."
            )
        if self.also is not None and isinstance(self.also.picture, Layout):
            raise InputError("This file lists several layouts, and a picture shows one: write it out alone.")
        save_picture(self.picture, path)
        one_of_several = self.kind == "architecture" and self.also is not None
        return f"{path}, as in {self.fields['space']}" if one_of_several else str(path)


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


def info(thing: str | Path, *, out: str | Path | None = None, force: bool = False) -> Info:
    """What something is: a run, codec, .nic file, space, budget, recipe, layout, architecture or the zoo.

    Args:
        thing: its path, name or key.
        out: draw a codec, key or layout into this file: .png, .svg or .pdf.
        force: replace the file.

    Raises:
        InputError: nothing of that name, nothing to draw, or a file that would be replaced.

    Example:
        >>> nas.info("raster-2x2").fields["stages_768x512"]
        4
    """
    known = describe(str(thing))
    if out is None:
        return known
    return replace(known, drawn=known.draw(Path(out), force=force))


def describe(thing: str) -> Info:
    """What `nas info` tells of a path, a name or a key.

    Raises:
        InputError: nothing of that name; names the nearest shipped ones.
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
        return _chained(named)  # `laptop` is one of each
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
        return space_info(space) if path.resolve().parent == folder.resolve() else _with_reach(space)
    if content and set(content) <= set(setting_names()):
        return recipe_info(str(path))
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
        "layouts": {name: stages_text(space.layouts[name]) for name in space.layout_names},
        "lmbda": training.get("lmbda"),
        **_rate_fields(space),
        "metric": training.get("metric"),
        "steps": training.get("steps"),
        "trained": run.config.get("trained"),
        "reaches": run.config.get("reaches"),
        "seed": run.config.get("seed"),
        "data": _photos_by_part(run),
        "fingerprint": run.fingerprint if run.weights_path.is_file() else None,
        "state": _state(run),
        "scored": _csv_rows(run.search_path / "scores.csv"),
        "front": _csv_rows(run.path / "front.csv"),
        "profiles": sorted(found.parent.name for found in run.profile_path.glob("*/measured.yaml")),
        "codecs": sorted(found.parent.name for found in run.codecs_path.glob("*/codec.yaml")),
        "versions": run.config.get("versions", {}),
    }
    return Info("run", fields)


def zoo_info() -> Info:
    """The supernets that the package carries."""
    found = {}
    for name in zoo_names():
        run = zoo_run(f"{PREFIX}{name}")
        found[f"{PREFIX}{name}"] = _in_the_zoo(run)
    example = f"nas search {PREFIX}{zoo_names()[0]} --target 60%"
    return Info("zoo", {"supernets": found, "more": f"nas info {PREFIX}NAME", "use": example})


def _in_the_zoo(run: Run) -> dict[str, str]:
    """For which rates and budgets a supernet of the zoo is, and how well it does."""
    rates = run.space.rates or (float(run.config["training"]["lmbda"]),)
    costs = [float(row["decoder_kmac_px"]) for row in read_rows(run.front_path)]
    told = {
        "lambda": range_text(rates),
        "decoder": f"{min(costs):.2f} to {max(costs):.2f} kMAC/px on its front",
        "reaches": str(run.config.get("reaches", "")),
        "size": f"{run.weights_path.stat().st_size / 1e6:.1f} MB",
    }
    return {name: text for name, text in told.items() if text}


def _with_reach(space: SearchSpace) -> Info:
    """A space of one's own, with the MACs that its architectures reach, counted here."""
    from nas.cost.counting.tabulate import measured_costs
    from nas.cost.exact.quantity import scopes
    from nas.cost.exact.reach import Reach

    reached = {}
    for scope, quantity in scopes(measured_costs(space)).items():
        least, median, most = Reach(quantity).span()
        least_text, most_text = quantity.number(least, least=True), quantity.number(most)
        reached[scope] = f"{least_text} to {most_text} kMAC/px, the median {quantity.number(median)}"
    info = space_info(space)
    return replace(info, fields={**info.fields, "reach": reached})


def _state(run: Run) -> str:
    if not run.weights_path.is_file():
        hint = f"nas train --out {run.path} --resume" if run.checkpoint_path.is_file() else "nas train"
        return f"not trained yet (go on with: {hint})"
    return "trained and searched" if (run.path / "front.csv").is_file() else "trained"


def _photos_by_part(run: Run) -> dict[str, int]:
    """How many photos each part of the split has."""
    counts: dict[str, int] = {}
    if run.split_path.is_file():
        for row in read_rows(run.split_path):
            part = str(row.get("split"))
            counts[part] = counts.get(part, 0) + 1
    return counts


def _csv_rows(path: Path) -> int:
    """Rows of a table, its heading apart."""
    return len(read_rows(path)) if path.is_file() else 0


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
        **_rate_fields(space),
        **_family_fields(content),
        "finetuned": content.get("finetuned"),
        "arithmetic": content.get("arithmetic"),
        "fingerprint": content.get("fingerprint"),
        "entropy_path": content.get("entropy_path"),
        "weights_bytes": weights.stat().st_size if weights.is_file() else None,
    }
    fields["stages"] = fields["stages"] or layout.stages()
    architecture = space.widest()  # the only one
    by_edge = content.get("kmac_px_by_edge")  # codecs of before have none
    if not isinstance(by_edge, dict) or not _are_costs(by_edge):
        by_edge = _counted(space, architecture)
    return _with_graph(Info("codec", fields), space, architecture, by_edge)


def _are_costs(by_edge: Mapping[Any, Any]) -> bool:
    """Whether these are costs of a codec's edges, as a file that somebody changed may not have them."""
    numbers = all(isinstance(cost, int | float) for cost in by_edge.values())
    return numbers and {"g_a", "g_s"} <= by_edge.keys()


def _rate_fields(space: SearchSpace) -> dict[str, Any]:
    """The range of lambdas and its anchors, with the quality of each; nothing where there is one rate."""
    if not space.rates:
        return {}
    anchors = {f"q{quality:g}": lmbda for quality, lmbda in anchor_qualities(space.rates).items()}
    return {"range_of_lmbda": range_text(space.rates), "anchors": anchors}


def _family_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """The decoders and layouts of a family; nothing of a codec that is alone."""
    return {
        title.partition(" ")[0]: {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows}
        for title, columns, rows in tables(content)
    }


def nic_info(path: Path) -> Info:
    """What a .nic file's header says."""
    from nas.codec.nic import PLAIN, RATED, Nic, read_varint
    from nas.spaces.rates import STEPS_OF_QUALITY

    nic, size = Nic.read(path), path.stat().st_size
    z_limit, rest = read_varint(nic.stream)
    y_limit, _ = read_varint(rest)
    fields = {
        "path": str(path),
        "version": PLAIN if nic.step is None else RATED,
        "width": nic.width,
        "height": nic.height,
        "bytes": size,
        "bpp": 8 * size / (nic.width * nic.height),
        "header_bytes": nic.header_bytes,
        "entropy_path": nic.path_identity,
        "fingerprint": nic.fingerprint,
        **({} if nic.step is None else {"quality": 100 * nic.step / STEPS_OF_QUALITY}),
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
        "window": f"{space.window}x{space.window}" if space.with_convolution else None,
        "architectures": space.size,
        "slots": {slot.name: list(slot.candidates) for slot in space.slots},
        "layouts": {name: stages_text(space.layouts[name]) for name in space.layout_names},
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
        "levels": _span(budget.span),
        "limits": [str(limit) for limit in budget.limits] or None,
    }
    return Info("budget", fields)


def _span(span: Span | None) -> str | None:
    if span is None:
        return None
    start, end = (span.start or "the least that is reachable"), (span.end or "the most")
    return f"{span.levels}, from {start} to {end}"


def setting_names() -> list[str]:
    """What a recipe may set."""
    from nas.training.settings import TrainingSettings

    return list(TrainingSettings.model_fields)


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
        return _architecture_infos(found)
    if not _KEY.fullmatch(key):
        example = spaces[0].narrowest().key if spaces else "g_a=8-8-8+layout=none"
        raise InputError(f"'{key[:60]}' is not an architecture's key: keys look like {example}")
    parts = dict(part.split("=") for part in key.split("+"))
    layout = parts.pop("layout", None)
    widths = {edge: _numbers(edge, values) for edge, values in parts.items()}
    return Info(
        "architecture", {"arch": key, "space": "none of the shipped ones", "widths": widths, "layout": layout}
    )


def _architecture_infos(found: Sequence[tuple[SearchSpace, Architecture]]) -> Info:
    """One key in every space that has it: spaces in which it is the same network are told of together."""
    networks: dict[str, list[tuple[SearchSpace, Architecture]]] = {}
    for space, architecture in found:
        alone = space.only(architecture).to_dict()
        del alone["grouping"]
        networks.setdefault(json.dumps(alone), []).append((space, architecture))
    told = [_architecture_info(*same[0], [space.name for space, _ in same]) for same in networks.values()]
    return _chained(told)


def _architecture_info(space: SearchSpace, architecture: Architecture, names: Sequence[str]) -> Info:
    """One architecture, and the spaces that have it."""
    fields = {
        "arch": architecture.key,
        "space": ", ".join(names),
        "family": space.family.name,
        "widths": _by_edge(space.layer_widths(architecture)),
        "layout": architecture.layout,
        "stages": space.layout(architecture).stages(),
    }
    return _with_graph(Info("architecture", fields), space, architecture, _counted(space, architecture))


def _counted(space: SearchSpace, architecture: Architecture) -> dict[str, float]:
    """kMAC per pixel of every edge, counted here."""
    from nas.cost.counting.tabulate import measured_costs

    return measured_costs(space.only(architecture)).by_edge(architecture)


def _with_graph(
    info: Info, space: SearchSpace, architecture: Architecture, by_edge: Mapping[str, float]
) -> Info:
    """The same with the drawing of its graph."""
    graph = codec_graph(space, architecture, by_edge)
    fields = {**info.fields, "kmac_px_by_edge": dict(by_edge)}
    return replace(info, fields=fields, text=tuple(draw_graph(graph)), picture=graph)


def _numbers(edge: str, text: str) -> list[int]:
    values = text.split("-")
    if not all(value.isdecimal() for value in values):
        raise InputError(f"'{edge}={text}' is not a part of a key: after '=' come widths joined by '-'.")
    return [int(value) for value in values]


def _by_edge(widths: dict[str, int]) -> dict[str, list[int]]:
    """The choices of every edge in the order of their numbers; depths apart from widths."""
    found: dict[str, dict[int, int]] = {}
    for choice, width in widths.items():
        edge, _, number = choice.partition(".")
        found.setdefault(edge, {})[int(number or 1)] = width
    return {edge: [numbered[number] for number in sorted(numbered)] for edge, numbered in found.items()}


def _latents(space: SearchSpace) -> dict[str, Any]:
    """The channels of y and z; what they can be, where a slot sets them."""
    nodes = ("y", "z") if space.family.has_z else ("y",)
    choices = {node: list(space.candidates(node)) for node in nodes}
    return {node: sizes[0] if len(sizes) == 1 else sizes for node, sizes in choices.items()}


# Layouts


def layout_info(layout: Layout, window: int = WINDOW) -> Info:
    """A layout: its tile by channel group, and what an element of each stage may see, drawn as text.

    Args:
        layout: the layout.
        window: width of the context window, in elements of y.
    """
    fields = {
        "layout": layout.name,
        "channels": layout.channels,
        "groups": list(layout.groups),
        "slope": list(layout.slope),
        "tile": layout.table.tolist(),
        "stages_768x512": layout.stages(),
        "context": layout.context,
        "visible_share": visible_share(layout, window),
    }
    return Info("layout", fields, tuple(draw_layout(layout, window)), picture=layout)


def _table_info(path: Path, entries: Any) -> Info:
    """Every layout of a run's search/layouts.yaml, the first one's facts as its own."""
    found = [layout_info(layout) for layout in read_layouts(path, entries)]
    if not found:
        raise InputError(f"{path} lists no layout: run the search again, which makes it.")
    return _chained(found)


def _chained(infos: Sequence[Info]) -> Info:
    """Several things as one: each names the next."""
    told = infos[-1]
    for info in reversed(infos[:-1]):
        told = replace(info, also=told)
    return told


def visible_share(layout: Layout, window: int) -> float:
    """The share of a dense pass of the context model's convolution that this layout computes.

    Args:
        layout: the layout.
        window: width of the context window, in elements of y.
    """
    if layout.context == "table":
        return 0.0
    sizes = np.array(layout.groups)
    _, rows, columns = layout.table.shape
    seen = sum(
        int(block.visible.sum((1, 2)) @ sizes) * int(sizes[list(block.groups)].sum())
        for block in layout.blocks(window)
    )
    return float(seen / (rows * columns * window**2 * layout.channels**2))
