"""Resolves a budget for one space: the limited quantities, and the reachable costs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from nas.cost.counting.cache import load_or_measure_costs, store_costs
from nas.cost.counting.table import CostTable
from nas.cost.exact.feasible import FeasibleSet
from nas.cost.exact.quantity import Bound, Quantity, edges, giga_macs, parameters, scopes, stages
from nas.cost.exact.reach import most_kmac_px
from nas.run import Run
from nas.spaces.budget import REFERENCE_SIZE, THIS_MACHINE, Amount, Budget, Limit
from nas.support.errors import InputError, InputWarning, UnreachableBudgetError

if TYPE_CHECKING:
    from nas.profiling.predict import Predictor

Size = tuple[int, int]


def costs_of(run: Run) -> CostTable:
    """The costs of a run's space at 768x512, kept or measured. Nothing is written: see `store_costs_of`.

    Args:
        run: the run.
    """
    return load_or_measure_costs(run.space, run.costs_path, keep=False)


def store_costs_of(run: Run, costs: CostTable) -> None:
    """Keep a run's costs where something can be kept there, so that they are measured once.

    Commands call it when they are no longer refused, because a refused one leaves nothing behind.

    Args:
        run: the run.
        costs: the costs of its space, from `costs_of`.
    """
    if run.is_writable:
        store_costs(costs, run.costs_path)


@dataclass(frozen=True)
class Question:
    """A budget, resolved for one space.

    Attributes:
        quantity: the quantity that the targets limit.
        feasible: the architectures that meet the budget's other limits.
        targets: in integer units of the quantity, ascending; none for the whole range.
        span: the least, the median and the most of the quantity within the limits.
    """

    quantity: Quantity
    feasible: FeasibleSet
    targets: tuple[int, ...]
    span: tuple[int, int, int]

    @property
    def asked(self) -> tuple[int, ...]:
        """The targets to answer. With limits alone, it is the largest cost that they allow."""
        return self.targets or ((self.span[2],) if self.feasible.bounds else ())

    @property
    def idle(self) -> str | None:
        """A sentence on targets that limit nothing, since all architectures within the limits cost less."""
        quantity, most = self.quantity, self.span[2]
        above = [
            quantity.format(target) for target in self.targets if not _is_reachable(quantity, target, most)
        ]
        if not above:
            return None
        return (
            f"no architecture costs more than {quantity.format_with_title(most)}, so the best of all "
            f"answers {' and '.join(above)}"
        )


@dataclass
class Quantities:
    """The costs of a run's space.

    Args:
        run: for its profiles; a budget in ms or MB needs one.
        costs: MACs and parameters of its space.
        device: `auto`, `cpu` or `cuda`, whose profiles count.
    """

    run: Run
    costs: CostTable
    device: str = "auto"
    _predictors: dict[tuple[Size, str | None], Predictor] = field(default_factory=dict)
    _tables: dict[Size, CostTable] = field(default_factory=dict)
    _questions: dict[Budget, Question] = field(default_factory=dict)

    def of_copy(self, run: Run) -> Quantities:
        """The same for a copy of the run: what was looked at or solved is not again."""
        return replace(self, run=run)

    def of(self, what: str, unit: str, size: Size | None, device: str | None = None) -> Quantity:
        """The quantity that a limit names.

        Args:
            what: name of the quantity: a scope, an action, or a name such as `stages`.
            unit: unit of the limit.
            size: width and height of the picture in pixels, for GMAC, ms and MB; None for other units.
            device: the device that ms and MB are of; None for this machine.

        Raises:
            InputError: it needs a profile that there is not.
        """
        if unit == "GMAC":
            assert size is not None
            width, height = size
            if size not in self._tables:  # seconds, and asked for by every target
                from nas.cost.counting.tabulate import measured_costs

                self._tables[size] = measured_costs(self.costs.space, size)
            return giga_macs(self._tables[size], what, width, height)
        if unit in ("ms", "MB"):
            assert size is not None
            from nas.profiling.timing import MOST_DISTURBANCE

            predictor = self.predictor(size, device)
            measured = predictor.measured
            if unit == "ms" and measured.disturbance > MOST_DISTURBANCE:
                warnings.warn(measured.warning(), InputWarning, stacklevel=2)
            return predictor.time(what) if unit == "ms" else predictor.memory(what)
        return self._known[what]

    def predictor(self, size: Size, device: str | None = None) -> Predictor:
        """The measurements of this machine, or of another device, for pictures of this size.

        Args:
            size: width and height of the picture, in pixels.
            device: name of the device; None for this machine.

        Raises:
            InputError: nothing of the space was measured, or not all of it.
        """
        from nas.profiling.measure import path_of
        from nas.profiling.measurements import Measurements, how_to_measure_again
        from nas.profiling.predict import Predictor
        from nas.support.device import choose

        if (size, device) not in self._predictors:
            where = device or choose(self.device).type
            path = path_of(self.run, where, size)
            if not path.is_file():
                if device is not None:
                    raise InputError(no_such_device(self.run, device, size))
                shape = "" if size == REFERENCE_SIZE else f" --size {size[0]}x{size[1]}"
                what = self.run.how_to_run("profile", shape) + ("" if self.run.read_only else " first")
                others = _profiled_sizes(self.run, where)
                known = (
                    f" at {size[0]}x{size[1]}, and there are only some at {' and '.join(others)}"
                    if others
                    else ""
                )
                raise InputError(f"Limits in ms and MB need this machine's figures{known}: {what}.")
            measured = Measurements.read(path)
            if measured.facts.get("weights") != self.run.fingerprint:
                raise InputError(
                    f"{path} was measured with other weights: run `{how_to_measure_again(path)}`."
                )
            self._predictors[size, device] = Predictor(self.costs, measured)
        return self._predictors[size, device]

    @cached_property
    def _known(self) -> Mapping[str, Quantity]:
        """The quantities that need no measurement: MACs of every scope, stages, parameters."""
        costs = self.costs
        return {**scopes(costs), "stages": stages(costs.space), "parameters": parameters(costs)}

    @cached_property
    def _most(self) -> Mapping[str, float]:
        return most_kmac_px(self.costs)

    @cached_property
    def everywhere(self) -> tuple[Quantity, ...]:
        """The quantities that do not depend on a machine: MACs of scopes and edges, stages, parameters."""
        return (*self._known.values(), *edges(self.costs).values())

    def bound(self, limit: Limit) -> Bound:
        """A limit as a bound on integers."""
        quantity, value = self._amount(limit.what, limit.most)
        return Bound(quantity, quantity.to_integer(value))

    def _amount(self, what: str, amount: Amount) -> tuple[Quantity, float]:
        """The quantity of a limit, and its amount in that unit. % refers to the widest architecture."""
        if amount.unit == "%":
            return self._known[what], amount.value / 100 * self._most[what]
        return self.of(what, amount.unit, amount.size, amount.device), amount.value

    def question(self, budget: Budget) -> Question:
        """Resolve a budget for this space. The result is cached.

        Raises:
            UnreachableBudgetError: no architecture meets its limits, or none a target, or all meet one that
                somebody typed; says what is possible.
            InputError: it needs a profile that there is not.
        """
        if budget not in self._questions:
            self._questions[budget] = self._resolved(budget)
        return self._questions[budget]

    def _resolved(self, budget: Budget) -> Question:
        quantity = self.of(*budget.measure)
        within = FeasibleSet(self.costs.space, [self.bound(limit) for limit in budget.limits])
        least, most = within.ends(quantity)
        what, *_ = budget.measure
        values = [self._amount(what, amount)[1] for amount in budget.targets]
        if budget.span is not None:
            values += budget.span.values(least / quantity.per_unit, most / quantity.per_unit)
        targets = sorted({quantity.to_integer(value) for value in values})
        if targets and targets[0] < least:
            beside = f" with {' and '.join(map(str, within.bounds))}" if within.bounds else ""
            raise UnreachableBudgetError(
                f"No architecture{beside} costs at most {quantity.format_with_title(targets[0])}: "
                f"{_span_in_words(quantity, least, most)}"
            )
        if budget.typed and targets and not _is_reachable(quantity, targets[-1], most):
            raise UnreachableBudgetError(
                f"Every architecture costs less than {quantity.format_with_title(targets[-1])}: "
                f"{_span_in_words(quantity, least, most)}"
            )
        return Question(quantity, within, tuple(targets), (least, within.median(quantity), most))


def _span_in_words(quantity: Quantity, least: int, most: int) -> str:
    """The least and the largest possible cost, and what to ask for."""
    if least == most:
        return f"all of them cost {quantity.format(least, least=True)}. Ask for that."
    return (
        f"the least is {quantity.format(least, least=True)}, the most {quantity.format(most)}. Ask for a "
        "target in between."
    )


def _profiled_sizes(run: Run, device: str) -> list[str]:
    """The sizes, such as 768x512, at which a run has a profile of a device."""
    parts = [file.parent.name.rpartition("-") for file in sorted(run.profile_path.glob("*/measured.yaml"))]
    return [shape for name, _, shape in parts if name == device]


def no_such_device(run: Run, device: str, size: Size) -> str:
    """The message for a run without a profile of a device at a size: it lists the existing profiles.

    Args:
        run: the run.
        device: name of the device.
        size: width and height of the picture, in pixels.
    """
    usual = "{}x{}".format(*REFERENCE_SIZE)
    parts = [file.parent.name.rpartition("-") for file in sorted(run.profile_path.glob("*/measured.yaml"))]
    profiled = [f"{name} at {shape}" if shape != usual else name for name, _, shape in parts]
    told = f"only of {' and '.join(profiled)}" if profiled else "and none of any other"
    sizes = _profiled_sizes(run, device)
    wanted = device if size == REFERENCE_SIZE and not sizes else f"{device} at {size[0]}x{size[1]}"
    known = f"name the size, such as '30ms@{device} at {sizes[0]}'; or " if sizes else ""
    if device in THIS_MACHINE:
        shape = "" if size == REFERENCE_SIZE else f" --size {size[0]}x{size[1]}"
        done, how = "measure", run.how_to_run("profile", f" --device {device}{shape}")
    else:
        done, how = "read", run.how_to_run("profile", f" --from FILE.csv --device-name {device}")
    return f"{run.typed} has no profile of {wanted}, {told}: {known}to {done} one, {how}."


def _is_reachable(quantity: Quantity, target: int, most: int) -> bool:
    """Whether a target is no more than the most there is, as people read it."""
    return target <= most or quantity.format(target) == quantity.format(most)
