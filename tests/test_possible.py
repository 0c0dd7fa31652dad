"""What is possible: told from a kept table without torch, and the same as enumeration finds."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import SMALL
from families import SPACES, table_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.cli import app
from nas.cost.counting.cache import load_or_measure_costs
from nas.cost.counting.tabulate import measured_costs
from nas.profiling.possible import Possible
from nas.profiling.quantities import Quantities
from nas.run import Run
from nas.spaces.architecture import Architecture
from nas.spaces.budget import Budget, Limit
from nas.spaces.space import SearchSpace
from nas.support.errors import UnreachableBudgetError
from nas.training.start import TrainingRequest, start_training

# a context, the hyperprior as a switch, depths from 0, latents that are slots, no hyperprior at all
NAMES = ["joint-ar-integer", "residual-integer", "slim-scale-integer", "factorized-integer"]
HEAVY = ("torch", "compressai", "fvcore", "optuna", "pandas", "matplotlib", "rich.console")
NOWHERE = Run(Path("no-run"))  # only profiles are looked for there


@pytest.fixture(scope="module")
def trained(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One step of training; as much as a search needs to begin."""
    place = tmp_path_factory.mktemp("possible")
    (place / "small.yaml").write_text(yaml.safe_dump(SMALL))
    little = {"steps": 1, "crop": 64, "batch": 1, "architectures": 1}
    request = TrainingRequest(
        str(place / "small.yaml"), str(photo_folder), place / "run", settings=little, device="cpu"
    )
    return start_training(request)


def searching(*words: object) -> tuple[int, str, set[str]]:
    """`nas search` in a process of its own: its status, what it wrote, and which heavy parts it imported."""
    code = (
        "import json, sys\n"
        "from nas.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "search", *map(str, words)], capture_output=True, text=True, check=False
    )
    text, _, modules = done.stdout.rstrip().rpartition("\n")
    return done.returncode, text + done.stderr, set(json.loads(modules)) & set(HEAVY)


def test_training_leaves_the_table(trained: Run) -> None:
    written = trained.costs_path.stat().st_mtime_ns
    kept, measured = load_or_measure_costs(trained.space, trained.costs_path), measured_costs(trained.space)
    assert trained.costs_path.stat().st_mtime_ns == written
    assert [layer.name for layer in kept.layers] == [layer.name for layer in measured.layers]
    for one, other in zip(kept.layers, measured.layers, strict=True):
        assert np.array_equal(one.macs, other.macs)
        assert np.array_equal(one.params, other.params)


@pytest.mark.parametrize("scope", ["decoder", "total"])
def test_a_refused_target_names_the_least_and_imports_nothing_heavy(trained: Run, scope: str) -> None:
    status, text, heavy = searching(trained.path, "--target", "0.00001", "--scope", scope)
    assert status == 2, text
    assert not heavy
    found = re.search(r"the least is ([0-9.]+) kMAC/px", text)
    assert found, text
    quantities = Quantities(trained, load_or_measure_costs(trained.space, trained.costs_path))
    question = quantities.question(Budget.of(found[1], scope))  # what it names can be had
    assert question.span[0] <= question.targets[0] <= 1.001 * question.span[0]


def test_a_refused_budget_with_limits_imports_nothing_heavy(trained: Run, tmp_path: Path) -> None:
    least = (
        Quantities(trained, load_or_measure_costs(trained.space, trained.costs_path))
        .question(Budget("all"))
        .span[0]
    )
    limits = [f"total <= {1.01 * least / 393_216_000} kMAC/px", "stages <= 1", "parameters <= 100000"]
    budget = tmp_path / "narrow.yaml"
    budget.write_text(yaml.safe_dump({"scope": "encoder", "targets": [1e-5], "limits": limits}))
    status, text, heavy = searching(trained.path, "--budget", budget)
    assert status == 2, text
    assert "stages <= 1" in text
    assert not heavy


def test_a_search_prints_what_is_possible_before_anything_else(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "run"  # its weights are damaged: nothing can be scored
    for path in (trained.config_path, trained.split_path, trained.costs_path):
        copy = broken / path.relative_to(trained.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (broken / "supernet.safetensors").write_bytes(b"damaged")
    with pytest.raises(SystemExit) as ended:
        app(["search", str(broken), "--target", "60%"])
    out, errors = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""  # which is for results
    assert f"{trained.space.size:,} architectures" in errors
    told = {line.split()[1]: line for line in errors.splitlines() if line.startswith("│")}
    assert {"encoder", "decoder", "total", "stages", "parameters", "g_a", "context", "g_s"} <= told.keys()
    assert "supernet.safetensors" in errors


@cache
def all_of(name: str) -> list[Architecture]:
    space = SPACES[name]
    return list(dict.fromkeys(map(space.at, itertools.product(*map(range, space.shape)))))


@cache
def costs_of(name: str) -> dict[str, np.ndarray]:
    """Everything that is told, of every architecture."""
    table, found = table_of(name), {}
    for architecture in all_of(name):
        costs = {**table.scopes(architecture), **table.by_edge(architecture)}
        costs["stages"] = table.space.layout(architecture).stages()
        costs["parameters"] = table.params(architecture)
        for what, cost in costs.items():
            found.setdefault(what, []).append(cost)
    return {what: np.array(costs) for what, costs in found.items()}


@pytest.mark.parametrize("name", NAMES)
def test_all_that_is_told_is_what_enumeration_finds(name: str) -> None:
    quantities = Quantities(NOWHERE, table_of(name))
    found = Possible.of(quantities, quantities.question(Budget("all")))
    assert (found.space, found.size) == (name, len(all_of(name)))
    assert not found.limits
    ranges, costs = {told.quantity.title: told for told in found.ranges}, costs_of(name)
    assert ranges.keys() == costs.keys()
    assert list(found.scopes) == ["encoder", "decoder", "total"]
    for what, values in costs.items():
        ordered = np.sort(values)
        middle = ordered[(len(ordered) - 1) // 2]  # the lower of two
        told = ranges[what].to_json()
        assert list(told.values()) == pytest.approx([ordered[0], middle, ordered[-1]], rel=1e-9), what


@pytest.mark.parametrize("name", [name for name in NAMES if "residual" not in name])  # in test_feasible.py
@settings(max_examples=8)
@given(st.data())
def test_feasible_limits_all_that_is_told_is_what_enumeration_finds(name: str, data: st.DataObject) -> None:
    costs, unit = costs_of(name), {"stages": "stages", "parameters": "parameters"}
    limits, kept = [], np.ones(len(all_of(name)), dtype=bool)
    limited = st.sets(st.sampled_from(["encoder", "decoder", "stages", "parameters"]), min_size=1)
    for what in data.draw(limited):
        most = data.draw(st.sampled_from(sorted(set(costs[what]))), label=what)
        limits.append(Limit.parse(f"{what} <= {most} {unit.get(what, 'kMAC/px')}"))
        kept &= costs[what] <= most * (1 + 1e-9)
    quantities, budget = Quantities(NOWHERE, table_of(name)), Budget("limited", limits=tuple(limits))
    if not kept.any():
        with pytest.raises(UnreachableBudgetError):
            quantities.question(budget)
        return
    found = Possible.of(quantities, quantities.question(budget))
    assert found.limits
    for told in found.ranges:
        values = costs[told.quantity.title][kept]
        assert [told.least, told.most] == pytest.approx([values.min(), values.max()], rel=1e-5)
        assert told.least <= told.median <= told.most


def test_the_least_that_a_row_tells_can_be_asked_for() -> None:
    quantities = Quantities(NOWHERE, table_of("joint-ar-integer"))
    for scope, told in Possible.of(quantities, quantities.question(Budget("all"))).scopes.items():
        least = told.row()[1]
        assert quantities.question(Budget.of(least, scope)).targets[0] >= told.whole[0]


def test_the_page_shows_what_a_search_prints() -> None:
    page = (Path(__file__).parents[1] / "docs" / "budgets.md").read_text(encoding="utf-8")
    shown = [line.strip(" │").split("│") for line in page.splitlines() if line.startswith("    │")]
    quantities = Quantities(NOWHERE, measured_costs(SearchSpace.load("joint-ar")))
    found = Possible.of(quantities, quantities.question(Budget("all")))
    assert [[cell.strip() for cell in row] for row in shown] == found.rows()
    assert found.title in page
