"""The front as one self-contained page: a chart, a sortable table, and the sources of all numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from nas.report.front.costs import Cost
from nas.report.front.data import PageRow, Place, collect, known_costs, page_data
from nas.report.front.fronts import RunFront, check, loss_formula
from nas.report.front.pictures import Pictures
from nas.report.front.table import body_row, csv_url, final_table, heads
from nas.support.files import write_atomically

_FOLDER = Path(__file__).parent
_PAGE_FILES = _FOLDER / "page"
_SCRIPTS = ("core", "theme", "chart", "details", "table")  # in the order of execution
MOST_PAGE_BYTES = 2_000_000  # size limit; pictures that would exceed it are left out

_THEMES = ("system", "light", "dark")

_SCOPE_MEANINGS = {
    "encoder": "what compressing computes",
    "decoder": "what decompressing computes",
    "total": "everything, counted once",
    "encode": "measured time to compress",
    "decode": "measured time to decompress",
}


def write_page(
    fronts: Sequence[RunFront],
    folder: Path,
    scope: str = "total",
    facts: Mapping[str, str] | None = None,
    pictures: Sequence[Pictures | None] = (),
) -> Path:
    """Write `report.html`, which needs no network and no other file. Without scripts it shows the tables.

    Args:
        fronts: fronts of the runs, at least one.
        folder: folder of the page.
        scope: the scope shown first: `encoder`, `decoder` or `total`.
        facts: facts for the foot of the page, by name: space, photos, seed, versions and the like.
        pictures: decoded pictures of each run, if there are any.

    Returns:
        The path of the page.

    Raises:
        InputError: there is no run, or the scope does not exist.
    """
    check(fronts, scope)
    path = folder / "report.html"
    text = _page(fronts, scope, facts or {}, pictures)
    if pictures and len(text.encode()) > MOST_PAGE_BYTES:
        text = _page(fronts, scope, facts or {}, ())
    write_atomically(path, text)
    return path


def _page(
    fronts: Sequence[RunFront],
    scope: str,
    facts: Mapping[str, str],
    pictures: Sequence[Pictures | None],
) -> str:
    rows = collect(fronts, scope)
    spaces = list(dict.fromkeys(run.space.name for run in fronts if run.space is not None))
    title = "Pareto front" + (f" of {', '.join(spaces)}" if spaces else "")
    data = page_data(fronts, scope, rows) | {"pictures": _pictures(pictures, rows)}
    return Template(_read("page.html")).substitute(
        title=escape(title),
        summary=_summary(fronts, rows),
        formula=escape(loss_formula(fronts)),
        style=_read("page.css"),
        themes="".join(_theme(name) for name in _THEMES),
        costs="".join(_switch(cost, checked=cost.name == scope) for cost in known_costs(fronts)),
        measures="".join(_measure(name, measure["label"]) for name, measure in data["measures"].items()),
        csv=escape(csv_url(fronts, rows)),
        heads=heads(fronts),
        rows="\n".join(body_row(row, fronts) for row in rows.values()),
        final=final_table(fronts, rows, scope),
        facts="".join(f"<dt>{escape(name)}</dt><dd>{escape(str(v))}</dd>" for name, v in facts.items()),
        # escape `<`, so that the data cannot end the element
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        library=(_FOLDER / "library" / "charts.js").read_text(encoding="utf-8"),
        script="\n".join(_read(f"{name}.js") for name in _SCRIPTS),
    )


def _read(name: str) -> str:
    return (_PAGE_FILES / name).read_text(encoding="utf-8")


def _summary(fronts: Sequence[RunFront], rows: Mapping[Place, PageRow]) -> str:
    scored = sum(len(run.scored) for run in fronts)
    of = f" of {scored:,} that were scored" if scored else ""
    runs = "; ".join(escape(run.label) for run in fronts)
    return (
        f"{len(rows):,} architectures{of}. No other one beats them in both cost and loss, for at least one "
        f"of the costs below. {'Run' if len(fronts) == 1 else 'Runs'}: {runs}."
    )


def _switch(cost: Cost, *, checked: bool) -> str:
    return (
        f'<label title="{_SCOPE_MEANINGS[cost.name]}">{_radio("cost", cost.name, checked=checked)}'
        f"<span>{cost.label} <small>{cost.unit}</small></span></label>"
    )


def _theme(name: str) -> str:
    return (
        f"<label>{_radio('theme', name, checked=name == _THEMES[0])}<span>{name.capitalize()}</span></label>"
    )


def _measure(name: str, label: str) -> str:
    return f"<label>{_radio('measure', name, checked=name == 'rd_loss')}<span>{escape(label)}</span></label>"


def _radio(group: str, value: str, *, checked: bool) -> str:
    # Otherwise browsers restore the choice from before a reload, after the script has read it.
    attributes = f'type="radio" name="{group}" value="{value}" autocomplete="off"'
    return f"<input {attributes}{' checked' if checked else ''}>"


def _pictures(pictures: Sequence[Pictures | None], rows: Mapping[Place, PageRow]) -> list[object]:
    """The pictures of each run, by the names of the rows of their architectures."""
    described: list[object] = []
    for run_index, each in enumerate(pictures):
        if each is None:
            described.append(None)
            continue
        names = {row.values["arch"]: row.name for row in rows.values() if row.run_index == run_index}
        described.append(
            {
                "photo": each.photo,
                "original": each.original,
                "width": each.width,
                "height": each.height,
                "most_bytes": each.most_bytes,
                "jpeg": each.jpeg and each.jpeg.to_json(),
                "decoded": {
                    names[key]: picture.to_json() for key, picture in each.decoded.items() if key in names
                },
            }
        )
    return described
