"""The profile of a run's space: the MACs, time, memory and parameters of its architectures, edge by edge."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.cost.counting.table import CostTable
from nas.profiling.accuracy import Accuracy, accuracies
from nas.profiling.measure import Request, measure
from nas.profiling.measurements import Measurements
from nas.profiling.possible import Possible
from nas.profiling.predict import Predictor
from nas.profiling.quantities import Quantities, costs_of, store_costs_of
from nas.run import Run
from nas.spaces.architecture import Architecture
from nas.spaces.budget import Budget
from nas.spaces.space import SearchSpace
from nas.support.progress import Report, silent
from nas.support.resources import errors_as_damage
from nas.support.tables import TableRow

if TYPE_CHECKING:
    import pandas as pd

SCOPE_OF_ACTION = {"encode": "encoder", "decode": "decoder"}  # whose MACs each runs
FRONT_SAMPLE = 300  # random architectures stand in for a front that there is not yet
_LEAST_RANKED = 3  # architectures: of fewer, a rank correlation says nothing
ALIKE = 0.02  # architectures whose MACs differ by no more than this have equal ones


@dataclass(frozen=True)
class Shape:
    """One architecture of a space and what it costs, from the tables.

    Attributes:
        name: name in the profile.
        arch: the architecture's key.
        params: learned numbers in all.
        stages: serial decoding steps at the reference size.
        kmac_px_by_edge, kmac_px: kMAC per pixel, by edge and by scope.
        params_by_edge: learned numbers; those of priors and gains have edges of their own, `prior` and
            `gains`.
        ms: by action, milliseconds by edge, context and coder.
        mb: by action, what a process takes beyond its libraries at its peak, in MB, by what takes it (the
            process itself, weights, the tensors of the part that runs then); empty without a CPU's profile.
    """

    name: str
    arch: str
    params: int
    stages: int
    kmac_px_by_edge: dict[str, float]
    kmac_px: dict[str, float]
    params_by_edge: dict[str, int]
    ms: dict[str, dict[str, float]]
    mb: dict[str, dict[str, float]]

    @classmethod
    def of(cls, name: str, architecture: Architecture, costs: CostTable, predictor: Predictor) -> Shape:
        """The costs of one architecture, by edge and by action.

        Args:
            name: name in the profile.
            architecture: an architecture of the space.
            costs: costs of the space.
            predictor: predictor of time and memory.
        """
        indexes = costs.space.indexes(architecture)
        params: dict[str, int] = {}
        for layer in costs.layers:
            count = int(layer.params[tuple(indexes[axis] for axis in layer.axes)])
            params[layer.edge] = params.get(layer.edge, 0) + count
        return cls(
            name,
            architecture.key,
            costs.params(architecture),
            costs.space.layout(architecture).stages(),
            costs.by_edge(architecture),
            costs.scopes(architecture),
            params,
            {action: predictor.milliseconds(architecture, action) for action in SCOPE_OF_ACTION},
            {action: predictor.megabytes(architecture, action) for action in SCOPE_OF_ACTION}
            if predictor.fitted_on
            else {},
        )

    def cells(self) -> dict[tuple[str, str], str]:
        """Everything by what and part, as text."""
        cells = {("parameters", edge): f"{count:,}" for edge, count in self.params_by_edge.items() if count}
        cells["parameters", "= all"] = f"{self.params:,}"
        cells["stages", "at 768x512"] = str(self.stages)
        cells |= {("kMAC/px", edge): f"{value:.3f}" for edge, value in self.kmac_px_by_edge.items()}
        cells |= {("kMAC/px", f"= {scope}"): f"{value:.3f}" for scope, value in self.kmac_px.items()}
        for action, parts in self.ms.items():
            cells |= {(f"{action}, ms", part): f"{value:.1f}" for part, value in parts.items()}
            cells[f"{action}, ms", "= all"] = f"{sum(parts.values()):.1f}"
        for action, parts in self.mb.items():
            cells |= {(f"{action}, MB", part): f"{value:.1f}" for part, value in parts.items()}
            cells[f"{action}, MB", "= all"] = f"{sum(parts.values()):.1f}"
        return cells


@dataclass(frozen=True)
class Relation:
    """Time beside MACs, over the front or a sample.

    Attributes:
        action: `encode` or `decode`.
        points: kMAC per pixel of the action's scope, milliseconds and stages of each architecture.
        of: kind of the points: `front` or `sample`.
        rank_correlation: Spearman's, between MACs and time.
        least, most: milliseconds per kMAC/px, over the points.
        alike: largest ratio of the times of two architectures with equal MACs (within 2 %).
    """

    action: str
    points: list[tuple[float, float, int]]
    of: str
    rank_correlation: float
    least: float
    most: float
    alike: float

    def sentence(self) -> str:
        """The relation as a sentence."""
        return (
            f"{self.action}: over the {self.of} ({len(self.points)} architectures), {self.least:.2f} to "
            f"{self.most:.2f} ms per kMAC/px; time and MACs rank alike to {self.rank_correlation:.2f}; equal "
            f"MACs (within {ALIKE:.0%}) differ in time by up to {self.alike:.1f} times"
        )


@dataclass(frozen=True)
class RunProfile:
    """The profile of a run's search space on one machine.

    Attributes:
        possible: number of architectures, and their reachable costs without any limit.
        measured: the facts that the figures hold for, and where they are kept.
        shapes: the narrowest, the middle one and the widest of equal relative widths.
        relations: time beside MACs.
        disturbance: share by which other work slowed the machine down.
        warning: sentence about that.
        accuracies: predictions against whole codecs, where some were measured (`--check`).
        files: the written files.
    """

    possible: Possible
    measured: dict[str, Any]
    shapes: tuple[Shape, ...]
    relations: tuple[Relation, ...]
    disturbance: float
    warning: str
    accuracies: tuple[Accuracy, ...]
    files: tuple[Path, ...] = ()

    @property
    def machine(self) -> str:
        """A text on the machine and the conditions of the measurement."""
        facts = self.measured
        threads = f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}"
        return f"{facts['device']} ({facts['machine']}, {threads})"

    @property
    def size(self) -> str:
        """Width and height of the picture that was timed, in pixels."""
        return "{width}x{height}".format(**self.measured)

    def __repr__(self) -> str:
        return f"RunProfile({self.possible.space} at {self.size} on {self.machine})"

    def to_dataframe(self) -> pd.DataFrame:
        """The lines of `rows`: what, of which part, and the value of each shape as text."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=self.columns)

    @property
    def columns(self) -> list[str]:
        """The columns of `rows`: one for each shape."""
        return ["what", "part", *(shape.name for shape in self.shapes)]

    def rows(self) -> list[TableRow]:
        """Lines of a table: parameters, MACs, milliseconds, memory, by edge."""
        cells = [shape.cells() for shape in self.shapes]
        keys = dict.fromkeys(key for shape_cells in cells for key in shape_cells)
        order = list(dict.fromkeys(what for what, _ in keys))
        return [
            [*key, *(shape_cells.get(key, "") for shape_cells in cells)]
            for what in order
            for key in sorted((key for key in keys if key[0] == what), key=lambda key: key[1].startswith("="))
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values: milliseconds, MB, kMAC per pixel."""
        possible = self.possible
        return {
            "space": possible.space,
            "size": possible.size,
            "measured": self.measured,
            "ranges": {scope: scope_range.to_json() for scope, scope_range in possible.scopes.items()},
            "possible": possible.to_json(),
            "shapes": [asdict(shape) for shape in self.shapes],
            "relations": [asdict(fitted) for fitted in self.relations],
            "disturbance": self.disturbance,
            "accuracies": [asdict(compared) for compared in self.accuracies],
        }


def profile_run(run: Run, request: Request, *, report: Report = silent) -> RunProfile:
    """Measure what is missing in the profile of a run's space, and return its costs.

    Args:
        run: a trained run.
        request: size, device, repeats, and how many whole codecs to check against.
        report: called with what is done, of how much, and what is being done.

    Raises:
        InputError: not trained yet, no such size, or a profile of another machine in the way.
    """
    return profile_of_measurements(run, measure(run, request, report=report))


def profile_device(run: Run, csv: Path, device: str, *, force: bool = False) -> RunProfile:
    """Store the times from a device as its profile, and return the costs of a run's space there.

    Args:
        run: the run whose pieces were timed.
        csv: output of the runner.
        device: name of the device.
        force: replace a profile of this device at this size.

    Raises:
        InputError: see `read_times`; or the run's space has layouts that were not timed.
    """
    from nas.profiling.devices.read import read_times

    measured = read_times(run, csv, device, force=force)
    result = profile_of_measurements(run, measured)  # or refused, before it is kept
    measured.keep()
    return result


def profile_of_measurements(run: Run, measured: Measurements) -> RunProfile:
    """The costs of a run's space from measurements, of this machine or of another device.

    Args:
        run: a trained run.
        measured: all of its space.
    """
    costs, space = costs_of(run), run.space
    predictor, quantities = Predictor(costs, measured), Quantities(run, costs)
    named = {"narrowest": space.narrowest(), "median": space.uniform(0.5), "widest": space.widest()}
    if space.size == 1:
        named = {"widest": space.widest()}
    kind, architectures = known_architectures(run, space)
    relations = [relation(predictor, costs, action, architectures, kind) for action in SCOPE_OF_ACTION]
    possible = Possible.of(quantities, quantities.question(Budget("whole range")))
    store_costs_of(run, costs)
    return RunProfile(
        possible,
        {**measured.facts, "folder": str(measured.path.parent)},
        tuple(Shape.of(name, architecture, costs, predictor) for name, architecture in named.items()),
        tuple(relations),
        measured.disturbance,
        measured.warning(),
        tuple(accuracies(predictor)),
    )


def known_architectures(run: Run, space: SearchSpace) -> tuple[str, list[Architecture]]:
    """The front where the run has one that ranks can be told of, else a random sample; and which it is.

    Args:
        run: the run.
        space: the search space.
    """
    if run.front_path.is_file():
        keys = run.front()["arch"]
        if len(keys) >= _LEAST_RANKED:
            with errors_as_damage(run.front_path, run.how_to_renew_front):
                return "front", [space.parse(key) for key in keys]
    rng = random.Random(0)
    return "sample", list(dict.fromkeys(space.sample(rng) for _ in range(FRONT_SAMPLE)))


def relation(
    predictor: Predictor, costs: CostTable, action: str, architectures: Sequence[Architecture], of: str
) -> Relation:
    """Time beside MACs for some architectures.

    Args:
        predictor: predictor of time and memory.
        costs: costs of the space.
        action: `encode` or `decode`.
        architectures: architectures of the space.
        of: kind of the architectures: `front` or `sample`.
    """
    from scipy.stats import spearmanr

    time, scope = predictor.time(action), SCOPE_OF_ACTION[action]
    points = [
        (
            costs.kmac_px(architecture, scope),
            time.value(architecture),
            costs.space.layout(architecture).stages(),
        )
        for architecture in architectures
    ]
    cost, spent = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    rank = 1.0
    if len(points) > 2:  # where one of them never differs, it says nothing of the other
        rank = float(spearmanr(cost, spent).statistic) if np.ptp(cost) and np.ptp(spent) else 0.0
    close = np.abs(cost[:, None] / cost[None, :] - 1) <= ALIKE
    alike = float((spent[:, None] / spent[None, :])[close].max())
    per = spent / cost
    return Relation(action, points, of, rank, float(per.min()), float(per.max()), alike)
