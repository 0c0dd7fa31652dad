"""`python -m nas` is `nas`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, which takes a moment to import."""
    try:
        from nas.support.interrupts import as_ctrl_c

        with as_ctrl_c():
            from nas.cli import main as run
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again.", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
