"""Searches as they are asked for from Python, and runs whose spaces are at an end."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from families import SPACES, content_of
from small_run import small_run

import nas
from nas.analysis.probes.probe import ProbeRequest
from nas.api import LoadedRun
from nas.codec.family import CodecFamily
from nas.graph.gains import interpolate_gains
from nas.report.front.make import draw_runs
from nas.run import Run
from nas.searching.scoring.evaluator import Evaluator, Score
from nas.searching.sources import Sources
from nas.spaces.architecture import Architecture
from nas.spaces.budget import Budget, Limit
from nas.spaces.families import FAMILIES
from nas.spaces.space import SearchSpace
from nas.support.errors import InputError, InputWarning
from nas.support.files import write_yaml

QUICK = Sources(logits=False, layouts=False)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> LoadedRun:
    run = small_run(tmp_path_factory.mktemp("runs") / "run", SPACES["factorized-integer"], photo_folder)
    found = nas.load_run(run.path, device="cpu")
    found.search(trials=3, sources=QUICK)
    return found


def load_family_of(loaded: LoadedRun) -> CodecFamily:
    """The family of a codec that is exported once."""
    folder = loaded.run.path.with_name("codec")
    if not folder.exists():
        loaded.export(folder, arch=loaded.front()["arch"][0])
    return nas.load_family(folder)


@pytest.mark.parametrize(
    ("asked", "targets"),
    [
        ({"target": "80%"}, 1),
        ({"target": "80%", "scope": "decoder"}, 1),
        ({"budget": "80%"}, 1),
        ({"budget": " 80 %", "scope": "decoder"}, 1),
        ({"budget": "paper-8-levels"}, 8),
        ({"budget": Budget.of("80%")}, 1),
        ({"budget": None}, 0),
        ({"scope": "decoder"}, 0),
        ({"target": "80%", "limits": "stages <= 4"}, 1),
        ({"budget": "paper-8-levels", "limits": ["stages <= 4"]}, 8),
        ({"limits": Limit.parse_all("stages <= 4 and encoder <= 5")}, 1),
    ],
)
def test_a_search_takes_a_budget_its_name_or_a_target(
    loaded: LoadedRun, asked: dict[str, Any], targets: int
) -> None:
    assert len(loaded.search(**asked, trials=0, sources=QUICK).choices) == targets


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_a_wrong_folder_of_photos_is_refused_before_anything_is_computed(
    folder: str, loaded: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("nas.verbs.search.costs_of", lambda run: pytest.fail("costs were looked up"))
    with pytest.raises(InputError, match=folder):
        nas.search(loaded.run.path, data=tmp_path / folder, out=tmp_path / "own", target="80%")
    assert not (tmp_path / "own").exists()


def test_a_budget_is_a_file_too(loaded: LoadedRun, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("targets: [80%, 90%]")
    for given in (path, str(path)):
        assert len(loaded.search(given, trials=0, sources=QUICK).choices) == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"budget": "phone", "target": "60%"}, "its own targets and scope"),
        ({"budget": "phone", "scope": "decoder"}, "its own targets and scope"),
        ({"budget": Budget.of("80%"), "scope": "decoder"}, "its own targets and scope"),
        ({"budget": "phome"}, "no budget named 'phome': did you mean phone"),
        ({"target": "phone"}, "not an amount"),
        ({"target": "-5"}, "not an amount"),
        ({"budget": "3 apples"}, "not an amount"),
        ({"target": float("nan")}, "not an amount"),
        ({"budget": -5}, "not an amount"),
    ],
)
def test_what_is_neither_is_refused(loaded: LoadedRun, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        loaded.search(**asked, trials=0, sources=QUICK)


@pytest.mark.parametrize("trials", [-1, 2.5, "5", [1]])
def test_what_is_no_number_of_trials_is_refused(loaded: LoadedRun, trials: Any) -> None:
    before = loaded.run.scores_path.read_bytes()
    with pytest.raises(InputError, match=r"trials cannot be .*: give a whole number from 0"):
        loaded.search(target="80%", trials=trials, sources=QUICK)
    with pytest.raises(InputError, match="is not a seed"):
        loaded.search(target="80%", trials=1, seed=trials, sources=QUICK)
    assert loaded.run.scores_path.read_bytes() == before


def test_an_arithmetic_that_does_not_exist_is_refused_before_anything_is_scored(
    loaded: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "score", lambda *_: pytest.fail("it was scored"))
    with pytest.raises(InputError, match="There is no arithmetic 'fast'"):
        loaded.export(tmp_path / "codec", target="70%", arithmetic="fast")


@pytest.mark.parametrize("number", [True, np.bool_(True), np.float64(3), float("nan"), None, "3", [3], {}])
@pytest.mark.parametrize("what", ["trials", "seed", "steps", "decoder", "height"])
def test_what_is_no_whole_number_is_refused_wherever_one_belongs(
    loaded: LoadedRun, number: Any, what: str
) -> None:
    family = load_family_of(loaded)
    doors: dict[str, Callable[[Any], Any]] = {
        "trials": lambda value: loaded.search(trials=value, sources=QUICK),
        "seed": lambda value: loaded.search(trials=0, seed=value, sources=QUICK),
        "steps": lambda value: ProbeRequest(steps=value),
        "decoder": lambda value: family.codec(decoder=value),
        "height": lambda value: family.base.shape(value, 64),
    }
    if number is None and what in ("trials", "decoder"):
        pytest.skip("None is the default")
    with pytest.raises(InputError):
        doors[what](number)


def test_numbers_of_numpy_are_numbers_and_other_paths_are_paths(loaded: LoadedRun) -> None:
    """Of every kind of path, also where it is one of several."""

    class Elsewhere:
        def __fspath__(self) -> str:
            return str(loaded.run.path)

    family = load_family_of(loaded)
    assert family.codec(decoder=cast("int", np.int64(0))) is family.codec(decoder=0)
    assert family.base.shape(cast("int", np.int64(60)), 64) == family.base.shape(64, 64)
    assert Budget.asked(cast("float", np.float64(20)), None, None) == Budget.asked(20.0, None, None)
    assert nas.info(Elsewhere()).fields == nas.info(loaded.run.path).fields  # type: ignore[arg-type]
    assert nas.load_run(Elsewhere()).run.path == loaded.run.path  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^There is no (file or )?folder|nowhere"):
        nas.pareto([Elsewhere(), Path("nowhere")])  # type: ignore[list-item]


@pytest.mark.parametrize("layout", [3, 2.5, [], {}, np.arange(3), object(), Path("a"), "another"])
def test_what_is_no_layout_of_a_family_is_refused(loaded: LoadedRun, layout: Any) -> None:
    with pytest.raises(InputError, match="This codec has no layout"):
        load_family_of(loaded).codec(layout)


@pytest.mark.parametrize("decoder", [1, -1, 10**30])
def test_what_is_no_decoder_of_a_family_is_refused(loaded: LoadedRun, decoder: int) -> None:
    with pytest.raises(InputError, match=r"no decoder|decoder cannot be"):
        load_family_of(loaded).codec(decoder=decoder)


@pytest.mark.parametrize("y_hat", [None, 3, torch.arange(3), np.zeros((1, 2, 3, 4))])
def test_what_is_no_latent_is_refused(loaded: LoadedRun, y_hat: Any) -> None:
    with pytest.raises(InputError, match="g_s needs rounded y"):
        load_family_of(loaded).base.synthesize(y_hat)


@pytest.mark.parametrize("lmbda", [0, -1, float("nan"), float("inf"), "0.01", [0.01], True])
def test_what_is_no_lambda_is_refused(lmbda: Any) -> None:
    with pytest.raises(InputError, match=r"lmbda cannot be .*: give a number above 0, such as 0\.01\."):
        interpolate_gains(torch.zeros(3, 2), (0.001, 0.01, 0.1), lmbda)


def test_a_wrong_keyword_is_refused_by_the_name_of_its_function(loaded: LoadedRun) -> None:
    wrong: dict[str, Any] = {"targets": [3]}
    for function in (nas.search, nas.profile, loaded.search):
        with pytest.raises(TypeError, match=rf"^{function.__name__}\(\) got an unexpected keyword"):
            function(loaded.run.path, **wrong)


@pytest.mark.parametrize("given", [{"scope": np.arange(3)}, {"scope": []}, {"limits": 3}, {"limits": [3]}])
def test_a_budget_of_wrong_kinds_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"no scope|list of limits"):
        Budget.of("60%", **given)


@pytest.mark.parametrize("changes", [{"repeats": 0}, {"repeats": 1.5}, {"check": -1}])
def test_what_is_no_number_of_repeats_is_refused(loaded: LoadedRun, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"(repeats|check) cannot be"):
        nas.profile(loaded.run, **changes)
    assert not loaded.run.profile_path.exists()


@pytest.mark.parametrize("number", [-1, 2.5, "5", [1]])
@pytest.mark.parametrize(
    ("verb", "name"),
    [("decompress", "max_pixels"), ("pareto", "pictures"), ("compress", "effort"), ("compress", "stages")],
)
def test_what_is_no_whole_number_is_refused(
    loaded: LoadedRun, tmp_path: Path, photo_folder: Path, verb: str, name: str, number: Any
) -> None:
    codec = tmp_path / "codec"
    if name in ("effort", "stages"):
        loaded.export(codec, arch=loaded.front()["arch"][0])
    given = {
        "decompress": {"codec": codec, "files": "a.nic", "out": tmp_path / "a.png"},
        "pareto": {"runs": loaded.run, "out": tmp_path / "drawn"},
        "compress": {"codec": codec, "images": photo_folder / "photo-0.png", "out": tmp_path / "a.nic"},
    }
    with pytest.raises(InputError, match=rf"(?i){name} (cannot be|is a whole number)"):
        getattr(nas, verb)(**given[verb], **{name: number})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lmbda": (0.1, 0.2)}, "is not a value for lmbda"),
        ({"lmbda": []}, "is not a value for lmbda"),
        ({"settings": ["batch=3"]}, "Settings are names and values"),
        ({"settings": "batch=3"}, "Settings are names and values"),
        ({"arch": 3}, "is not an architecture's key"),
        ({"steps": 1.5}, "whole number"),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused(
    photo_folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        nas.train("factorized-tiny", photo_folder, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("told", "instead"),
    [(rb'"bpp":[^,}]+', b'"bpp":-1'), (rb'"arch":"[^"]*', b'"arch":"another')],
)
def test_trials_that_no_search_told_are_refused_before_anything_is_written(
    loaded: LoadedRun, tmp_path: Path, told: bytes, instead: bytes
) -> None:
    run = nas.load_run(shutil.copytree(loaded.run.path, tmp_path / "run"), device="cpu")
    journal = run.run.search_path / "study.log"
    journal.write_bytes(re.sub(told, instead, journal.read_bytes()))
    before = journal.read_bytes()
    with pytest.raises(InputError, match=r"study\.log is damaged, or is not a journal: move it away"):
        run.search(trials=0, sources=QUICK)
    assert journal.read_bytes() == before


def test_what_cannot_be_scored_loses_nothing_else(
    loaded: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the many that an export and a table of steps compare, each is one."""
    run = nas.load_run(shutil.copytree(loaded.run.path, tmp_path / "run"), device="cpu")
    known = {found.key for found, _ in run.searcher.scores.items()}

    def failing(self: Evaluator, architecture: Architecture) -> Score:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(Evaluator, "score", failing)
    key = run.front().sort_values("total_kmac_px")["arch"].iloc[0]
    passed_over = pytest.warns(InputWarning, match="cannot be scored and is passed over: out of memory$")
    with passed_over:
        assert run.export(tmp_path / "codec", target="99.9%")["arch"] in known
    with passed_over:
        assert run.explain(key).architecture.key == key
    monkeypatch.setattr(Evaluator, "score", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(OSError, match="No space"):
        run.explain(key)


NO_PATH: dict[str, Any] = {
    "a number": 3,
    "bytes": b"run",
    "a mapping": {},
    "an empty list": [],
    "an empty text": "",
    "a zero byte": "a\0b",
    "too long": "x" * 300,
    "no characters": "\ud800",
}
DOORS: dict[str, tuple[str, ...]] = {  # parameters that are paths
    "compress": ("codec", "images", "out"),
    "decompress": ("codec", "files", "out"),
    "demo": ("out",),
    "evaluate": ("codecs", "data", "out"),
    "explain": ("run", "out"),
    "export": ("run", "out"),
    "finetune": ("codec", "data", "out"),
    "info": ("thing", "out"),
    "load_codec": ("path",),
    "load_family": ("path",),
    "load_run": ("path",),
    "pareto": ("runs", "out"),
    "probe": ("run", "data", "out"),
    "profile": ("path", "pieces", "csv"),
    "rank_check": ("run", "data"),
    "renew_codec": ("source", "data", "out", "weights"),
    "search": ("run", "data", "out", "storage"),
    "train": ("data", "out", "init_from"),
    "transcode": ("codec", "file", "out"),
}


def test_every_function_with_a_path_is_among_the_doors() -> None:
    for name in nas.__all__:
        if inspect.isfunction(getattr(nas, name)):
            parameters = inspect.signature(getattr(nas, name)).parameters
            paths = {each for each, known in parameters.items() if "Path" in str(known.annotation)}
            assert paths - {"budget"} == set(DOORS.get(name, ())), name


@pytest.mark.parametrize("what", NO_PATH)
@pytest.mark.parametrize(("verb", "name"), [(verb, name) for verb, names in DOORS.items() for name in names])
def test_what_is_no_path_is_refused_at_every_door(verb: str, name: str, what: str) -> None:
    if name == "weights" and NO_PATH[what] == {}:
        pytest.skip("a mapping is what weights may be")
    given = dict.fromkeys(DOORS[verb], "nothing-there")
    more = {"explain": {"arch": "x"}, "probe": {"arch": "x"}}.get(verb, {})
    with pytest.raises(InputError, match=f"`{name}` "):
        getattr(nas, verb)(**{**given, **more, name: NO_PATH[what]})


@pytest.mark.parametrize(
    ("verb", "name"),
    [("compress", "images"), ("decompress", "files"), ("evaluate", "codecs"), ("pareto", "runs")],
)
@pytest.mark.parametrize(
    "what", [lambda: iter(()), lambda: {3}, lambda: np.array(1), lambda: torch.tensor(3)]
)
def test_what_an_iterator_gives_is_checked_like_a_list(verb: str, name: str, what: Any) -> None:
    given = dict.fromkeys(DOORS[verb], "nothing-there")
    with pytest.raises(InputError, match=f"`{name}` "):
        getattr(nas, verb)(**{**given, name: what()})


def test_an_iterator_is_as_good_as_a_list() -> None:
    with pytest.raises(InputError, match=r"^nothing-there is not a run"):
        nas.pareto(iter(["nothing-there"]))
    with pytest.raises(InputError, match=r"^nothing-there is not a codec"):
        nas.evaluate(iter(["nothing-there"]), "nothing-there")


def needed(verb: str) -> dict[str, str]:
    """What a function cannot be called without."""
    known = inspect.signature(getattr(nas, verb)).parameters.items()
    return {name: "nothing-there" for name, each in known if each.default is inspect.Parameter.empty}


def parameters_of(kinds: set[str]) -> list[tuple[str, str]]:
    """Function and parameter, where the annotation names these kinds alone."""
    return [
        (verb, name)
        for verb in nas.__all__
        if inspect.isfunction(getattr(nas, verb))
        for name, known in inspect.signature(getattr(nas, verb)).parameters.items()
        if set(str(known.annotation).split(" | ")) <= kinds
    ]


@pytest.mark.parametrize(("verb", "name"), parameters_of({"str", "int", "float", "bool", "None"}))
@pytest.mark.parametrize("array", [np.array(["a", "b"]), np.array([]), torch.ones(2), pd.Series([1, 2])])
def test_an_array_is_refused_where_a_single_value_belongs(verb: str, name: str, array: Any) -> None:
    with pytest.raises(InputError, match=f"`{name}` cannot be an array"):
        getattr(nas, verb)(**{**needed(verb), name: array})


NUMBERS = [
    pair for pair in parameters_of({"int", "float", "None"}) if pair not in parameters_of({"int", "None"})
]


@pytest.mark.parametrize(("verb", "name"), NUMBERS)
@pytest.mark.parametrize(
    "what", ["x", "5", b"5", [], [1], {}, object(), iter(()), Path("5"), True, np.bool_(False)]
)
def test_what_is_no_number_is_refused(verb: str, name: str, what: Any) -> None:
    assert {("compress", "quality"), ("compress", "bpp"), ("probe", "tolerance")} <= set(NUMBERS)
    with pytest.raises(InputError, match=f"`{name}` cannot be .*: give a number"):
        getattr(nas, verb)(**{**needed(verb), name: what})


@pytest.mark.parametrize("name", ["against", "anchor", "curve"])
@pytest.mark.parametrize(
    "what", [-1, 2.5, b"x", [1], np.array(1), np.array([1, 2]), torch.zeros(2), Path("x")]
)
def test_what_is_no_list_of_texts_is_refused(name: str, what: Any) -> None:
    with pytest.raises(InputError, match=f"`{name}` cannot be .*: give texts"):
        nas.evaluate("nothing-there", "nothing-there", **{name: what})


@pytest.mark.parametrize("size", [None, -1, 2.5, b"x", [], Path("x"), "768"])
def test_what_is_no_size_is_refused(loaded: LoadedRun, size: Any) -> None:
    with pytest.raises(InputError, match=r"is not a size: write WIDTHxHEIGHT"):
        nas.profile(loaded.run, size=size)


@pytest.mark.parametrize("bpp", [0, -1, float("nan"), float("inf")])
def test_what_is_no_number_of_bits_is_refused(bpp: float) -> None:
    with pytest.raises(InputError, match=r"`bpp` cannot be .*: give the most bits per pixel, such as 0\.5"):
        nas.compress("nothing-there", "nothing-there", "out.nic", bpp=bpp)


@pytest.mark.parametrize("number", ["6", 3.5, True, [6], {}])
def test_what_is_no_number_of_architectures_or_repeats_is_refused(
    loaded: LoadedRun, tmp_path: Path, number: Any
) -> None:
    with pytest.raises(InputError, match="give a whole number from 3"):
        loaded.rank_check("bundled", count=number)
    loaded.export(tmp_path / "codec", arch=loaded.front()["arch"][0])
    with pytest.raises(InputError, match=r"repeats cannot be .*: give a whole number from 1"):
        nas.profile(tmp_path / "codec", repeats=number)


@pytest.mark.parametrize("size", [-1, 0, 2.5, "5", [1]])
def test_what_is_no_number_of_bytes_is_refused(size: Any) -> None:
    with pytest.raises(InputError, match=r"size cannot be .*: give a whole number from 1"):
        nas.compress("nothing-there", "nothing-there", "out.nic", size=size)


@pytest.mark.parametrize(("verb", "name"), parameters_of({"bool"}))
@pytest.mark.parametrize("word", ["no", "false", 2, None, 0.0])
def test_a_switch_is_true_or_false(verb: str, name: str, word: Any) -> None:
    """The text "no" would count as yes, and replace files."""
    with pytest.raises(InputError, match=f"`{name}` cannot be {word!r}: give True or False"):
        getattr(nas, verb)(**{**needed(verb), name: word})


@pytest.mark.parametrize("asked", [{"scope": np.array(["a", "b"])}, {"trials": np.array([1, 2])}])
def test_a_loaded_run_refuses_arrays_too(loaded: LoadedRun, asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be an array"):
        loaded.search(**asked)


@pytest.mark.parametrize("load", [nas.SearchSpace.load, nas.Budget.load])
@pytest.mark.parametrize("what", NO_PATH)
def test_what_names_no_shipped_file_is_refused(load: Any, what: str) -> None:
    with pytest.raises(InputError):
        load(NO_PATH[what])


@pytest.mark.parametrize("held", [None, 3, [1], "text"])
def test_what_config_yaml_notes_for_people_alone_stops_nothing(
    loaded: LoadedRun, tmp_path: Path, held: Any
) -> None:
    run = Run.open(shutil.copytree(loaded.run.path, tmp_path / "run"))
    write_yaml(run.config_path, {**run.config, "versions": held})
    assert all(path.is_file() for path in nas.pareto(run.path, pictures=0))
    write_yaml(run.config_path, {**run.config, "versions": held, "training": held})
    assert nas.info(run.path).fields["versions"] == {}


@pytest.mark.parametrize("verb", ["rank_check", "finetune"])
def test_work_of_days_says_so_before_it_begins(
    loaded: LoadedRun, tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.training.expected._macs_a_second", lambda device: 1e6)
    for module in ("nas.analysis.rank", "nas.verbs.finetune"):
        monkeypatch.setattr(f"{module}.train_or_resume", stopped)
    if verb == "finetune":
        loaded.export(tmp_path / "codec", arch=loaded.front()["arch"][0])
    else:
        shutil.copytree(loaded.run.path, tmp_path / "run")
    given = {
        "rank_check": (tmp_path / "run", photo_folder),
        "finetune": (tmp_path / "codec", photo_folder, tmp_path / "tuned"),
    }
    told = r"expected to take about [0-9,]+ days on this machine \([0-9]+ trainings? of 5,000,000 steps\)"
    with pytest.warns(InputWarning, match=told), pytest.raises(KeyboardInterrupt):
        getattr(nas, verb)(*given[verb], steps=5_000_000, device="cpu")
    for module in ("nas.analysis.rank", "nas.verbs.finetune"):
        monkeypatch.setattr(f"{module}.seconds_at_cost", lambda *_: 60.0)
    with pytest.raises(KeyboardInterrupt):
        getattr(nas, verb)(*given[verb], steps=5_000_000, device="cpu")


def test_a_space_of_one_architecture_goes_through_every_verb(tmp_path: Path, photo_folder: Path) -> None:
    """No step, no smaller target, a single dot."""
    space = SPACES["factorized-integer"]
    one = space.only(space.widest())
    run = small_run(tmp_path / "run", one, photo_folder)
    found = nas.load_run(run.path, device="cpu")
    found.search(trials=2, sources=QUICK)
    (key,) = found.front()["arch"]
    table = nas.explain(run, key, out=tmp_path / "steps.svg")
    assert table.groups == {}
    assert "no other step" in " ".join(table.sentences())
    assert (tmp_path / "steps.svg").is_file()
    assert all(path.is_file() for path in draw_runs([run], tmp_path / "drawn"))
    with pytest.raises(InputError, match=r"all of them cost 0\.\d+ kMAC/px\. Ask for that\."):
        found.search("50%", trials=0, sources=QUICK)


def test_a_space_without_blocks_is_drawn(tmp_path: Path, photo_folder: Path) -> None:
    """Depths that are 0 in every architecture."""
    content = content_of(FAMILIES["residual"])
    content["widths"] |= {name: 0 for name in content["widths"] if name.endswith("_depth")}
    run = small_run(tmp_path / "run", SearchSpace.from_dict(content, name="shallow"), photo_folder)
    found = nas.load_run(run.path, device="cpu")
    found.search(trials=3, sources=QUICK)
    written = draw_runs([run], tmp_path / "drawn")
    assert all(path.is_file() for path in written)
    found.explain(found.front()["arch"][0])


# What objects say of themselves


def test_the_objects_of_a_search_are_shown_in_a_line() -> None:
    space = nas.SearchSpace.load("patch-small")
    shown = repr(space)
    assert shown == (
        f"SearchSpace('patch-small': family patch, {len(space.slots)} slots, {len(space.layouts)} layouts, "
        f"{space.size:,} architectures)"
    )
    assert repr(space.family) == "Family('patch': g_a, h_a, h_s, g_s)"
    widest = space.widest()
    assert repr(widest) == f"Architecture({widest.key!r})"
    assert repr(nas.Budget.of("20", "decoder")) == "Budget('target 20': decoder at 20 kMAC/px)"
    assert repr(nas.Budget.load("laptop")).startswith(
        "Budget('laptop': decoder at 30.8 kMAC/px, 58.5 kMAC/px, "
    )
