"""The front as one self-contained page: charts to point at, a table to sort, the origin of every number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from nas.report.front.chart import MAIN, SMALL, front_chart, run_class, width_strip
from nas.report.front.costs import COSTS, Cost, clock_of, view_of
from nas.report.front.curve_chart import RATE, curve_chart, explained, has_curves
from nas.report.front.fronts import RunFront, check, comparable, loss_formula, loss_title, split_key
from nas.report.front.scale import number
from nas.support.files import write_atomically

_TEMPLATE = Path(__file__).with_name("page.html")
_COLUMNS = ("stages", "layout", "parameters", "bpp", "PSNR", "loss")
_BD_RATE = "BD-rate"
_WORDS = frozenset({"architecture", "run", "layout"})  # columns of text, aligned left


def write_page(
    fronts: Sequence[RunFront], folder: Path, scope: str = "total", facts: Mapping[str, str] | None = None
) -> Path:
    """Write `report.html`: no network, no other file, and useful even where scripts are off.

    Args:
        fronts: at least one run.
        folder: where the page is written.
        scope: the scope shown first: `encoder`, `decoder` or `total`.
        facts: what the page ends with, by name: space, photos, seed, versions and the like.

    Returns:
        The path of the page.

    Raises:
        InputError: an unknown scope, or no run.
    """
    check(fronts, scope)
    path = folder / "report.html"
    write_atomically(path, _page(fronts, scope, facts or {}))
    return path


@dataclass(frozen=True)
class _Row:
    """One architecture of one run's front, as the table shows it."""

    name: str  # its anchor in the page
    number: int  # what people call it on the page
    place: int  # of its run
    run: RunFront
    values: Any  # its row of front.csv
    budgets: tuple[tuple[Cost, float], ...]  # the targets that chose it
    exported: bool


def _page(fronts: Sequence[RunFront], scope: str, facts: Mapping[str, str]) -> str:
    costs = _known_costs(fronts)
    rows = _collect(fronts, scope, costs)
    spaces = list(dict.fromkeys(run.space.name for run in fronts if run.space is not None))
    known = all(run.space is not None for run in fronts)
    several = len(fronts) > 1
    title = "Pareto front" + (f" of {', '.join(spaces)}" if spaces else "")
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        summary=_summary(fronts, rows, costs),
        rules=_rules(costs),
        switch="".join(_switch(cost, checked=cost.name == scope) for cost in costs),
        legend=_legend(fronts, rows),
        gains="".join(_gains(fronts, cost) for cost in costs),
        charts="".join(_charts(fronts, cost, scope, rows, main=True) for cost in costs),
        pairs="".join(_charts(fronts, cost, scope, rows, main=False) for cost in costs),
        costs="".join(
            f'<dt>{_name(cost)}</dt><dd><span data-from="{cost.name}"></span> {cost.unit}</dd>'
            for cost in (COSTS["total"], *(cost for cost in costs if cost.name != "total"))
        ),
        widest="the widest candidate of its slot" if known else "the widest that was scored",
        order=escape(", ".join(dict.fromkeys(known.edge for run in fronts for known in run.ranges))),
        csv=escape(_csv(fronts, rows, costs)),
        curves="".join(_curves(fronts, cost, rows) for cost in costs),
        heads=_heads(costs, several=several, rated=_rated(fronts)),
        rows="\n".join(
            _table_row(row, costs, several=several, rated=_rated(fronts)) for row in rows.values()
        ),
        final=_final(rows, scope, fronts),
        facts="".join(f"<dt>{escape(name)}</dt><dd>{escape(str(v))}</dd>" for name, v in facts.items()),
    )


def _known_costs(fronts: Sequence[RunFront]) -> list[Cost]:
    """The costs that some run knows: MACs always, time where it was measured."""
    timed = any(run.timed for run in fronts)
    return [cost for cost in COSTS.values() if timed or not cost.is_time]


def _collect(fronts: Sequence[RunFront], scope: str, costs: Sequence[Cost]) -> dict[tuple[int, object], _Row]:
    """Every row of every front, run by run, cheapest first, by (place of the run, index in its front)."""
    rows: dict[tuple[int, object], _Row] = {}
    for place, run in enumerate(fronts):
        budgets: dict[object, list[tuple[Cost, float]]] = {}
        for cost in costs:
            for target, index in run.chosen(cost).items():
                budgets.setdefault(index, []).append((cost, target))
        for index, values in run.front.sort_values(f"{scope}_kmac_px", kind="stable").iterrows():
            count = len(rows) + 1
            chosen, exported = tuple(budgets.get(index, ())), bool(run.exported.loc[index])
            rows[place, index] = _Row(f"a{count}", count, place, run, values, chosen, exported)
    return rows


def _summary(
    fronts: Sequence[RunFront], rows: Mapping[tuple[int, object], _Row], costs: Sequence[Cost]
) -> str:
    scored = sum(len(run.scored) for run in fronts)
    of = f" of {scored:,} scored" if scored else ""
    runs = "; ".join(escape(run.label) for run in fronts)
    return (
        f"{len(rows):,} architectures{of} that no other one beats in both cost and rate-distortion loss "
        f"({escape(loss_formula(fronts))}), in at least one of {len(costs)} costs. "
        f"{'Run' if len(fronts) == 1 else 'Runs'}: {runs}."
    )


# The charts


_MEANS = {
    "encoder": "MACs of what compressing runs",
    "decoder": "MACs of what decompressing runs",
    "total": "MACs of all of it, once",
    "encode": "ms to compress",
    "decode": "ms to decompress",
}


def _rules(costs: Sequence[Cost]) -> str:
    """Style rules: only the chosen cost's charts, and its front's rows, are shown."""
    views = ",\n".join(f"main:has(#cost-{cost.name}:checked) .view-{cost.name}" for cost in costs)
    hidden = ",\n".join(
        f"main:has(#only:checked):has(#cost-{cost.name}:checked) "
        f"#front tr:not(.on-{cost.name}):not(.kept):not(.heads)"
        for cost in costs
    )
    return f"{views} {{ display: grid }}\n{hidden} {{ display: none }}"


def _switch(cost: Cost, *, checked: bool) -> str:
    state = " checked" if checked else ""
    return (
        f'<label><input type="radio" name="cost" id="cost-{cost.name}" value="{cost.name}"{state}>'
        f'{_name(cost)} <span class="soft">({_MEANS[cost.name]})</span></label>'
    )


def _name(cost: Cost) -> str:
    return f"time to {cost.name}" if cost.is_time else cost.name


def _legend(fronts: Sequence[RunFront], rows: Mapping[tuple[int, object], _Row]) -> str:
    def item(shapes: str, text: str, name: str = "run-0") -> str:
        return f'<li class="{name}"><svg viewBox="0 0 26 14" aria-hidden="true">{shapes}</svg>{text}</li>'

    line = '<path class="front" d="M0 7H26"/><circle class="pt" cx="13" cy="7" r="4.5"/>'
    items = [item(line, f"front, {escape(run.label)}", run_class(k)) for k, run in enumerate(fronts)]
    every = rows.values()
    if any(run.timed for run in fronts):
        ring = '<circle class="ring" cx="13" cy="7" r="6"/>'
        for name, text in (("pt", "on the front in MACs and in time"), ("pt off", "in time alone")):
            items.append(item(f'<circle class="{name}" cx="13" cy="7" r="3.5"/>{ring}', text))
    if any(row.budgets and not row.exported for row in every):
        items.append(item('<circle class="pt chosen" cx="13" cy="7" r="5"/>', "chosen by a budget"))
    if any(row.exported for row in every):
        items.append(item('<circle class="pt exported" cx="13" cy="7" r="6"/>', "exported"))
    if any(not run.uniform.empty for run in fronts):
        items.append(item('<path class="uniform" d="M13 2l5 5l-5 5l-5 -5z"/>', "uniform widths"))
    if any(not run.tapered.empty for run in fronts):
        items.append(item('<path class="uniform" d="M8 7l8 -5l0 10z"/>', "tapered by hand"))
    if any(not run.scored.empty for run in fronts):
        dots = '<path class="scored" d="M6 9h0M13 4h0M20 8h0"/>'
        items.append(item(dots, "other scored architectures"))
    if any(any(run.targets.values()) for run in fronts):
        items.append(item('<g class="target"><path d="M0 7H26"/></g>', "chosen budget"))
    return "".join(items)


def _gains(fronts: Sequence[RunFront], cost: Cost) -> str:
    """How much better each run is than uniform widths, in one cost."""
    found = []
    for run in fronts:
        gain = run.gain(cost)
        if gain is not None:
            name = f"{escape(run.label)}: " if len(fronts) > 1 else ""
            found.append(f"<p>{name}{escape(gain.sentence())}</p>")
    return f'<div class="view view-{cost.name}">{"".join(found)}</div>'


def _charts(
    fronts: Sequence[RunFront],
    cost: Cost,
    scope: str,
    rows: Mapping[tuple[int, object], _Row],
    *,
    main: bool,
) -> str:
    """The charts against one cost: the loss in large, or rate and PSNR as a pair."""
    names = {place: row.name for place, row in rows.items()}
    chosen = {row.name for row in rows.values() if any(limited == cost for limited, _ in row.budgets)}
    targets = sorted({target for run in fronts for target in run.targets.get(cost.name, ())})
    if main:
        title = loss_title(fronts)
        panels = {"rd_loss": title[:1].upper() + title[1:]}
    else:
        panels = {"bpp": "Rate (bit per pixel)", "psnr": "PSNR (dB)"}
    drawn = [
        front_chart(
            comparable(fronts),
            view_of(cost.name, scope),
            measure,
            title=title,
            canvas=MAIN if main else SMALL,
            rows=names,
            chosen=chosen,
            targets=targets,
        )
        for measure, title in panels.items()
    ]
    axis = f'<p class="axis">{cost.title}</p>'
    figures = "".join(f"<div>{chart}{axis}</div>" for chart in drawn)
    return f'<div class="view view-{cost.name}">{figures}</div>'


def _curves(fronts: Sequence[RunFront], cost: Cost, rows: Mapping[tuple[int, object], _Row]) -> str:
    """Rate-distortion curves of some architectures on one front; nothing where all runs are of one rate."""
    if not has_curves(fronts, cost):
        return ""
    chart = curve_chart(fronts, cost, {place: row.name for place, row in rows.items()})
    return (
        f'<div class="view view-{cost.name}"><div><p class="soft">{escape(explained(cost))}</p>'
        f'{chart}<p class="axis">{RATE}</p></div></div>'
    )


# The tables


def _rated(fronts: Sequence[RunFront]) -> bool:
    """Whether some architecture has a BD-rate."""
    return any("bd_rate" in run.front.columns and run.front["bd_rate"].notna().any() for run in fronts)


def _csv(fronts: Sequence[RunFront], rows: Mapping[tuple[int, object], _Row], costs: Sequence[Cost]) -> str:
    """The table as a data URL: the columns of front.csv, time's where it is known, and the run's name."""
    unknown = [name for cost in COSTS.values() if cost not in costs for name in (cost.column, cost.flag)]
    lines = []
    for place, run in enumerate(fronts):
        indexes = [index for of, index in rows if of == place]
        table = run.front.loc[indexes].drop(columns=unknown)
        if len(fronts) > 1:
            table.insert(0, "run", run.name)
        lines.append(table.to_csv(index=False, header=place == 0, lineterminator="\n"))
    return "data:text/csv;charset=utf-8," + quote("".join(lines), safe="")


def _heads(costs: Sequence[Cost], *, several: bool, rated: bool) -> str:
    of_costs = [_name(cost) for cost in costs]
    units = {_name(cost): cost.unit for cost in costs} | {_BD_RATE: "% against the widest"}
    names = ("architecture", *["run"] * several, *of_costs, *_COLUMNS, *[_BD_RATE] * rated)
    return "".join(_head(name, units.get(name)) for name in names)


def _head(name: str, unit: str | None) -> str:
    side = ' class="left"' if name in _WORDS else ""
    below = f"<br><small>{unit}</small>" if unit else ""
    return f'<th{side} aria-sort="none"><button type="button">{name}</button>{below}</th>'


def _table_row(row: _Row, costs: Sequence[Cost], *, several: bool, rated: bool) -> str:
    values, run = row.values, row.run
    saved = values.get("bd_rate", math.nan)
    _, layout = split_key(values["arch"])
    colour = run_class(row.place)
    on = " ".join(f"on-{cost.name}" for cost in costs if values[cost.flag])
    on += " kept" * row.exported  # the table of final numbers points at these
    slots = [(known.slot, known.edge, known.widest) for known in run.ranges]
    strip = width_strip(run.widths(values["arch"]), run.shares(values["arch"]), slots)
    cells = [
        f'<td class="left" data-v="{row.number}"><span data-is="name">'
        f'<span class="dot"></span>#{row.number}{_badges(row)}</span></td>',
        *[f'<td class="left">{escape(run.label)}</td>'] * several,
        *(_cell(cost.name, values[cost.column], _number(values[cost.column])) for cost in costs),
        _cell("stages", values["stages"], f"{int(values['stages']):,}"),
        f'<td class="left" data-is="layout">{escape(layout)}</td>',
        _cell("params", values["params"], f"{int(values['params']):,}"),
        _cell("bpp", values["bpp"], f"{values['bpp']:.4f}"),
        _cell("psnr", values["psnr"], f"{values['psnr']:.2f}"),
        _cell("loss", values["rd_loss"], f"{values['rd_loss']:.4f}"),
        *[_cell("bd_rate", saved, f"{saved:+.1f}" if math.isfinite(saved) else "-")] * rated,
        f'<td class="left" data-is="strip">{strip}</td>',
        f'<td class="key"><button type="button" data-copy>Copy</button> '
        f'<code data-is="key">{escape(values["arch"])}</code></td>',
    ]
    return f'<tr id="{row.name}" class="{colour} {on}" data-run="{colour}">{"".join(cells)}</tr>'


def _cell(name: str, value: float, text: str) -> str:
    return f'<td data-v="{escape(str(value))}"><span data-is="{name}">{escape(text)}</span></td>'


def _number(value: float) -> str:
    return number(value) if value == value else "-"


def _badges(row: _Row) -> str:
    names = [f"{cost.name} {cost.limit(target)}" for cost, target in row.budgets]
    names += ["exported"] * row.exported
    return "".join(f' <span class="badge">{escape(name)}</span>' for name in names)


def _final(rows: Mapping[tuple[int, object], _Row], scope: str, fronts: Sequence[RunFront]) -> str:
    exported = [row for row in rows.values() if row.exported]
    if not exported:
        return (
            "<p>Nothing is exported yet, so every number on this page is an estimate. "
            "<code>nas export RUN --target T</code> makes a codec and measures it on real files.</p>"
        )
    several = len(fronts) > 1
    costs = [cost for cost in (COSTS[scope], clock_of(scope)) if cost in _known_costs(fronts)]
    heads = ["architecture", *["run"] * several]
    heads += [f"{_name(cost)}<br><small>{cost.unit}</small>" for cost in costs]
    heads += ["bpp<br><small>real files</small>", "PSNR<br><small>real files</small>"]
    heads += ["loss<br><small>real files</small>", "loss<br><small>estimate</small>"]
    body = []
    for row in exported:
        values = row.values
        cells = [f'<td class="left"><a href="#{row.name}">#{row.number}</a>{_badges(row)}</td>']
        if several:
            cells.append(f'<td class="left"><span class="dot"></span>{escape(row.run.label)}</td>')
        numbers = [
            *(_number(values[cost.column]) for cost in costs),
            f"{values['test_bpp']:.4f}",
            f"{values['test_psnr']:.2f}",
            f"{values['test_rd_loss']:.4f}",
            f"{values['rd_loss']:.4f}",
        ]
        cells += [f"<td>{escape(text)}</td>" for text in numbers]
        body.append(f'<tr class="{run_class(row.place)}">{"".join(cells)}</tr>')
    left = 2 if several else 1
    head = "".join(f"<th{' class=left' * (k < left)}>{text}</th>" for k, text in enumerate(heads))
    return (
        '<p class="soft">Exported codecs: real files, of photos the search did not see. The estimates are of '
        "other photos, so the two losses need not agree.</p>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )
