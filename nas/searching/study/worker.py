"""Who works on a study: the processes' identities, their heartbeats, and which of them are gone."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from optuna.storages import BaseStorage

from nas.support.files import digest

BEAT, GRACE, PAUSE = 5.0, 30.0, 0.03  # seconds
WORKER_KEY = "worker:"
GONE = -1  # what a worker shows in the end, in place of its heartbeats


@dataclass(frozen=True)
class Worker:
    """A process that works on a study, or did.

    Attributes:
        host: the machine's name, for people.
        place: where its number means something: one boot of one machine, one container.
        pid: its number there.
        started: when it was started, in the kernel's ticks: a later process may have the same number.
        token: random; one process may open a study several times.
    """

    host: str
    place: str
    pid: int
    started: int
    token: str

    @classmethod
    def here(cls) -> Worker:
        """The worker that this process is."""
        host, boot, space = socket.gethostname(), "", ""
        with contextlib.suppress(OSError):  # only Linux tells
            boot = Path("/proc/sys/kernel/random/boot_id").read_text()
            space = os.readlink("/proc/self/ns/pid")
        pid = os.getpid()
        return cls(host, digest(host, boot, space, size=4), pid, _started(pid) or 0, secrets.token_hex(4))

    @classmethod
    def parse(cls, text: str) -> Worker | None:
        """What `str` wrote, or None.

        Args:
            text: the text.
        """
        try:
            host, place, pid, started, token = text.split("/")
            return cls(host, place, int(pid), int(started), token)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host}/{self.place}/{self.pid}/{self.started}/{self.token}"

    def ended(self) -> bool:
        """Whether the process is no more; asked in its own place only."""
        return _started(self.pid) not in (self.started, 0)


def _started(pid: int) -> int | None:
    """When a process was started, in ticks since the boot; 0 where that is not told, None if it ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # it is another user's
        pass
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return None if state in "ZX" else int(fields[18])  # killed, though its parent has not noticed


def wait_for(done: Callable[[], bool]) -> None:
    """Ask again and again, ever less often, until it is done.

    Args:
        done: called again and again; True ends the wait.
    """
    pause = 0.001
    while not done():
        time.sleep(pause)
        pause = min(2 * pause, PAUSE)


class Patience:
    """Tells what has not changed for too long, by this process's own clock: no two clocks are compared.

    Args:
        grace: seconds without a change after which something counts as dead.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._seen: dict[str, tuple[object, float, bool]] = {}

    def alive(self, name: str, sign: object) -> bool | None:
        """Whether `name` still changes its sign; None while that is not known.

        Args:
            name: name of what is watched, such as a worker.
            sign: what it showed last. A change is a sign of life.
        """
        last, since, changed = self._seen.get(name, (sign, time.monotonic(), False))
        if sign != last:
            last, since, changed = sign, time.monotonic(), True
        self._seen[name] = last, since, changed
        if time.monotonic() - since > self.grace:
            return False
        return changed or None


class Crew:
    """The workers of a study, this one among them: its heart beats until `close`.

    It begins when it is known of all others whether they live: at once for those of this place, after a
    heartbeat or `grace` for others.

    What a worker shows is one system attribute of the study, a count of heartbeats. It is gone when it said
    so, when its process ended (seen in the same place only), or when its heart stood still for `grace`
    seconds.

    Args:
        storage: where the study is.
        study_id: its number there.
        beat, grace: in seconds.
    """

    def __init__(
        self, storage: BaseStorage, study_id: int, *, beat: float = BEAT, grace: float = GRACE
    ) -> None:
        self._storage, self._study_id, self._beat, self._grace = storage, study_id, beat, grace
        self._worker, self._patience = Worker.here(), Patience(grace)
        self.me = str(self._worker)
        self._mark(self.me, 0)
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._heart.start()
        try:
            wait_for(lambda: None not in self.others().values())
        except BaseException:
            self.close()
            raise

    def others(self) -> dict[str, bool | None]:
        """Whether each other worker that ever was is alive; None while that is not known."""
        shown = self._storage.get_study_system_attrs(self._study_id)
        signs = {
            key.removeprefix(WORKER_KEY): sign for key, sign in shown.items() if key.startswith(WORKER_KEY)
        }
        others: dict[str, bool | None] = {}
        for name, sign in signs.items():
            if name != self.me:
                others[name] = self._alive(name, sign)
                if others[name] is False and sign != GONE:
                    self._mark(name, GONE)  # nobody needs to find that out again
        return others

    def close(self) -> None:
        """Say that this worker is gone."""
        self._stop.set()
        self._heart.join(self._beat)
        with contextlib.suppress(Exception):  # a server that is away: the others find out
            self._mark(self.me, GONE)

    def _alive(self, name: str, sign: int) -> bool | None:
        worker = Worker.parse(name)
        if sign == GONE or worker is None:
            return False
        if worker.place == self._worker.place:
            return not worker.ended()
        return self._patience.alive(name, sign)

    def _mark(self, name: str, sign: int) -> None:
        self._storage.set_study_system_attr(self._study_id, WORKER_KEY + name, sign)

    def _keep_beating(self) -> None:
        for beats in itertools.count(1):
            if self._stop.wait(self._beat):
                return
            with contextlib.suppress(Exception):  # a server may be away for a while: the next one tells
                self._mark(self.me, beats)
