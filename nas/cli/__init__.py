"""The command line: commands without logic of their own. Commands import heavy parts when they run."""

from __future__ import annotations

from nas.cli import codecs, facts, files, group, runs
from nas.cli.options import EXAMPLES

app = group.app
for verb in (  # in the order of `nas --help`
    runs.demo,
    runs.train,
    runs.search,
    runs.pareto,
    runs.explain,
    runs.probe,
    codecs.export,
    files.compress,
    files.decompress,
    files.transcode,
    runs.rank_check,
    codecs.finetune,
    codecs.evaluate,
    facts.profile,
    facts.info,
):
    app.command(cls=group.Verb, epilog=EXAMPLES[verb])(verb)


def main() -> None:
    """Run the command line."""
    app()
