"""Budgets: limits on the cost of a codec. No torch here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from nas.support import resources
from nas.support.errors import InputError, nearest
from nas.support.fields import Strict, validated
from nas.support.limits import check_size, is_absurd

SCOPES = ("encoder", "decoder", "total")
ACTIONS = ("encode", "decode")
REFERENCE_SIZE = (768, 512)  # width and height that costs refer to if no size is given
REFERENCE_PIXELS = REFERENCE_SIZE[0] * REFERENCE_SIZE[1]

# The units in which a number may be given: the unit it is converted to, the factor, and what it can limit.
_MACS, _ACTS = frozenset(SCOPES), frozenset(ACTIONS)
_UNITS: dict[str, tuple[str, float, frozenset[str]]] = {
    "kMAC/px": ("kMAC/px", 1, _MACS),
    "%": ("%", 1, _MACS),
    "MMAC": ("GMAC", 1e-3, _MACS),
    "GMAC": ("GMAC", 1, _MACS),
    "ms": ("ms", 1, _ACTS),
    "s": ("ms", 1000, _ACTS),
    "MB": ("MB", 1, _ACTS),
    "GB": ("MB", 1000, _ACTS),
    "stages": ("stages", 1, frozenset({"stages"})),
    "parameters": ("parameters", 1, frozenset({"parameters"})),
    "k parameters": ("parameters", 1e3, frozenset({"parameters"})),
    "M parameters": ("parameters", 1e6, frozenset({"parameters"})),
}
_BARE = {**dict.fromkeys(SCOPES, "kMAC/px"), "stages": "stages", "parameters": "parameters"}
_FORMS = {  # examples for messages, by the unit of a bare number
    "kMAC/px": "20 (kMAC per pixel), 60% (of the widest), 30ms, 4 GMAC at 1920x1080, 200MB, 4 stages or 5M "
    "parameters",
    "stages": "a whole number of stages from 1, such as 4",
    "parameters": "a number of parameters, such as 5M parameters",
}
_AMOUNT = re.compile(
    r"(?P<number>(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)"
    r"\s*(?P<unit>%|[a-zA-Z][a-zA-Z/ ]*?)?"
    r"(?:\s*@\s*(?P<device>[a-z][a-z0-9-]*))?"
    r"(?:\s+at\s+(?P<width>[0-9]{1,9})\s*x\s*(?P<height>[0-9]{1,9}))?",
    re.IGNORECASE,
)
_EITHER = re.compile(r"[0-9]{1,3},[0-9]{3}(?:e.*)?", re.IGNORECASE)  # the comma is ambiguous
_WHOLE = ("stages", "parameters")  # units without decimals, so that a comma can only group
_SIZED = ("GMAC", "ms", "MB")  # units that depend on the size of the picture
_TIMED = ("ms", "MB")  # units that are measured on a device
THIS_MACHINE = ("auto", "cpu", "cuda")  # names of this machine's devices
_DEVICE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,30}")
_MOST = 1e18  # largest value in any unit; more is probably a mistake


@dataclass(frozen=True)
class Amount:
    """A cost as a user writes it.

    Attributes:
        value: the number.
        unit: kMAC/px, % (of the widest architecture's MACs), GMAC, ms, MB (10^6 bytes), stages, parameters.
        size: width and height of the picture, for GMAC, ms and MB.
        device: the device whose profile is used, for ms and MB. None means this machine.
    """

    value: float
    unit: str
    size: tuple[int, int] | None = None
    device: str | None = None

    @classmethod
    def parse(cls, text: str | float, bare: str = "kMAC/px") -> Amount:
        """Read `20`, `60%`, `30 ms`, `30ms@phone`, `4 GMAC at 1920x1080`, `200 MB`, `5M parameters`.

        Args:
            text: the text.
            bare: unit of a number without one.

        Raises:
            InputError: the text is not an amount.
        """
        match = _AMOUNT.fullmatch(str(text).strip())
        word = "" if match is None else " ".join((match["unit"] or bare).split())
        unit = next((candidate for candidate in _UNITS if _same_unit(candidate, word)), None)
        number = 0.0 if match is None else float(match["number"].replace(",", ""))
        if match is not None and unit not in _WHOLE and _EITHER.fullmatch(match["number"]):
            match = None
        if match is None or unit is None or not 0 < number < _MOST:
            commas = "; leave commas out, and write decimals with a point" if "," in str(text) else ""
            forms = _FORMS.get(bare, _FORMS["kMAC/px"])
            raise InputError(f"'{text}' is not an amount above 0: write {forms}{commas}.")
        name, times, _ = _UNITS[unit]
        if name == "%" and number > 100:
            raise InputError(f"'{text}' is more than the widest architecture costs: ask for at most 100%.")
        size = (int(match["width"]), int(match["height"])) if match["width"] else None
        if size is not None and (name not in _SIZED or min(size) < 1):
            raise InputError(
                f"'{text}': only GMAC, ms and MB depend on a picture's size, so leave the size out."
            )
        if size is not None:
            try:
                check_size(*size)
            except InputError as error:
                raise InputError(f"'{text}': {error}") from error
        device = match["device"]
        if device is not None and name not in _TIMED:
            raise InputError(f"'{text}': only times in ms depend on a device, so leave @{device} out.")
        return cls(number * times, name, (size or REFERENCE_SIZE) if name in _SIZED else None, device)

    def on(self, device: str | None) -> Amount:
        """Return the amount on a device, if it depends on a device and names none."""
        return replace(self, device=device) if self.unit in _TIMED and self.device is None else self

    def __str__(self) -> str:
        where = f" at {self.size[0]}x{self.size[1]}" if self.size and self.size != REFERENCE_SIZE else ""
        if self.unit == "%":
            return f"{self.value:.10g}%"
        device = "" if self.device is None else f"@{self.device}"
        value = f"{self.value:,.10g}" if self.unit in _WHOLE else f"{self.value:.10g}"
        return f"{value} {self.unit}{device}{where}"


AmountKind = tuple[str, tuple[int, int] | None, str | None]  # unit, size of the picture, device
BudgetMeasure = tuple[str, str, tuple[int, int] | None, str | None]  # quantity, then as in `AmountKind`


@dataclass(frozen=True)
class Limit:
    """A limit on a cost: `decoder <= 20 kMAC/px`, `decode <= 150 ms at 1920x1080`.

    Attributes:
        what: `encoder`, `decoder`, `total` (MACs); `encode`, `decode` (time, memory); `stages`, `parameters`.
        most: the largest allowed amount.
    """

    what: str
    most: Amount

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read one limit. An InputError shows the form of a limit.

        Args:
            text: the text, such as `stages <= 4`.
        """
        what, sign, amount = (word.strip() for word in re.sub("≤", "<=", text).partition("<="))
        names = (*SCOPES, *ACTIONS, *_BARE)
        if not sign or what not in names:
            hint = "" if what in names else f" ({nearest(what, list(dict.fromkeys(names))).rstrip('.')})"
            raise InputError(
                f"'{text.strip()}' is not a limit{hint}: write decoder <= 20 kMAC/px, decode <= 150 ms at "
                "1920x1080, decode <= 200 MB, stages <= 4 or parameters <= 5M parameters, joined by 'and'."
            )
        if what in ACTIONS and re.fullmatch(r"[0-9.,]+", amount):
            raise InputError(f"'{text.strip()}' needs a unit: ms or MB.")
        limit = cls(what, Amount.parse(amount, _BARE.get(what, "kMAC/px")))
        if not any(limit.most.unit == unit and what in can for unit, _, can in _UNITS.values()):
            can = dict.fromkeys(unit for unit, _, can in _UNITS.values() if what in can)
            raise InputError(f"'{text.strip()}': {what} is limited in {' or '.join(can)}.")
        return limit

    @classmethod
    def parse_all(cls, text: str) -> tuple[Limit, ...]:
        """Read several limits joined by `and`.

        Args:
            text: the text, such as `stages <= 4 and decode <= 30 ms`.
        """
        return tuple(cls.parse(piece) for piece in re.split(r"\band\b|;", text.strip().removesuffix(";")))

    def __str__(self) -> str:
        most = f"{self.most.value:.10g}" if self.what == "stages" else str(self.most)
        return f"{self.what} <= {most}"


Limits = str | Limit | Sequence[str | Limit]  # as a caller may give them


@dataclass(frozen=True)
class Span:
    """Evenly spaced targets.

    Attributes:
        levels: number of targets. The last one is `end`, and the first one is a step above `start`.
        start, end: the range. None means the least or the largest cost that the space can reach.
    """

    levels: int
    start: Amount | None = None
    end: Amount | None = None

    def values(self, least: float, most: float) -> list[float]:
        """The targets for a reachable range. A given `start` is a target itself.

        Args:
            least: the least that the space can reach, in the unit of the targets.
            most: the most that the space can reach, in the unit of the targets.
        """
        low = least if self.start is None else self.start.value
        high = most if self.end is None else self.end.value
        if self.start is not None and self.levels > 1:
            return [low + (high - low) * k / (self.levels - 1) for k in range(self.levels)]
        return [low + (high - low) * (k + 1) / self.levels for k in range(self.levels)]


@dataclass(frozen=True)
class Budget:
    """Limits on the cost of a codec: targets to search for, and limits that every answer meets.

    Load one with `Budget.load`, or make one for a single target with `Budget.of`.

    Args:
        name: name for messages.
        scope: whose MACs the targets limit: `encoder`, `decoder` or `total`. Time and memory are those of
            encoding in the scope `encoder`, and otherwise those of decoding.
        targets: amounts to search for, all in one unit. Empty means the whole range.
        span: more targets, evenly spaced.
        limits: limits that every architecture must meet, whatever the target.
        device: the device for times that name none. None means this machine.
        typed: whether to refuse a target above the widest architecture, because a person has typed it. In a
            file, which may describe a device, such a target limits nothing.

    Example:
        >>> nas.Budget.load("three-levels").scope
        'total'
        >>> print(*nas.Budget.of(["20", "60%"], "decoder", limits="stages <= 4").targets)
        20 kMAC/px 60%
    """

    name: str
    scope: str = "total"
    targets: tuple[Amount, ...] = ()
    span: Span | None = None
    limits: tuple[Limit, ...] = ()
    typed: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        check_scope(self.scope)
        kinds = sorted({_kind_name(self._kind(amount)) for amount in self._amounts})
        if len(kinds) > 1:
            raise InputError(
                f"All targets of a budget are in one unit, not {' and '.join(kinds)}: make the others limits."
            )

    def __repr__(self) -> str:
        targets = ", ".join(map(str, self.targets)) or "the whole range"
        if self.span:
            targets = f"{self.span.levels} levels"
        limits = "".join(f", {limit}" for limit in self.limits)
        return f"Budget({self.name!r}: {self.scope} at {targets}{limits})"

    @property
    def _amounts(self) -> list[Amount]:
        ends = (self.span.start, self.span.end) if self.span else ()
        return [*self.targets, *(end for end in ends if end is not None)]

    @staticmethod
    def _kind(amount: Amount) -> AmountKind:
        return ("kMAC/px" if amount.unit == "%" else amount.unit), amount.size, amount.device

    @property
    def measure(self) -> BudgetMeasure:
        """The quantity that the targets limit, its unit, the size of the picture or None, and the device."""
        amounts = self._amounts
        unit, size, device = self._kind(amounts[0]) if amounts else ("kMAC/px", None, None)
        if unit in _TIMED:
            return ("encode" if self.scope == "encoder" else "decode"), unit, size, device
        return (unit if unit in ("stages", "parameters") else self.scope), unit, size, device

    @property
    def measures(self) -> list[BudgetMeasure]:
        """The quantities of the targets and of every limit, each as in `measure`."""
        return [self.measure, *((x.what, x.most.unit, x.most.size, x.most.device) for x in self.limits)]

    @property
    def is_elsewhere(self) -> bool:
        """Whether anything is measured on another device than this machine."""
        return any(device not in (None, *THIS_MACHINE) for *_, device in self.measures)

    @classmethod
    def load(cls, name: str | Path) -> Budget:
        """Load a budget.

        Args:
            name: name of a shipped budget, or path of a YAML file.

        Raises:
            InputError: there is no such budget, or a field or value is wrong. The message names it.
        """
        path = resources.find("budgets", name)
        fields = validated(_BudgetFields, resources.read_yaml(path, spaced=True), f"{path}:")
        try:
            return fields.build(path.stem)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def asked(
        cls,
        budget: Budget | str | float | Path | None,
        target: str | float | None = None,
        scope: str | None = None,
        limits: Limits = (),
    ) -> Budget:
        """Make a budget from the arguments of a caller. Without arguments it covers the whole range.

        Args:
            budget: a Budget, the name of a shipped one, a YAML file's path, or a target such as "60%".
            target: 20 (kMAC per pixel), 60% (of the widest architecture) or 30ms, instead of a budget.
            scope: scope of the target: `encoder`, `decoder` or `total` (the default).
            limits: further limits such as "stages <= 4", beside the target or those of the budget.

        Raises:
            InputError: a target or a scope is given together with a budget, or a value is wrong.
        """
        if is_absurd(budget) or is_absurd(target):
            raise InputError("A target cannot be so large a number: give a smaller one.")
        is_target = not isinstance(budget, Budget | Path | None) and re.match(r"\s*[-.\d]", str(budget))
        if is_target and target is None:  # names of budgets do not begin like numbers
            budget, target = None, str(budget)
        if budget is not None:
            if target is not None or scope is not None:
                raise InputError("A budget has its own targets and scope: leave --target and --scope out.")
            asked = budget if isinstance(budget, Budget) else cls.load(str(budget))
        else:
            scope = "total" if scope is None else scope
            asked = cls.of(str(target), scope) if target is not None else cls("whole range", scope)
        return asked.limited(limits)

    def limited(self, limits: Limits) -> Budget:
        """Return the same budget with further limits, such as "stages <= 4", or a list of them.

        Raises:
            InputError: it is not a limit.
        """
        listed = [limits] if isinstance(limits, str | Limit) else limits
        if not isinstance(listed, Sequence) or not all(isinstance(given, str | Limit) for given in listed):
            raise InputError("`limits` has to be a list of limits, such as 'stages <= 4'.")
        parsed = [
            limit
            for given in listed
            for limit in (Limit.parse_all(given) if isinstance(given, str) else [given])
        ]
        more = tuple(replace(limit, most=limit.most.on(self.device)) for limit in parsed)
        return replace(self, limits=(*self.limits, *more))

    def narrowed(self, target: str | float) -> Budget:
        """Return the same limits in the same scope with this single target, such as "20" or "60%".

        Raises:
            InputError: it is not a target.
        """
        return replace(self, targets=(Amount.parse(target).on(self.device),), span=None, typed=True)

    @classmethod
    def of(
        cls, target: str | float | Sequence[str | float], scope: str = "total", limits: Limits = ()
    ) -> Budget:
        """Make a budget with one target, as `--target` does, or with several.

        Args:
            target: "20" (kMAC per pixel), "60%" (of the widest architecture) or "30ms"; or a list of such.
            scope: `encoder`, `decoder` or `total`.
            limits: further limits, such as "stages <= 4".

        Raises:
            InputError: it is not a target or a limit, or there is no such scope.
        """
        listed = [target] if isinstance(target, str) or not isinstance(target, Sequence) else list(target)
        if not listed:
            raise InputError("`target` is an empty list: give at least one target.")
        name = f"target{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"
        return cls(name, scope, tuple(map(Amount.parse, listed)), typed=True).limited(limits)


class _SpanFields(Strict):
    start: str | float | None = Field(default=None, alias="from")
    end: str | float | None = Field(default=None, alias="to")
    levels: int = Field(ge=1, le=1000)

    def build(self) -> Span:
        ends = [None if end is None else Amount.parse(end) for end in (self.start, self.end)]
        if any(end is not None and end.unit == "%" for end in ends):
            raise InputError(
                "`targets`: the ends of a range cannot be in %, so give them in another unit, such as "
                "kMAC/px."
            )
        low, high = ends
        if low is not None and high is not None and low.value >= high.value:
            raise InputError(f"`targets`: the range from {low} to {high} is empty.")
        return Span(self.levels, low, high)


def _kind_of_targets(value: Any) -> str:
    return "_range" if isinstance(value, dict | _SpanFields) else "_list"


class _BudgetFields(Strict):
    scope: Literal["encoder", "decoder", "total"] = "total"
    targets: Annotated[
        Annotated[list[str | float], Tag("_list")] | Annotated[_SpanFields, Tag("_range")],
        Discriminator(_kind_of_targets),
    ] = Field(default_factory=list)
    levels: int = Field(default=0, ge=0, le=1000)
    limits: list[str] | str = Field(default_factory=list)
    max_stages: int | None = Field(default=None, ge=1)
    device: str | None = None

    def build(self, name: str) -> Budget:
        texts = [self.limits] if isinstance(self.limits, str) else self.limits
        limits = [limit for text in texts for limit in Limit.parse_all(text)]
        if self.max_stages is not None:
            limits.append(Limit("stages", Amount(self.max_stages, "stages")))
        if isinstance(self.targets, _SpanFields):
            span: Span | None = self.targets.build()
            targets: list[str | float] = []
        else:
            span, targets = (Span(self.levels) if self.levels else None), self.targets
        if not targets and not span and not limits:
            raise InputError(
                "it needs `targets` (a list such as [20, 60%], or {from: 10, to: 60, levels: 6}), `levels` "
                "(how many) or `limits` (such as decoder <= 20)."
            )
        parsed = tuple(Amount.parse(target).on(self.device) for target in targets)
        if self.device is not None:
            check_device(self.device)
            limits = [replace(limit, most=limit.most.on(self.device)) for limit in limits]
            ends = () if span is None else (span.start, span.end)
            if span is not None:
                low, high = (end and end.on(self.device) for end in ends)
                span = replace(span, start=low, end=high)
            amounts = [*parsed, *(limit.most for limit in limits), *ends]
            if not any(amount is not None and amount.unit in _TIMED for amount in amounts):
                raise InputError("`device` needs a target or a limit in ms: add one, or leave it out.")
        return Budget(name, self.scope, parsed, span, tuple(limits), device=self.device)


def check_scope(scope: str) -> str:
    """Check the name of a scope.

    Args:
        scope: `encoder`, `decoder` or `total`.

    Raises:
        InputError: it is none of these.
    """
    if not isinstance(scope, str) or scope not in SCOPES:
        raise InputError(f"There is no scope '{scope}': choose one of {', '.join(SCOPES)}.")
    return scope


def check_device(name: str, *, new: bool = False) -> str:
    """Check the name of another device.

    Args:
        name: name after the @.
        new: whether the name is for a new device.

    Raises:
        InputError: it has characters other than letters, digits and '-', or is the name of a device of this
            machine.
    """
    if not _DEVICE.fullmatch(name):
        raise InputError(f"'{name}' cannot name a device: use letters, digits and '-', such as phone.")
    if new and name.lower() in THIS_MACHINE:
        raise InputError(f"'{name}' is a device of this machine: give the other one another name.")
    return name


def _same_unit(unit: str, word: str) -> bool:
    """Whether two units are equal. Case matters only for M (mega) and k."""
    plain = re.sub(r"\b(param|parameter|stage)s?$", _in_full, word)
    return plain == unit or (plain.lower() == unit.lower() and unit not in ("MB", "GB"))


def _in_full(word: re.Match[str]) -> str:
    return {"stage": "stages"}.get(word[1], "parameters")


def _kind_name(kind: AmountKind) -> str:
    unit, size, device = kind
    unit = unit if device is None else f"{unit}@{device}"
    return unit if size in (None, REFERENCE_SIZE) else f"{unit} at {size[0]}x{size[1]}"
