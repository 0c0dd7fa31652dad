"""Search spaces: families with slots and layouts. No torch here."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.spaces.architecture import Architecture, Grouping, Slot, without_layout
from nas.spaces.description import HYPERPRIOR, Family
from nas.spaces.layout import MADE_IN_RUNS, Layout
from nas.spaces.schema import Quantizer, SpaceFields, slot_field
from nas.support import resources
from nas.support.errors import InputError, nearest
from nas.support.fields import validated

MAX_KEY = 200


@dataclass(frozen=True)
class SearchSpace:
    """All architectures of one supernet: a family, its slots and its layouts.

    Load one with `SearchSpace.load`. It holds no weights and needs no torch.

    Args:
        name: name for messages.
        family: family of networks, which says how layers are joined.
        y_channels: channels of the latent y. They are the same for every architecture, unless a slot sets
            them (see `fixed_latents`). In that case it is the largest number.
        z_channels: channels of the hyper-latent z, in the same way. 0 if the family has no z.
        window: width of the context window, in elements of y.
        slots: the searchable choices. Together they set every layer of the family.
        layouts: the candidate layouts by name. Only `none` if the family has no context model.
        grouping: settings of the search for greedy and learned layouts.
        quantizer: `integer` codes round(y) itself. `centred` codes round(y - mean), as CompressAI does.
        psi_channels: number of hyper features, if the family has a context model. By default two for each
            channel of y, as in Minnen et al. (2018).
        phi_channels: number of features of context prediction, with the same default. With 0 there is no
            context convolution, and layouts read their context by a table.
        rates: lambdas of the anchors, rising, for a supernet over a range of rates. Empty for a supernet
            of one rate.

    Example:
        >>> space = nas.SearchSpace.load("joint-ar-tiny")
        >>> f"{space.size:,} architectures, {len(space.slots)} slots"
        '56,953,125 architectures, 12 slots'
        >>> space.parse(space.widest().key) == space.widest()
        True
    """

    name: str
    family: Family
    y_channels: int
    z_channels: int
    window: int
    slots: tuple[Slot, ...]
    layouts: Mapping[str, Layout]
    grouping: Grouping = Grouping()  # noqa: RUF009 - it is immutable
    quantizer: Quantizer = "integer"
    psi_channels: int | None = None
    phi_channels: int | None = None
    rates: tuple[float, ...] = ()

    def __repr__(self) -> str:
        return (
            f"SearchSpace({self.name!r}: family {self.family.name}, {len(self.slots)} slots, "
            f"{len(self.layouts)} layouts, {self.size:,} architectures)"
        )

    # Loading and writing

    @classmethod
    def load(cls, name: str | Path) -> SearchSpace:
        """Load a search space.

        Args:
            name: name of a shipped space, path of a YAML file, or path of an exported codec's `codec.yaml`,
                which is a space with one architecture.

        Raises:
            InputError: there is no such space, or a field or value is wrong. The message names what is
                allowed.
        """
        path = resources.find("search_spaces", name)
        return cls.from_dict(resources.read_yaml(path), name=path.stem, source=str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, name: str, source: str = "") -> SearchSpace:
        """Make a space from the fields of its YAML file.

        Args:
            content: the fields.
            name: name of the space.
            source: where the fields come from, for messages.

        Raises:
            InputError: a field or value is wrong.
        """
        source = source or f"space '{name}'"
        if str(content.get("format", "")).startswith("nas-codec"):  # a codec.yaml
            if "layout" not in content:
                raise InputError(f"{source}: the field `layout` is missing.")
            kept = {key: content[key] for key in SpaceFields.model_fields if key in content}
            content = {**kept, "layouts": [content["layout"]]}
            name = "codec"
        fields = validated(SpaceFields, content, f"{source}:")
        try:
            return cls(name, **fields.parts())._with_short_keys()
        except InputError as error:
            raise InputError(f"{source}: {error}") from error

    def _with_short_keys(self) -> SearchSpace:
        longest = self.widest().key.rpartition("=")[0] + "=" + max(self.layouts, key=len)
        if len(longest) > MAX_KEY:
            raise InputError(f"Keys would be longer than {MAX_KEY} characters: use shorter names.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the space's YAML file, with every layout written out."""
        latents = {"y": self.y_channels, "z": self.z_channels}
        features = {"psi": self.psi_channels, "phi": self.phi_channels}
        features = {node: size for node, size in features.items() if size is not None}
        return {
            "family": self.family.name,
            "latents": {node: size for node, size in latents.items() if size and node not in self._setters},
            **({"features": features} if features else {}),
            **({"rates": list(self.rates)} if self.rates else {}),
            "quantizer": self.quantizer,
            "window": self.window,
            "widths": {slot.name: slot_field(slot) for slot in self.slots},
            "layouts": [{"name": name, **layout.to_dict()} for name, layout in self.layouts.items()],
            "grouping": {
                "groups": self.grouping.groups,
                "tile": list(self.grouping.tile),
                "stages": list(self.grouping.stages),
            },
        }

    def with_layouts(self, more: Mapping[str, Layout]) -> SearchSpace:
        """Return the same space with further candidate layouts, such as greedy ones.

        Args:
            more: the further layouts by name.
        """
        return replace(self, layouts={**self.layouts, **more})

    def only(self, architecture: Architecture) -> SearchSpace:
        """Return the space with only this architecture."""
        widths = dict(architecture.widths)
        slots = tuple(replace(slot, candidates=(widths[slot.name],)) for slot in self.slots)
        layout = self.layout(architecture)
        phi = 0 if layout.context == "table" else self.phi_channels
        narrowed = replace(self, slots=slots, layouts={architecture.layout: layout}, phi_channels=phi)
        if self.fixed_latents:
            return narrowed
        (y,), (z,) = narrowed.candidates("y"), narrowed.candidates("z")
        return replace(narrowed, y_channels=y, z_channels=z)

    # Choices

    @cached_property
    def _setters(self) -> dict[str, int]:
        """The index of the slot that sets each choice."""
        return {layer: number for number, slot in enumerate(self.slots) for layer, _ in slot.layers}

    def setter(self, choice: str) -> int | None:
        """Return the index of the slot that sets a choice or a node, or None if it is fixed."""
        return self._setters.get("y" if choice == "psi" else choice)

    def candidates(self, choice: str) -> tuple[int, ...]:
        """Return the possible widths of a choice or a node, in the order of its slot's candidates."""
        if choice == "psi" and self.psi_channels:
            return (self.psi_channels,)
        if choice == "psi":
            return tuple(self.family.psi_parts * channels for channels in self.candidates("y"))
        if choice in self._setters:
            slot = self.slots[self._setters[choice]]
            return tuple(slot.widths(candidate)[choice] for candidate in slot.candidates)
        return (self._fixed[choice],)

    @cached_property
    def _fixed(self) -> dict[str, int]:
        nodes = {"x": 3, "y": self.y_channels, "z": self.z_channels}
        return {**nodes, HYPERPRIOR: int(self.family.has_z)}

    @property
    def features(self) -> tuple[int, int]:
        """Numbers of hyper features (psi) and context features (phi), for families with a context model."""
        both = 2 * self.y_channels
        return self.psi_channels or both, both if self.phi_channels is None else self.phi_channels

    @property
    def with_convolution(self) -> bool:
        """Whether there is a context convolution."""
        return self.family.context and self.phi_channels != 0

    @property
    def with_tables(self) -> bool:
        """Whether any layout reads its context by a table."""
        return any(layout.context == "table" for layout in self.layouts.values())

    @property
    def fixed_latents(self) -> bool:
        """Whether y and z have the same channels in every architecture, so that any decoder fits a stream."""
        return not {"y", "z"} & set(self._setters)

    # Counting

    @cached_property
    def layout_names(self) -> tuple[str, ...]:
        """Names of the candidate layouts, from few stages to many, so that neighbours are similar."""
        return tuple(sorted(self.layouts, key=lambda name: (self.layouts[name].stages(), name)))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The number of choices of each slot, the layout last."""
        return (*(len(slot.candidates) for slot in self.slots), len(self.layouts))

    @property
    def size(self) -> int:
        """Number of different architectures."""
        return sum(math.prod(map(len, regime)) for regime in self.regimes)

    @cached_property
    def _needs(self) -> tuple[tuple[tuple[str, ...], ...], ...]:
        """For every slot, the layout last: for each layer that it sets, the choices that must not be 0."""
        needs = self.family.needs
        of_slots = [tuple(needs.get(layer, ()) for layer, _ in slot.layers) for slot in self.slots]
        return (*of_slots, (needs["layout"],))

    def _idle(self, indexes: Sequence[int]) -> list[int]:
        """The places of slots without effect, because everything that they set is left out."""

        def on(choice: str) -> bool:
            setter = self._setters.get(choice)
            return self.candidates(choice)[0 if setter is None else indexes[setter]] > 0

        return [
            number
            for number, needs in enumerate(self._needs)
            if not any(all(map(on, of_layer)) for of_layer in needs)
        ]

    def _settle(self, indexes: Sequence[int]) -> tuple[int, ...]:
        """The same indexes, with slots without effect at their first candidate."""
        settled = tuple(map(int, indexes))
        if not self._switches:
            return settled
        idle = self._idle_under_switches(settled)
        return tuple(0 if unused else index for unused, index in zip(idle, settled, strict=True))

    def settle_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Reset slots without effect to their first candidate, in rows of indexes, [n, slots + 1]."""
        if not self._switches or not len(rows):
            return rows
        off = rows[:, self._switches] == 0
        _, examples, kinds = np.unique(off, axis=0, return_index=True, return_inverse=True)
        idle = np.array([self._idle_under_switches(rows[example].tolist()) for example in examples])
        return np.where(idle[kinds.ravel()], 0, rows)

    def _idle_under_switches(self, indexes: Sequence[int]) -> tuple[bool, ...]:
        """Whether each slot is without effect. Only the switches decide this."""
        off = tuple(indexes[number] == 0 for number in self._switches)
        if off not in self._idle_by_state:
            settled, idle = list(indexes), [False] * len(indexes)
            for _ in range(2):  # a part that is left out may contain a switch
                for number in self._idle(settled):
                    settled[number], idle[number] = 0, True
            self._idle_by_state[off] = tuple(idle)
        return self._idle_by_state[off]

    @cached_property
    def _idle_by_state(self) -> dict[tuple[bool, ...], tuple[bool, ...]]:
        """Cached results of `_idle_under_switches`, by the switches that are off."""
        return {}

    @cached_property
    def _switches(self) -> tuple[int, ...]:
        """The places of slots whose 0 makes other slots ineffective."""
        choices = {choice for of_slot in self._needs for of_layer in of_slot for choice in of_layer}
        setters = {self._setters[choice] for choice in choices if choice in self._setters}
        return tuple(sorted(number for number in setters if self._turns_off(number)))

    def _turns_off(self, number: int) -> bool:
        if self.slots[number].candidates[0] > 0:
            return False
        names = {layer for layer, _ in self.slots[number].layers}
        return any(
            other != number and self.shape[other] > 1 and all(needs) and names & set().union(*needs)
            for other, needs in enumerate(self._needs)
        )

    @cached_property
    def regimes(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """The space as a few products: the allowed indexes of each slot for every setting of the switches.

        Together they contain every architecture once. A space without switches is one product.
        """
        whole = [tuple(range(count)) for count in self.shape]
        regimes = []
        for off in itertools.product((False, True), repeat=len(self._switches)):
            allowed = list(whole)
            for number, is_off in zip(self._switches, off, strict=True):
                allowed[number] = (0,) if is_off else whole[number][1:]
            if not all(allowed):
                continue
            first = [indexes[0] for indexes in allowed]
            idle = self._idle(first)
            if any(number in idle and first[number] for number in self._switches):
                continue
            for number in idle:
                allowed[number] = (0,)
            regimes.append(tuple(allowed))
        return tuple(regimes)

    # Architectures

    def at(self, indexes: Sequence[int]) -> Architecture:
        """Return the architecture at one index per slot, the layout last.

        Slots without effect are reset to index 0, so that equal networks have equal keys.

        Args:
            indexes: place of the choice among the candidates of each slot.
        """
        *widths, layout = self._settle(indexes)
        chosen = zip(self.slots, widths, strict=True)
        pairs = tuple((slot.name, slot.candidates[int(index)]) for slot, index in chosen)
        return Architecture(pairs, self.layout_names[int(layout)])

    def indexes(self, architecture: Architecture) -> tuple[int, ...]:
        """Return an architecture's indexes: one per slot, the layout last. The inverse of `at`."""
        places = self._places
        indexes = [places[name][width] for name, width in architecture.widths]  # in the order of the slots
        indexes.append(places["layout"][architecture.layout])
        return tuple(indexes)

    @cached_property
    def _places(self) -> dict[str, dict[Any, int]]:
        """The index of every candidate, by slot."""
        of_slots: dict[str, dict[Any, int]] = {
            slot.name: {candidate: k for k, candidate in enumerate(slot.candidates)} for slot in self.slots
        }
        return of_slots | {"layout": {name: k for k, name in enumerate(self.layout_names)}}

    def widest(self) -> Architecture:
        """Return the architecture with every width at its largest, and the layout with the most stages."""
        return self.at([count - 1 for count in self.shape])

    def narrowest(self) -> Architecture:
        """Return the architecture with every width at its smallest, and the layout with the fewest stages."""
        return self.at([0] * len(self.shape))

    def uniform(self, level: float, layout: str | None = None) -> Architecture:
        """Return the architecture with every slot at the same relative position.

        Args:
            level: from 0, the narrowest candidate, to 1, the widest.
            layout: name of its layout. By default it is at the same relative position, by stages.

        Raises:
            InputError: the space has no such layout.
        """
        places = [round(level * (count - 1)) for count in self.shape]
        chosen = self.at(places)
        return chosen if layout is None else self.under(layout, chosen)

    def under(self, layout: str, architecture: Architecture) -> Architecture:
        """Return the architecture with the same widths and another layout.

        Where no layout has an effect, this is the same architecture.

        Args:
            layout: name of the layout.
            architecture: the architecture with the widths.

        Raises:
            InputError: the space has no such layout.
        """
        if layout not in self.layouts:
            raise InputError(f"{self.name} has no layout '{layout}': {nearest(layout, self.layout_names)}")
        return self.at(self.indexes(replace(architecture, layout=layout)))

    def baselines(self) -> list[Architecture]:
        """Architectures that a search should beat: one relative width everywhere, under various layouts.

        The layouts are hand-made if there are any. Every width occurs once before any occurs again.
        """
        names = self._hand_made
        picks = list(dict.fromkeys([names[0], names[len(names) // 2], names[-1]]))
        architectures = [
            self.uniform(level, picks[(number + turn) % len(picks)])
            for turn in range(len(picks))
            for number, level in enumerate(self._levels)
        ]
        return list(dict.fromkeys(architectures))

    def starts(self) -> list[Architecture]:
        """The first architectures of a search: both ends, and every uniform width once."""
        uniform = self.baselines()[: len(self._levels)]
        return list(dict.fromkeys([self.narrowest(), self.widest(), *uniform]))

    def tapered(self) -> list[Architecture]:
        """Hand-made tapers: architectures half as wide (in relative position) at the picture as next to y.

        g_a widens from slot to slot, g_s narrows, and everything else is uniform, with a medium number of
        stages. Empty if neither edge has several slots.
        """
        edges = [slot.name.split(".")[0] for slot in self.slots]
        shares = [1.0] * len(self.slots)
        for edge in ("g_a", "g_s"):
            places = [number for number, other in enumerate(edges) if other == edge]
            for k, number in enumerate(places if edge == "g_s" else reversed(places)):
                shares[number] = 1 - 0.5 * k / max(1, len(places) - 1)  # of one slot alone: 1
        layout = self._hand_made[len(self._hand_made) // 2]
        architectures = []
        for level in self._levels:
            counts = zip(shares, self.shape[:-1], strict=True)
            places = [round(level * share * (count - 1)) for share, count in counts]
            architectures.append(self.under(layout, self.at([*places, 0])))
        uniform = {self.uniform(level, layout) for level in self._levels}
        return [architecture for architecture in dict.fromkeys(architectures) if architecture not in uniform]

    @property
    def _levels(self) -> list[float]:
        """Relative widths, as many as the slot of most candidates has."""
        most = max(self.shape[:-1], default=1)
        return [k / max(1, most - 1) for k in range(most)]

    @property
    def _hand_made(self) -> list[str]:
        """The layouts that no search found, from few stages to many; all of them where there are no such."""
        names = list(self.layout_names)
        return [name for name in names if not name.startswith(MADE_IN_RUNS)] or names

    def sample(self, rng: random.Random) -> Architecture:
        """Draw one architecture, uniformly in every slot, with the generator `rng`."""
        return self.at([rng.randrange(count) for count in self.shape])

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Every architecture one step away in one slot."""
        here = self.indexes(architecture)
        for number, count in enumerate(self.shape):
            for step in (-1, 1):
                if 0 <= here[number] + step < count:
                    neighbour = self.at([*here[:number], here[number] + step, *here[number + 1 :]])
                    if neighbour != architecture:
                        yield neighbour

    def layer_widths(self, architecture: Architecture) -> dict[str, int]:
        """The value of every choice of the family at this architecture, in the order of the graph."""
        widths = dict(architecture.widths)
        of_layers = {
            layer: value for slot in self.slots for layer, value in slot.widths(widths[slot.name]).items()
        }
        order = {name: number for number, name in enumerate((HYPERPRIOR, "y", "z", *self.family.choices))}
        return dict(sorted(of_layers.items(), key=lambda item: order[item[0]]))

    def encoder(self, architecture: Architecture) -> tuple[tuple[str, int], ...]:
        """The choices that g_a depends on, with their values: architectures that have them equal make one y.

        Args:
            architecture: an architecture of this space.
        """
        widths = self.layer_widths(architecture)
        inside = (name for name in self.family.choices if self.family.edge_of(name) == "g_a")
        return tuple((name, widths[name]) for name in ("y", *inside) if name in widths)

    def layout(self, architecture: Architecture) -> Layout:
        """The order of decoding.

        Args:
            architecture: an architecture of this space.
        """
        layout = self.layouts[architecture.layout]
        setter = self.setter("y")
        if setter is None:
            return layout
        slot = self.slots[setter]
        channels = slot.widths(dict(architecture.widths)[slot.name])["y"]
        return replace(layout, groups=(channels,))

    def parse(self, key: str) -> Architecture:
        """The architecture that a key names.

        Raises:
            InputError: the key is not one of this space; says which part, and what is allowed there.
        """
        if not isinstance(key, str) or not re.fullmatch(rf"[A-Za-z0-9._=+-]{{1,{MAX_KEY}}}", key):
            raise InputError(
                f"'{str(key)[:60]}' is not an architecture's key: keys look like {self.narrowest().key}"
            )
        pieces = key.split("+")
        parts = dict(piece.partition("=")[::2] for piece in pieces)
        edges: dict[str, list[Slot]] = {}
        for slot in self.slots:
            edges.setdefault(slot.name.split(".")[0], []).append(slot)
        if set(parts) == {*edges} and len(parts) == len(pieces):
            raise without_layout(key, self.narrowest().key)
        if set(parts) != {*edges, "layout"} or len(parts) != len(pieces):
            expected = "+".join(f"{edge}=..." for edge in [*edges, "layout"])
            raise InputError(f"The key '{key}' does not fit {self.name}: its keys look like {expected}")
        chosen: dict[str, int] = {}
        for edge, slots in edges.items():
            values = parts[edge].split("-")
            if len(values) != len(slots):
                raise InputError(f"'{edge}={parts[edge]}' should hold {len(slots)} numbers joined by '-'.")
            for slot, value in zip(slots, values, strict=True):
                if value not in map(str, slot.candidates):
                    allowed = ", ".join(map(str, slot.candidates))
                    raise InputError(f"Slot {slot.name} of {self.name} cannot be '{value}': it is {allowed}.")
                chosen[slot.name] = int(value)
        widths = tuple((slot.name, chosen[slot.name]) for slot in self.slots)
        return self.under(parts["layout"], Architecture(widths, parts["layout"]))
