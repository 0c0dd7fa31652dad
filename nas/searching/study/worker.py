"""The workers of a study: the identities of their processes, their heartbeats, and which of them are gone."""

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
GONE = -1  # replaces the count of heartbeats when a worker signs off


@dataclass(frozen=True)
class Worker:
    """A process that works or has worked on a study.

    Attributes:
        host: name of the machine, for messages.
        place: scope in which the process number is unique: one boot of one machine, or one container.
        pid: number of the process.
        started: start time of the process in kernel ticks, because numbers of processes are used again.
        token: a random number, because one process may open a study several times.
    """

    host: str
    place: str
    pid: int
    started: int
    token: str

    @classmethod
    def here(cls) -> Worker:
        """The worker of this process."""
        host, boot, space = socket.gethostname(), "", ""
        with contextlib.suppress(OSError):  # only available on Linux
            boot = Path("/proc/sys/kernel/random/boot_id").read_text()
            space = os.readlink("/proc/self/ns/pid")
        pid = os.getpid()
        return cls(host, digest(host, boot, space, size=4), pid, _started(pid) or 0, secrets.token_hex(4))

    @classmethod
    def parse(cls, text: str) -> Worker | None:
        """Parse the text that `str` gives for a worker. Returns None for other text.

        Args:
            text: text to parse.
        """
        try:
            host, place, pid, started, token = text.split("/")
            return cls(host, place, int(pid), int(started), token)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host}/{self.place}/{self.pid}/{self.started}/{self.token}"

    def ended(self) -> bool:
        """Whether the process has ended. Only known in the same place."""
        return _started(self.pid) not in (self.started, 0)


def _started(pid: int) -> int | None:
    """Start time of a process in ticks since boot: 0 if it is unknown, None if the process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # the process belongs to another user
        pass
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return None if state in "ZX" else int(fields[18])  # a zombie or dead process has ended


def wait_for(done: Callable[[], bool]) -> None:
    """Call a function again and again, with growing pauses, until it returns True.

    Args:
        done: the function.
    """
    pause = 0.001
    while not done():
        time.sleep(pause)
        pause = min(2 * pause, PAUSE)


class LivenessMonitor:
    """Tells whether something still changes, by this process's own clock. No two clocks are compared.

    Args:
        grace: seconds without a change after which something counts as dead.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._seen: dict[str, tuple[object, float, bool]] = {}

    def alive(self, name: str, sign: object) -> bool | None:
        """Whether `name` still changes its sign, or None while that is not known.

        Args:
            name: name of the watched thing, such as a worker.
            sign: the latest value that it showed. A change is a sign of life.
        """
        last, since, changed = self._seen.get(name, (sign, time.monotonic(), False))
        if sign != last:
            last, since, changed = sign, time.monotonic(), True
        self._seen[name] = last, since, changed
        if time.monotonic() - since > self.grace:
            return False
        return changed or None


class WorkerRegistry:
    """The workers of a study. This process joins them and sends heartbeats until `close`.

    The constructor waits until it knows which other workers are alive: at once for workers in the same place,
    and after a heartbeat or after `grace` seconds for others.

    Each worker writes a count of heartbeats into a system attribute of the study. It counts as gone when it
    has signed off, when its process has ended (seen in the same place only), or when it has sent no heartbeat
    for `grace` seconds.

    Args:
        storage: storage of the study.
        study_id: number of the study in the storage.
        beat, grace: seconds between heartbeats, and seconds without one after which a worker is gone.
    """

    def __init__(
        self, storage: BaseStorage, study_id: int, *, beat: float = BEAT, grace: float = GRACE
    ) -> None:
        self._storage, self._study_id, self._beat, self._grace = storage, study_id, beat, grace
        self._worker, self._patience = Worker.here(), LivenessMonitor(grace)
        self.me = str(self._worker)
        self._mark(self.me, 0)
        self._stop = threading.Event()
        self._heartbeat = threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True)
        self._heartbeat.start()
        try:
            wait_for(lambda: None not in self.others().values())
        except BaseException:
            self.close()
            raise

    def others(self) -> dict[str, bool | None]:
        """Whether each other worker that ever joined is alive, or None while that is not known."""
        shown = self._storage.get_study_system_attrs(self._study_id)
        signs = {
            key.removeprefix(WORKER_KEY): sign for key, sign in shown.items() if key.startswith(WORKER_KEY)
        }
        others: dict[str, bool | None] = {}
        for name, sign in signs.items():
            if name != self.me:
                others[name] = self._alive(name, sign)
                if others[name] is False and sign != GONE:
                    self._mark(name, GONE)  # so that no other worker has to find out again
        return others

    def close(self) -> None:
        """Sign off."""
        self._stop.set()
        self._heartbeat.join(self._beat)
        with contextlib.suppress(Exception):  # if the server is away, the others notice by themselves
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

    def _send_heartbeats(self) -> None:
        for beats in itertools.count(1):
            if self._stop.wait(self._beat):
                return
            with contextlib.suppress(Exception):  # a server may be away for a while
                self._mark(self.me, beats)
