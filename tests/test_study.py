"""A shared study: whoever is killed, whenever, no trial is lost and none is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from study_workers import FACTS, NAME, SLOTS, Numbers, open_study, values
from test_read_only import as_anybody

from nas.searching.sampler.attempts import ATTEMPTS
from nas.searching.sampler.proposer import ExhaustedError
from nas.searching.study.shared import SharedStudy
from nas.searching.study.storage import close_storage, open_storage
from nas.searching.study.worker import GONE, WORKER_KEY, Worker, WorkerRegistry
from nas.support.errors import InputError

SCRIPT = Path(__file__).with_name("study_workers.py")
POSTGRES = "NAS_TEST_POSTGRES"
Architecture = tuple[int, ...]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def architecture(params: dict[str, Any]) -> Architecture:
    return tuple(params[name] for name in SLOTS)


def workers(folder: Path, url: str | None, how: str, number: int, trials: int, seed: int = 0) -> int:
    """Let workers score so many architectures; how many of them were killed meanwhile."""
    command = [sys.executable, str(SCRIPT), str(folder), url or "", how, *map(str, (number, trials, seed))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def trials(folder: Path, url: str | None = None) -> list[FrozenTrial]:
    storage = open_storage(url or folder / "study.log")
    found = optuna.load_study(study_name=NAME, storage=storage).get_trials()
    close_storage(storage)
    return found


def complete(found: list[FrozenTrial]) -> list[Architecture]:
    return [architecture(trial.params) for trial in found if trial.state == TrialState.COMPLETE]


def assert_none_lost_none_twice(folder: Path, url: str | None, wanted: int) -> None:
    # Running ones, and failed ones whose finder was killed before it took them up.
    found = trials(folder, url)
    left = {architecture(trial.params) for trial in found} - set(complete(found))
    with open_study(folder, url) as study:
        for _ in range(len(left)):  # by the last ones that were killed
            trial = study.ask()
            assert architecture(trial.params) in left
            assert study.tell(trial, values(trial.params), {"bpp": 0.5})
        # Asking also ends what is left of a worker that was killed before it gave up what another one held.
        trial = study.ask()
        assert architecture(trial.params) not in {architecture(each.params) for each in found}
        assert study.tell(trial, values(trial.params), {"bpp": 0.5})
    found = trials(folder, url)
    done = complete(found)
    assert len(done) == len(set(done)) >= wanted
    assert set(done) == {architecture(trial.params) for trial in found}
    for trial in found:
        if trial.state == TrialState.COMPLETE:
            assert trial.values == values(trial.params)
            assert trial.user_attrs["bpp"] == 0.5
        else:
            assert trial.state == TrialState.FAIL


# One worker


def test_killed_at_each_write_it_scores_the_same_in_the_same_order(tmp_path):
    assert workers(tmp_path / "killed", None, "writes", 1, 8) > 8
    with open_study(tmp_path / "alone", None) as study:
        for _ in range(8):
            trial = study.ask()
            study.tell(trial, values(trial.params))
    assert complete(trials(tmp_path / "killed")) == complete(trials(tmp_path / "alone"))
    assert_none_lost_none_twice(tmp_path / "killed", None, 8)


def test_what_was_not_told_comes_first_the_next_time(tmp_path):
    with open_study(tmp_path, None) as study:
        first = study.ask()
    with open_study(tmp_path, None) as study:
        again = study.ask()
        assert again.params == first.params
        assert not study.tell(first, values(first.params))  # it was given to the other one
        assert study.finished() == []
        assert study.tell(again, values(again.params), {"bpp": 0.5})
        assert study.ask().params != first.params
        (finished,) = study.finished()
        assert finished.params == first.params
        assert finished.user_attrs["bpp"] == 0.5
        assert study.finished() == []


def test_a_wanted_architecture_is_taken_once(tmp_path):
    params = dict.fromkeys(SLOTS, 3)
    with open_study(tmp_path, None) as study, open_study(tmp_path, None) as other:
        trial = study.take(params)
        assert trial is not None
        assert trial.params == params
        assert other.take(params) is None
        assert other.ask().params != params
        study.tell(trial, values(params))
        assert other.take(params) is None
        assert [t.params for t in other.finished()] == [params]


def test_a_sampler_that_repeats_itself_is_exhausted_in_the_end(tmp_path):
    class Same(Numbers):
        def sample_relative(self, *_: Any) -> dict[str, Any]:
            return dict.fromkeys(SLOTS, 1)

    with SharedStudy.open(NAME, Same(0), SLOTS, url=None, folder=tmp_path, facts=FACTS) as study:
        study.ask()
        with pytest.raises(ExhaustedError):
            study.ask()


def test_a_sampler_of_optuna_draws_independently(tmp_path):
    sampler = optuna.samplers.RandomSampler(seed=0)
    with SharedStudy.open(NAME, sampler, SLOTS, url=None, folder=tmp_path, facts=FACTS) as study:
        asked = {architecture(study.ask().params) for _ in range(20)}
    assert len(asked) == 20


def test_what_a_worker_that_is_gone_was_at_can_be_taken(tmp_path):
    params = dict.fromkeys(SLOTS, 3)
    with open_study(tmp_path, None) as study:
        with open_study(tmp_path, None) as other:
            assert other.take(params) is not None
            assert study.take(params) is None
        assert study.take(params) is not None


def test_a_line_that_was_cut_off_is_taken_away(tmp_path):
    journal = tmp_path / "study.log"
    with open_study(tmp_path, None) as study:
        first = study.ask()
        study.tell(first, values(first.params))
    for torn in (b'{"op_code":4,"wor', b"{", b"\x00\x00"):
        whole = journal.read_bytes()
        journal.write_bytes(whole + torn)
        with open_study(tmp_path, None) as study:
            trial = study.ask()
            study.tell(trial, values(trial.params))
        assert journal.read_bytes().startswith(whole + b"{")
    assert len(complete(trials(tmp_path))) == 4


@pytest.mark.parametrize("how", ["raises", "dies"])
def test_what_cannot_be_scored_is_set_aside_after_a_few_attempts(tmp_path, how):
    """By whichever workers; what was stopped from outside is no attempt, nor is what was never begun."""
    begun: list[contextlib.AbstractContextManager[None]] = []
    with open_study(tmp_path, None) as study:
        first = study.ask().params
    for outside in (KeyboardInterrupt, OSError):
        with open_study(tmp_path, None) as study, contextlib.suppress(outside):
            trial = study.ask()
            assert trial.params == first
            with study.attempt(trial):
                raise outside
    for _ in range(ATTEMPTS):
        with open_study(tmp_path, None) as study:
            assert study.set_aside() == []
            trial = study.ask()
            assert trial.params == first
            if how == "raises":
                with pytest.raises(RuntimeError), study.attempt(trial):
                    raise RuntimeError
            else:
                begun.append(study.attempt(trial))
                begun[-1].__enter__()  # and this worker is gone
    sampler = optuna.samplers.RandomSampler(seed=0)
    with SharedStudy.open(NAME, sampler, SLOTS, url=None, folder=tmp_path, facts=FACTS) as study:
        trial = study.ask()
        assert trial.params != first
        assert study.set_aside() == [first]
        assert study.take(first) is None
        assert study.tell(trial, values(trial.params))


# Several


def test_workers_killed_at_random_moments(tmp_path):
    workers(tmp_path, None, "random", 3, 100)
    assert_none_lost_none_twice(tmp_path, None, 100)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_many_workers_killed_at_random_moments(tmp_path, seed):
    assert workers(tmp_path, None, "random", 6, 400, seed) > 20
    assert_none_lost_none_twice(tmp_path, None, 400)


@pytest.mark.slow
def test_workers_killed_at_random_moments_in_sqlite(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    workers(tmp_path, url, "random", 3, 50)
    assert_none_lost_none_twice(tmp_path, url, 50)


@pytest.fixture
def postgres() -> Iterator[str]:
    """A database of its own on the server that the environment names."""
    server = os.environ.get(POSTGRES)
    if not server:
        pytest.skip(f"NO POSTGRESQL TESTED: set {POSTGRES}=postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    url = make_url(server).set(drivername="postgresql+pg8000")
    name = f"nas_{os.getpid()}_{time.monotonic_ns()}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def test_workers_killed_at_random_moments_in_postgresql(tmp_path, postgres):
    workers(tmp_path, postgres, "random", 2, 10)
    assert_none_lost_none_twice(tmp_path, postgres, 10)


@pytest.mark.slow
def test_many_workers_killed_at_random_moments_in_postgresql(tmp_path, postgres):
    assert workers(tmp_path, postgres, "random", 4, 60) > 5
    assert_none_lost_none_twice(tmp_path, postgres, 60)


# Who is alive


@pytest.fixture
def storage() -> tuple[BaseStorage, int]:
    storage = InMemoryStorage()
    return storage, storage.create_new_study([StudyDirection.MINIMIZE] * 2, NAME)


def test_a_worker_elsewhere_is_alive_while_its_heart_beats(storage):
    far = str(Worker("far", "00000000", 1, 1, "x"))
    stop = threading.Event()

    def beat() -> None:
        for count in range(1000):
            storage[0].set_study_system_attr(storage[1], WORKER_KEY + far, count)
            if stop.wait(0.05):
                return

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        registry = WorkerRegistry(*storage, beat=0.05, grace=0.6)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert registry.others() == {far: True}
            time.sleep(0.05)
    finally:
        stop.set()
        heart.join()
    assert registry.others() == {far: True}
    time.sleep(0.7)
    assert registry.others() == {far: False}
    registry.close()


def test_what_is_not_known_is_waited_for(storage):
    storage[0].set_study_system_attr(storage[1], WORKER_KEY + str(Worker("far", "00000000", 1, 1, "x")), 7)
    began = time.monotonic()
    registry = WorkerRegistry(*storage, beat=0.05, grace=0.4)
    assert time.monotonic() - began >= 0.4
    assert list(registry.others().values()) == [False]
    registry.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process began")
def test_a_process_of_this_place_that_ended_is_gone_at_once(storage):
    with subprocess.Popen(["sleep", "100"]) as child:
        here = Worker.here()
        stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        worker = Worker(here.host, here.place, child.pid, int(stat[19]), "x")
        assert not worker.ended()
        child.kill()
        until = time.monotonic() + 5
        while not worker.ended() and time.monotonic() < until:  # though nobody has waited for it
            time.sleep(0.01)
        assert worker.ended()
    assert worker.ended()
    reused = Worker(here.host, here.place, here.pid, here.started + 1, "x")  # a later one of the same number
    for gone in (worker, reused):
        storage[0].set_study_system_attr(storage[1], WORKER_KEY + str(gone), 7)
    storage[0].set_study_system_attr(storage[1], WORKER_KEY + str(here), 7)
    registry = WorkerRegistry(*storage)
    assert registry.others() == {str(worker): False, str(reused): False, str(here): True}
    registry.close()
    assert storage[0].get_study_system_attrs(storage[1])[WORKER_KEY + registry.me] == GONE


def test_a_killed_writer_blocks_nobody(tmp_path):
    open_study(tmp_path, None).close()
    lock = tmp_path / ".study.log.lock"
    hold = (
        f"import time, filelock; lock = filelock.FileLock({str(lock)!r}); lock.acquire(); print(flush=True)"
    )
    command = [sys.executable, "-c", f"{hold}; time.sleep(20)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline()
        joined = threading.Thread(target=lambda: open_study(tmp_path, None).close())
        joined.start()
        joined.join(0.3)
        assert joined.is_alive()  # it waits for its turn
        writer.kill()
    joined.join(10)
    assert not joined.is_alive()


# What is refused


def test_a_study_of_other_facts_is_refused(tmp_path):
    open_study(tmp_path, None).close()
    with pytest.raises(InputError, match=r"other weights: .*copy of the run") as refused:
        open_study(tmp_path, None, facts={**FACTS, "weights": "other"})
    assert str(tmp_path / "study.log") in str(refused.value)
    with pytest.raises(InputError, match="other search space and photos"):
        open_study(tmp_path, None, facts={"weights": "abc", "search space": "x", "photos": "y"})
    open_study(tmp_path, None).close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysterious://host/base", "not a database URL: give postgresql://"),
        ("redis://localhost", "not a database URL"),
        ("postgresql://u:secret@host:port/base", "not a database URL"),
        ("postgresql://u:secret@127.0.0.1:1/base", r"u:\*\*\*@127.0.0.1:1/base cannot be used: .*refused"),
        ("postgresql+psycopg://u:secret@127.0.0.1:1/base", "needs the driver psycopg"),
        ("sqlite:////proc/study.db", "cannot be used: unable to open database file"),
        ("sqlite:////proc/nowhere/study.db", "there is no folder /proc/nowhere. Make it first"),
        ("sqlite:////dev/null", "is not a file: give sqlite:///FILE"),
        ("sqlite:///a\0b", "no file can be called so"),
        ("sqlite:///" + "x" * 300, "has a name of 300 bytes"),
        ("sqlite:///x.db?timeout=long", r"has a wrong option \(could not .*\): leave it out"),
        ("sqlite:///x.db?mode=ro", r"has a wrong option \(.*\): leave it out"),
        ("sqlite://x.db", r"cannot be used: Invalid SQLite URL.*\. Check the database, or give another"),
        ("sqlite:/x.db", "is not a database URL, which has ://: give postgresql://"),
        ("postgresql:u:secret@host/base", "is not a database URL, which has ://"),
        (f"sqlite:///{SCRIPT}", "is not an SQLite database: .*journal, give its path without"),
        ("/proc/nowhere/study.log", "Cannot open the journal.*or give another --storage"),
        (str(SCRIPT), "is damaged, or is not a journal: move it away"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_told_in_a_sentence(tmp_path, url, says):
    before = SCRIPT.read_bytes()
    with pytest.raises(InputError, match=says) as refused:
        open_study(tmp_path, url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert SCRIPT.read_bytes() == before


@pytest.mark.parametrize(
    "record",
    [
        b'{"op_code": 7, "wor{"op_code": 4}\n',
        b"\x00\x00\x00\n",
        b"[]\n",
        b"null\n",
        b"{}\n",
        b'{"op_code": 99, "worker_id": "x"}\n',
        b'{"op_code": 4, "worker_id": "x"}\n',
        b"\xff\xfe\n",
    ],
)
@pytest.mark.parametrize("more", [b"", b'{"op_code":1}\n'])
def test_a_journal_with_a_bad_record_is_refused_before_anything_is_written(tmp_path, record, more):
    with open_study(tmp_path, None) as study:
        trial = study.ask()
        study.tell(trial, values(trial.params))
    journal = tmp_path / "study.log"
    journal.write_bytes(journal.read_bytes() + record + more)
    before = journal.read_bytes()
    with pytest.raises(InputError, match="is damaged, or is not a journal: move it away"):
        open_study(tmp_path, None)
    assert journal.read_bytes() == before


@pytest.mark.parametrize("name", ["user_attrs", "system_attrs"])
@pytest.mark.parametrize("value", [[], [None], "x", 3])
def test_a_journal_whose_attributes_are_of_another_kind_is_refused(tmp_path, name, value):
    with open_study(tmp_path, None) as study:
        study.ask()
    journal = tmp_path / "study.log"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    changed = [{**record, name: value} if name in record else record for record in records]
    assert changed != records
    journal.write_text("".join(json.dumps(record) + "\n" for record in changed))
    before = journal.read_bytes()
    with pytest.raises(InputError, match="is damaged, or is not a journal: move it away"):
        open_study(tmp_path, None)
    assert journal.read_bytes() == before


def test_a_journal_that_is_damaged_meanwhile_is_told_in_a_sentence(tmp_path):
    with open_study(tmp_path, None) as study:
        with open(tmp_path / "study.log", "ab") as file:
            file.write(b"no record\n" * 2)
        with pytest.raises(InputError, match="is damaged, or is not a journal"):
            study.ask()


@pytest.mark.parametrize(
    "change",
    [
        "update alembic_version set version_num = 'v2.4.0.a'",
        "update alembic_version set version_num = 'of the future'",
        "insert into alembic_version values ('v3.0.0.d')",
        "delete from alembic_version; update version_info set library_version = '2.0.0'",
        "drop table alembic_version; update version_info set library_version = '0.9.0'",
    ],
)
def test_a_database_of_another_optuna_is_refused_before_anything_is_written(tmp_path, change):
    url = f"sqlite:///{tmp_path}/study.db"
    open_study(tmp_path, url).close()
    connection = sqlite3.connect(tmp_path / "study.db")
    connection.executescript(change)
    connection.executescript("drop table trial_heartbeats")  # which it would make again
    connection.close()
    before = (tmp_path / "study.db").read_bytes()
    with pytest.raises(InputError, match=r"another version of Optuna: .*optuna storage upgrade"):
        open_study(tmp_path, url)
    assert (tmp_path / "study.db").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        "update study_directions set direction = 'x'",
        "update study_directions set direction = 'MAXIMIZE'",
        "delete from study_directions where objective = 1",
        "update trials set state = 'x'",
        "delete from trials where number = 0",
        "update trials set number = 1",
        "update trial_params set distribution_json = 'x'",
        "update study_user_attributes set value_json = '{'",
        "update trial_user_attributes set value_json = cast(x'ff' as text)",
        "delete from studies",
    ],
)
def test_a_damaged_database_is_told_in_a_sentence(tmp_path, change):
    url = f"sqlite:///{tmp_path}/study.db"
    with open_study(tmp_path, url) as study:
        trial = study.ask()
        study.tell(trial, values(trial.params), {"bpp": 0.5})
    connection = sqlite3.connect(tmp_path / "study.db")
    connection.executescript(change)
    connection.close()
    with contextlib.suppress(InputError), open_study(tmp_path, url) as study:
        study.finished()
        study.ask()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database in which a trial ended, and another one did not."""
    folder = tmp_path_factory.mktemp("database")
    with open_study(folder, f"sqlite:///{folder}/study.db") as study:
        trial = study.ask()
        study.tell(trial, values(trial.params), {"bpp": 0.5})
        study.ask()
    return (folder / "study.db").read_bytes()


@pytest.fixture
def kept(tmp_path: Path, database: bytes) -> tuple[str, Path]:
    """Its URL and its file."""
    (tmp_path / "study.db").write_bytes(database)
    return f"sqlite:///{tmp_path}/study.db", tmp_path / "study.db"


def refused(folder: Path, url: str, says: str) -> None:
    """Refused in a sentence, and no byte of the files is changed."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=says):
        open_study(folder, url)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_database_with_any_page_lost_is_refused_before_anything_is_written(tmp_path, kept):
    url, path = kept
    whole = path.read_bytes()
    for begin in range(0, len(whole), 3 * 4096):
        says = "is damaged .*: move it away and search again" if begin else "not an SQLite database"
        path.write_bytes(whole[:begin] + bytes(4096) + whole[begin + 4096 :])
        refused(tmp_path, url, says)
        if begin:
            path.write_bytes(whole[:begin])
            refused(tmp_path, url, "is damaged")
    path.write_bytes(whole[:50])
    refused(tmp_path, url, "is damaged|not an SQLite")


@pytest.mark.parametrize(
    "change",
    [
        "update trial_params set distribution_json = replace(distribution_json, 'low\": 0', 'low\": 1')",
        "delete from trial_params where param_name = (select min(param_name) from trial_params)",
        "delete from study_user_attributes",
        "update trials set state = 'x'",
        "update trials set number = 1",
        "delete from version_info",
        "drop table trial_heartbeats",
        "alter table trial_values rename column value to x",
        "alter table trials drop column datetime_complete",
    ],
)
def test_a_database_with_rows_of_no_search_is_refused_before_anything_is_written(tmp_path, kept, change):
    url, path = kept
    connection = sqlite3.connect(path)
    connection.executescript(change)
    connection.close()
    refused(tmp_path, url, "is damaged, or holds something else than a search")


@pytest.mark.parametrize(
    "change",
    ["delete from trials where number = 0", "delete from trials where number = 1", "delete from studies"],
)
def test_a_database_with_rows_that_belong_to_nothing_is_refused(tmp_path, kept, change):
    """They would belong to the next trial or study, which gets the number of the one that is gone."""
    url, path = kept
    connection = sqlite3.connect(path)
    connection.executescript(change)
    connection.close()
    refused(tmp_path, url, r"is damaged \(\w+ has rows of (trials|studies) that are not there\)")


@pytest.mark.parametrize("table", ["trials", "trial_params"])
def test_a_database_that_does_not_keep_what_is_written_is_refused(tmp_path, kept, table):
    url, path = kept
    connection = sqlite3.connect(path)
    connection.executescript(
        "update trials set state = 'COMPLETE' where number = 1;"
        f"create trigger forget after insert on {table} begin delete from {table} where trial_id > 2; end"
    )
    connection.close()
    with contextlib.suppress(InputError), open_study(tmp_path, url) as study:
        study.ask()
        pytest.fail("it was given a trial that is not there")


@pytest.mark.parametrize("tables", ["places (a, b)", "studies (a, b)"])
def test_a_database_of_another_program_is_refused(tmp_path, tables):
    connection = sqlite3.connect(tmp_path / "places.db")
    connection.executescript(f"create table {tables}")
    connection.close()
    refused(tmp_path, f"sqlite:///{tmp_path}/places.db", "is a database of another program")


@pytest.mark.parametrize("how", ["exclusive", "immediate"])
def test_a_locked_database_is_refused(tmp_path, kept, how, monkeypatch):
    url, path = kept
    monkeypatch.setattr("nas.searching.study.storage.ANSWER", 0.05)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"begin {how}")
        with pytest.raises(InputError, match="is locked by another process: wait until"):
            open_study(tmp_path, url)


@pytest.mark.parametrize("what", ["study.db", "."])
def test_a_read_only_database_is_refused(tmp_path, kept, what):
    url, _ = kept
    mode = (tmp_path / what).stat().st_mode
    (tmp_path / what).chmod(mode & ~0o222)
    try:
        with as_anybody():
            refused(tmp_path, url, "it or its folder is read-only: change its permissions, or copy it")
    finally:
        (tmp_path / what).chmod(mode)


def test_a_database_whose_writer_was_killed_while_it_wrote_is_as_before(tmp_path, kept):
    url, path = kept
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("pragma cache_size = 1; begin; update trials set state = 'FAIL'")
        row = "insert into study_user_attributes (study_id, key, value_json) values (1, ?, '{}')"
        connection.executemany(row, [(f"{number}" + "x" * 400,) for number in range(500)])
        left = {name: (tmp_path / name).read_bytes() for name in ("study.db", "study.db-journal")}
    for name, content in left.items():
        (tmp_path / name).write_bytes(content)
    assert [trial.state for trial in trials(tmp_path, url)] == [TrialState.COMPLETE, TrialState.RUNNING]


def test_a_journal_of_a_search_is_not_written_where_it_is_refused(tmp_path):
    with open_study(tmp_path, None) as study:
        trial = study.ask()
        study.tell(trial, values(trial.params), {"bpp": 0.5})
    journal = tmp_path / "study.log"
    journal.write_bytes(journal.read_bytes().replace(b'"low\\": 0', b'"low\\": 1'))
    before = journal.read_bytes()
    with pytest.raises(InputError, match="is damaged, or is not a journal"):
        open_study(tmp_path, None)
    assert journal.read_bytes() == before


def test_a_wrong_password_is_told_in_a_sentence(tmp_path, postgres):
    wrong = postgres.replace("://nas:", "://nas:x")
    with pytest.raises(InputError, match="password authentication failed"):
        open_study(tmp_path, wrong)


def test_a_missing_driver_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pg8000", None)
    with pytest.raises(InputError, match=r"needs a driver: pip install '\.\[postgres\]'"):
        open_study(tmp_path, "postgresql://u:p@127.0.0.1:1/base")
