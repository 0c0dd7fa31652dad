"""Devices, threads and memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch

from nas.support.errors import InputError
from nas.support.limits import check_precision

MEMORY = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")  # mount points of cgroup versions 2 and 1
# glibc's M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD (malloc.h): values that keep freed memory, of which
# the last is the largest that it takes, and its own values.
_MALLOC = {-1: (2**31 - 1, 1 << 17), -2: (1 << 28, 1 << 17), -3: (1 << 25, 1 << 17)}


def choose(name: str) -> torch.device:
    """Choose the device: `auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises:
        InputError: the name is unknown, or this machine has no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"There is no device '{name}': choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here: use --device cpu, or leave --device out.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def one_thread(alone: bool = True) -> Iterator[None]:
    """Context with one thread inside each operation. Small work is as fast, and no thread waits for others.

    Args:
        alone: False leaves the threads as they are.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if alone else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def side_by_side(device: torch.device) -> Iterator[tuple[int, Callable[[], None]]]:
    """Context for threads that each compute alone. Gives their number, and a function that each calls first.

    Small networks gain little from several threads inside an operation, and lose much of it where other
    programs run; so every part gets one thread. On a GPU two suffice to read and write meanwhile.

    Args:
        device: where the parts are computed.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 2
    with one_thread():
        yield threads, lambda: torch.set_num_threads(1)


def multiplies_bfloat16(on_gpu: bool) -> bool:
    """Whether the GPU, or the CPU, has instructions that multiply bfloat16: emulated, it is slow.

    Args:
        on_gpu: ask of the GPU instead of the CPU.
    """
    if on_gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch has no public name for these (2.15); a version without them means no
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, test, bool)()) for test in tests)


def takes_bfloat16(precision: str, on_gpu: bool) -> bool:
    """Whether to compute in bfloat16 where that is allowed.

    Args:
        precision: `32` (no), `bf16` (yes), or `auto`: if the GPU or CPU has instructions for it.
        on_gpu: whether a GPU computes.

    Raises:
        InputError: it is none of these.
    """
    check_precision(precision)
    return precision == "bf16" or (precision == "auto" and multiplies_bfloat16(on_gpu))


def machine_name(device: torch.device) -> str:
    """The name of the GPU or of the processor.

    Args:
        device: a GPU or the CPU.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return next(_processor_names(), "") or platform.processor() or platform.machine()


def cores() -> int:
    """Number of processor cores that this process may use, at least one."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def free_memory(device: torch.device) -> int | None:
    """Free memory of a device in bytes, swap included, or None if it is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    amounts = [free for free in (_free_here(), *_free_in_groups()) if free is not None]
    return min(amounts, default=None)


def return_free_memory() -> None:
    """Return memory that this process has freed to the system, if the C library keeps it (glibc).

    Networks of many shapes leave gaps of many sizes, so that what the library keeps grows with every shape.
    """
    if trim := _of_glibc("malloc_trim"):
        trim(0)


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Context in which memory that this process frees is kept and used again (glibc only).

    Else every step of a training gives its large tensors back to the system and takes them anew, a fault for
    each page: 16,000 for a step of four crops.
    """
    mallopt = _of_glibc("mallopt") or (lambda parameter, value: 0)
    try:
        for parameter, (kept, _) in _MALLOC.items():
            mallopt(parameter, kept)
        yield
    finally:
        for parameter, (_, usual) in _MALLOC.items():
            mallopt(parameter, usual)
        return_free_memory()


@cache
def _of_glibc(name: str) -> Callable[..., int] | None:
    """glibc's function of this name, or None if another library allocates memory."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _free_here() -> int | None:
    """Free memory of the whole machine. Known only on Linux."""
    lines = MEMORY.read_text().splitlines() if MEMORY.is_file() else []
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return sizes["MemAvailable"] + sizes.get("SwapFree", 0) if "MemAvailable" in sizes else None


def _free_in_groups() -> Iterator[int]:
    """Of a container: what its limit leaves beside what cannot be given back."""
    names = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for folder, (limit, used) in zip(GROUPS, names, strict=True):
        with contextlib.suppress(OSError, ValueError):  # no limit is written in words
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            files = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
            yield int((folder / limit).read_text()) - int((folder / used).read_text()) + files


def _processor_names() -> Iterator[str]:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else []:
        if line.startswith("model name"):
            yield line.partition(":")[2].strip()
