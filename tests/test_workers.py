"""`nas search` as several processes, killed and started again: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from nas.api import load_run
from nas.run import Run
from nas.searching.layouts.candidates import LayoutSettings
from nas.searching.sampler.logits import LogitSettings
from nas.searching.sampler.rows import proposer
from nas.searching.scoring.scores import read_scores
from nas.searching.searcher import Searcher
from nas.searching.sources import Sources
from nas.searching.study.trials import Trials
from nas.spaces.budget import Budget
from nas.support.progress import silent
from nas.training.start import TrainingRequest, start_training

pytestmark = pytest.mark.slow

TRIALS, PATIENCE = 10, 240.0
QUICK = Sources(
    layout_settings=LayoutSettings(ladders=1, steps=0),
    logit_settings=LogitSettings(steps=2, batch=1),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, photo_folder) -> Path:
    """A run of small photos whose layouts were found and whose logits were learned, with nothing scored."""
    out = tmp_path_factory.mktemp("workers") / "run"
    settings = {"steps": 6, "crop": 64, "batch": 2, "architectures": 2}
    request = TrainingRequest("joint-ar-tiny", str(photo_folder), out, settings=settings, device="cpu")
    start_training(request)
    load_run(out, device="cpu").search(trials=1, sources=QUICK)
    for name in ("scores.csv", "study.log"):
        (out / "search" / name).unlink()
    return out


@pytest.fixture
def run(prepared, tmp_path) -> Path:
    return shutil.copytree(prepared, tmp_path / "run")


def worker(run: Path, trials: int, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nas", "search", str(run), "--trials", str(trials), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors.decode()


def keys(run: Path) -> list[str]:
    return [row["key"] for row in read_scores(Run(run).scores_path)]


def wait_for(run: Path, count: int) -> None:
    until = time.monotonic() + PATIENCE
    while len(keys(run)) < count:
        assert time.monotonic() < until, "no worker scores anything"
        time.sleep(0.01)


@pytest.mark.usefixtures("signals_as_usual")
def test_one_worker_killed_twice_leaves_what_an_unharmed_one_leaves(prepared, run, tmp_path):
    whole = shutil.copytree(prepared, tmp_path / "whole")
    finish(worker(whole, TRIALS))
    for count, moment in ((3, signal.SIGKILL), (6, signal.SIGINT)):
        process = worker(run, TRIALS - len(keys(run)))
        wait_for(run, count)
        process.send_signal(moment)
        process.communicate(timeout=PATIENCE)
    finish(worker(run, TRIALS - len(keys(run))))
    assert keys(run) == keys(whole)
    assert (run / "front.csv").read_bytes() == (whole / "front.csv").read_bytes()


@pytest.mark.parametrize("apart", [False, True])
def test_workers_share_a_study_and_one_of_them_is_killed(prepared, run, tmp_path, apart):
    """In one folder, or each with a copy of the run and one journal."""
    folders, more = [run, run, run], ()
    if apart:
        folders = [run, *(shutil.copytree(prepared, tmp_path / f"copy-{k}") for k in range(2))]
        more = ("--storage", str(tmp_path / "journal"))
    workers = [worker(folder, TRIALS, *more) for folder in folders]
    wait_for(run, 2)
    workers[1].kill()
    workers[1].communicate()
    for survivor in (workers[0], workers[2]):
        finish(survivor)
    finish(worker(run, 0, *more))  # whoever comes last knows what all have scored
    found = keys(run)
    assert len(set(found)) == len(found) >= 2 * TRIALS
    for folder in folders:
        assert set(keys(folder)) <= set(found)
        assert len(set(keys(folder))) == len(keys(folder))


def test_what_a_killed_worker_wrote_but_did_not_tell_is_not_scored_again(run):
    def entered() -> tuple[Searcher, Trials]:
        searcher = load_run(run, device="cpu").searcher
        question = searcher.question(None)
        proposals = proposer(searcher.space, question, {})
        return searcher, Trials(searcher.run, searcher.scores, question, proposals, storage=None)

    _, living = entered()
    searcher, killed = entered()

    def another_is_killed(stage: str, done: int, total: int, note: str) -> None:
        if done == 1 and len(keys(run)) == 1:
            trial = killed._study.ask()
            searcher.scores.of(killed._architecture(trial))
            killed._study._fail(trial.number)  # as others do where a worker is gone

    with living, killed:
        living.run(2, another_is_killed)
    found = keys(run)
    assert len(set(found)) == len(found) == 3


def test_a_trial_of_which_only_a_part_was_written_leaves_the_study_whole(run):
    """As Optuna writes one into a database, parameter by parameter, until a worker is killed."""
    searcher = load_run(run, device="cpu").searcher
    question = searcher.question(None)
    proposals = proposer(searcher.space, question, {})
    with Trials(searcher.run, searcher.scores, question, proposals, storage=None) as worker:
        study = worker._study._study
        name, distribution = next(iter(worker._study._distributions.items()))
        study.add_trial(
            create_trial(state=TrialState.RUNNING, params={name: 0}, distributions={name: distribution})
        )
    with Trials(searcher.run, searcher.scores, question, proposals, storage=None) as again:
        again.run(1, silent)
    assert len(keys(run)) == 1


def test_a_study_of_other_layouts_is_refused(run, tmp_path):
    journal = str(tmp_path / "journal")
    finish(worker(run, 1, "--storage", journal))
    content = Run(run).layouts_path.read_text()
    Run(run).layouts_path.write_text(content.replace("greedy-2", "mine-2"))
    process = worker(run, 1, "--storage", journal)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "layouts" in errors.decode()
    assert "Traceback" not in errors.decode()


def test_a_search_under_a_budget_goes_on_where_it_was_killed(prepared, run, tmp_path):
    """The answer to the target is that of a search that was not."""
    whole = shutil.copytree(prepared, tmp_path / "whole")
    finish(worker(whole, TRIALS, "--target", "50%"))
    process = worker(run, TRIALS, "--target", "50%")
    wait_for(run, 4)
    process.kill()
    process.communicate()
    finish(worker(run, TRIALS - len(keys(run)), "--target", "50%"))
    assert keys(run) == keys(whole)
    question = load_run(run, device="cpu").searcher.question(Budget.of("50%"))
    for folder in (run, whole):
        choice = load_run(folder, device="cpu").searcher.choose(question)
        assert choice.kmac_px["total"] <= choice.target


@pytest.mark.parametrize("how", ["raise RuntimeError('too large')", "os.kill(os.getpid(), 9)"])
def test_an_architecture_that_cannot_be_scored_is_set_aside(run, tmp_path, how):
    """It kills its worker, or raises, each time: after a few attempts the others are scored without it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "from nas.searching.scoring.evaluator import Evaluator\n"
        "score = Evaluator.score\n"
        "def fragile(self, architecture):\n"
        f"    if architecture == self.space.widest(): {how}\n"
        "    return score(self, architecture)\n"
        "Evaluator.score = fragile\n"
    )
    for _ in range(6):
        command = [sys.executable, "-m", "nas", "search", str(run), "--trials", "12", "--json"]
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        process = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
        )
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr
    found = json.loads(process.stdout)
    widest = Run(run).space.widest().key
    assert found["set_aside"] == [widest]
    assert widest not in keys(run)
    assert len(keys(run)) >= 12
