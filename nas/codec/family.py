"""A family: one encoder and one entropy path, several orders of decoding and several decoders.

::

    x --g_a--> y --h_a--> z            one encoder
    z --h_s--> psi --context--> y      one set of weights for all layouts; each layout gives its own kind of
    file y --g_s--> x_hat                   decoders; any of them decodes any file of the family

The latents of a picture are the same under every layout, so a file can be re-coded from one layout to another
without loss. An ordinary codec is a family with one layout and one decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from nas.codec.codec import Codec
from nas.metrics.objective import Objective
from nas.spaces.architecture import Architecture
from nas.spaces.budget import Amount
from nas.spaces.layout import Layout
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError, UnreachableBudgetError, nearest
from nas.support.limits import check_count

CodecCheck = Callable[[Codec], None]


@dataclass(frozen=True)
class Member:
    """One decoder of a family.

    Attributes:
        space: space of the one architecture that consists of the encoder, the first layout and this decoder.
        g_s: layers of the decoder's g_s.
        facts: its entries in codec.yaml, if known: `kmac_px`, `kmac_px_by_edge`, `params`, `measured`.
    """

    space: SearchSpace
    g_s: nn.Module
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> Architecture:
        """The architecture with this decoder's g_s."""
        return self.space.widest()  # the only architecture of the space

    @property
    def decoder_kmac_px(self) -> float | None:
        """Cost of decoding with it under the first layout in kMAC per pixel, if known."""
        cost = self.facts.get("kmac_px", {}).get("decoder")
        return None if cost is None else float(cost)


class CodecFamily:
    """Codecs that share an encoder and the weights of an entropy path.

    Load one with `nas.load_family`.

    Args:
        base: the codec with the first layout and one of the decoders.
        layouts: the layouts by name, with that of `base` first.
        decoders: all decoders, with the cheapest first. That of `base` is among them.
        layout_facts: entries of codec.yaml for each layout, if known: `stages`, `kmac_px` with the decoder of
            `base`, `bpp`.
        check: called with every codec before it is returned (see `codec.check`).
        objective: objective that the codec was trained for, if known. Over a range of rates, at the middle
            rate.
    """

    def __init__(
        self,
        base: Codec,
        layouts: Mapping[str, Layout] | None = None,
        decoders: Sequence[Member] = (),
        layout_facts: Mapping[str, Mapping[str, Any]] | None = None,
        check: CodecCheck | None = None,
        objective: Objective | None = None,
    ) -> None:
        network = base.network
        self.base, self.objective = base, objective
        self.layouts = dict(layouts or {base.layout.name: base.layout})
        self.decoders = tuple(decoders) or (Member(network.space, network.g_s),)
        self.layout_facts = {name: dict((layout_facts or {}).get(name, {})) for name in self.layouts}
        self._check = check
        self._codecs: dict[tuple[str, int], Codec] = {}  # codecs that have passed the check
        if len(self.layouts) > 1 and not (network.with_z and not network.centred):
            raise InputError(
                "Several layouts need latents that are integers, and a hyper-latent z: give this codec "
                "one layout."
            )

    def __repr__(self) -> str:
        names = ", ".join(self.layouts)
        return f"CodecFamily({self.base.network.space.family.name}, {len(self.decoders)} decoders, {names})"

    @property
    def default(self) -> int:
        """Index of the base codec's decoder in `decoders`."""
        return [member.g_s is self.base.network.g_s for member in self.decoders].index(True)

    def to(self, device: torch.device) -> CodecFamily:
        """Move all layers to a device."""
        self._codecs.clear()  # their coding paths stay on the previous device
        self.base.to(device)
        for member in self.decoders:
            member.g_s.to(device)
        return self

    @torch.inference_mode(False)
    def codec(self, layout: str | None = None, decoder: int | None = None) -> Codec:
        """Return the codec with a layout and a decoder. Its layers are the family's own, not copies.

        The codec is made and checked once, and then kept.

        Args:
            layout: name of the layout. By default the first.
            decoder: index in `decoders`. By default that of the base codec.

        Raises:
            InputError: the family has no such layout, or no such decoder.
        """
        name = self.base.architecture.layout if layout is None else layout
        if not isinstance(name, str) or name not in self.layouts:
            raise InputError(f"This codec has no layout '{name}': {nearest(name, list(self.layouts))}")
        index = self.default if decoder is None else check_count(decoder, "decoder")
        if index >= len(self.decoders):
            last = len(self.decoders) - 1
            raise InputError(f"This codec has no decoder {index}: give a whole number from 0 to {last}.")
        if (assembled := self._codecs.get((name, index))) is not None:
            return assembled
        if name == self.base.architecture.layout and index == self.default:
            codec = self.base
        else:
            codec = self._assemble(name, self.decoders[index])
        if self._check is not None:
            self._check(codec)
        self._codecs[name, index] = codec
        return codec

    def _assemble(self, name: str, member: Member) -> Codec:
        base = self.base
        space = replace(member.space, layouts={name: self.layouts[name]})
        architecture = replace(member.architecture, layout=name)
        return Codec(base.network.with_g_s(member.g_s, space), architecture, base.table, base.integers)

    def layout_of(self, path_identity: str) -> str | None:
        """Return the name of the layout whose entropy path has the given identity, or None.

        Args:
            path_identity: the identity in the header of a .nic file.
        """
        if path_identity == self.base.path_identity:
            return self.base.architecture.layout
        for name, layout in self.layouts.items():
            if self.base.identity_under(layout) == path_identity:
                return name
        return None

    def decoder_kmac_px(self, decoder: int, layout: str) -> float:
        """Return the cost of decoding in kMAC per pixel: h_s, the context under a layout, and one g_s.

        Args:
            decoder: index in `decoders`.
            layout: name of the layout.

        Raises:
            InputError: the codec's folder does not say what it costs.
        """
        first = self.layout_facts[self.base.architecture.layout].get("kmac_px", {}).get("decoder")
        with_layout = self.layout_facts[layout].get("kmac_px", {}).get("decoder", first)
        with_decoder = self.decoders[decoder].decoder_kmac_px
        if with_decoder is None and len(self.decoders) == 1:  # the decoder of the codec itself
            with_decoder = first
        if with_decoder is None or (with_layout is None) != (first is None):
            raise InputError("This codec's folder does not say what its decoders cost: export it again.")
        return with_decoder if first is None else with_decoder + (with_layout - first)

    def decoder_within(self, target: str | float, layout: str) -> int:
        """Return the index of the best decoder within a target: the most expensive one that fits.

        Args:
            target: kMAC per pixel, or a share of the most expensive decoder's cost, such as `60%`.
            layout: layout of the file to decode.

        Raises:
            InputError: `target` is not such a target.
            UnreachableBudgetError: every decoder costs more.
        """
        amount = Amount.parse(target)
        costs = [self.decoder_kmac_px(index, layout) for index in range(len(self.decoders))]
        match amount.unit:
            case "kMAC/px":
                most = amount.value
            case "%":
                most = amount.value / 100 * costs[-1]
            case _:
                raise InputError(
                    f"A decoder is chosen by what it computes, not by '{target}': give kMAC per pixel (10), "
                    "or a share of the most expensive one's (60%)."
                )
        fit = [index for index, cost in enumerate(costs) if cost <= most * (1 + 1e-9)]
        if not fit:
            raise UnreachableBudgetError(
                f"No decoder of this family costs at most {most:.4g} kMAC/px for a file in the layout "
                f"{layout}: they cost {costs[0]:.4g} to {costs[-1]:.4g}."
            )
        return fit[-1]

    def choose_layouts(self, name: str | None = None, stages: int | None = None) -> list[str]:
        """Return the layouts to try: a named one, those with few enough stages, or by default the first.

        Args:
            name: name of a layout.
            stages: largest number of stages, counted at 768x512.

        Raises:
            InputError: both are given, or no layout fits.
        """
        if name is not None and stages is not None:
            raise InputError("Give a layout's name or the most stages, not both.")
        if name is not None and name not in list(self.layouts):
            raise InputError(f"This codec has no layout '{name}': {nearest(str(name), list(self.layouts))}")
        if stages is None:
            return [name or self.base.architecture.layout]
        check_count(stages, "stages")
        names = [layout_name for layout_name, layout in self.layouts.items() if layout.stages() <= stages]
        if not names:
            least = min(layout.stages() for layout in self.layouts.values())
            raise InputError(f"No layout of this codec has at most {stages} stages: ask for {least} or more.")
        return names
