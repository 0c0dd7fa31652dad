"""The command group: exit statuses, warnings as sentences, and the version."""

from __future__ import annotations

import io
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from nas.support.errors import InputError, InputWarning, in_one_line

# Of the library below typer: an option, argument or command that there is not, or its value
_UsageError: Any = typer.BadParameter.__base__


@contextmanager
def _warnings_in_words(most: int = 3) -> Iterator[None]:
    """Print warnings about the input as sentences, each once, and only the first few of each kind."""
    said: dict[type[Warning], set[str]] = defaultdict(set)
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, InputWarning):
                usual(message, category, *where, **more)
            elif str(message) not in said[category]:
                said[category].add(str(message))
                if len(said[category]) <= most:
                    print(f"Note: {message}", file=sys.stderr)

        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = show
        try:
            yield
        finally:
            for sentences in said.values():
                if len(sentences) > most:
                    print(f"Note: there are {len(sentences) - most} more like the last.", file=sys.stderr)


def _in_words(error: typer.BadParameter) -> str:
    """A sentence about a wrong value of an option. The parser's own message is too technical."""
    reasons: list[Any] = getattr(error.__cause__, "errors", list)()
    if not reasons:
        return error.message
    given, kind, facts = reasons[0]["input"], reasons[0]["type"], reasons[0].get("ctx", {})
    if kind.startswith("int"):
        return f"'{given}' is not a whole number: give one such as 4."
    if kind.startswith(("float", "decimal", "finite")):
        return f"'{given}' is not a number: give one such as 4.5."
    if kind == "greater_than_equal":
        return f"{given} is too little: give {facts['ge']:g} or more."
    if kind == "less_than_equal":
        return f"{given} is too much: give {facts['le']:g} or less."
    return error.message


@contextmanager
def _short_usage_errors() -> Iterator[None]:
    """What is wrong with the words of a command, in our words, and without all of a long word."""
    try:
        yield
    except _UsageError as error:
        if isinstance(error, typer.BadParameter):
            error.message = _in_words(error)
        error.message = in_one_line(error.message)
        raise


class Verb(TyperCommand):
    """Refuses an option that is given twice. The parser would silently take the last value."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:  # noqa: D102
        order: list[Any] = self.make_parser(ctx).parse_args(args=list(args))[2]
        for option, times in Counter(order).items():
            takes_one = option.param_type_name == "option" and not (option.multiple or option.is_flag)
            if times > 1 and takes_one:
                raise _UsageError(f"{option.opts[0]} is given {times} times: give it once.", ctx)
        return super().parse_args(ctx, args)


class _Verbs(TyperGroup):
    """Sets exit statuses: 0; 2 for wrong input, in one sentence; 130 when interrupted; 1 for our errors."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if any(word == "" or (word.startswith("--") and word.endswith("=")) for word in args):
            print("Error: An argument is empty: a variable of the shell may be unset.", file=sys.stderr)
            ctx.exit(2)
        with _short_usage_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        from nas.support.interrupts import as_ctrl_c

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names need not be UTF-8
        try:
            with as_ctrl_c(), _warnings_in_words(), _short_usage_errors():
                return super().invoke(ctx)
        except InputError as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            message = f"Cannot use {error.filename}: {error.strerror or error}."
            print(f"Error: {in_one_line(message)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt as stop:
            from nas.cli.work import ReportedInterruptError

            told = isinstance(stop, ReportedInterruptError)
            print("Interrupted." if told else "Interrupted. Run the same command again.", file=sys.stderr)
            sys.exit(130)


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,  # its renderer alone takes longer to import than help may take
    pretty_exceptions_enable=False,
    help="Neural architecture search for learned image codecs: train one supernet, search it under a "
    "budget, export the codecs you choose.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import nas

        print(f"nas {nas.__version__}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass
