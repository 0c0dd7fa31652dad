"""What runs on a GPU leaves no tensor behind on the CPU: `gpu_checks.py`, in a process of its own.

A device must be known to torch before the first backward pass of a process, which other tests have taken.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_nothing_is_left_behind_on_the_cpu():
    checks = Path(__file__).with_name("gpu_checks.py")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", str(checks)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checks.parent.parent, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
