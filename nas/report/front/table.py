"""The tables of the report page: the front, results of exported codecs, and the front as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

from nas.report.front.costs import COSTS, Cost, clock_of
from nas.report.front.data import PageRow, Place, is_rated, known_costs
from nas.report.front.fronts import RunFront
from nas.report.front.scale import number
from nas.spaces.architecture import split_key
from nas.support.tables import signed


def heads(fronts: Sequence[RunFront]) -> str:
    """The header cells of the front's table. Each names the value that its button sorts by.

    Args:
        fronts: fronts of the runs.
    """
    cells = [_head("number", "architecture", left=True)]
    if len(fronts) > 1:
        cells.append(_head("run", "run", left=True))
    cells += [_head(f"cost {cost.name}", cost.label, cost.unit) for cost in known_costs(fronts)]
    cells += [_head("stages", "stages"), _head("layout", "layout", left=True)]
    cells += [_head("params", "parameters"), _head("bpp", "rate", "bit/px"), _head("psnr", "PSNR", "dB")]
    cells.append(_head("rd_loss", "loss"))
    if is_rated(fronts):
        cells.append(_head("bd_rate", "BD-rate", "% against the widest"))
    return "".join(cells) + '<th class="left scripted">widths</th><th class="left">key</th>'


def _head(field: str, name: str, unit: str = "", *, left: bool = False) -> str:
    side = ' class="left"' if left else ""
    below = f"<br><small>{unit}</small>" if unit else ""
    return (
        f'<th scope="col"{side} aria-sort="none"><button type="button" data-sort="{field}">{name}</button>'
        f"{below}</th>"
    )


def body_row(row: PageRow, fronts: Sequence[RunFront]) -> str:
    """One row of the front's table.

    Args:
        row: the row.
        fronts: fronts of the runs.
    """
    values = row.values
    _, layout = split_key(values["arch"])
    cells = [
        f'<th scope="row" class="left"><span class="dot"></span>'
        f'<button type="button" class="pick">#{row.number}</button>{_badges(row)}</th>',
        *[f'<td class="left">{escape(row.run.label)}</td>'] * (len(fronts) > 1),
        *(f"<td>{_number(values[cost.column])}</td>" for cost in known_costs(fronts)),
        f"<td>{int(values['stages']):,}</td>",
        f'<td class="left">{escape(layout)}</td>',
        f"<td>{int(values['params']):,}</td>",
        f"<td>{values['bpp']:.4f}</td>",
        f"<td>{values['psnr']:.2f}</td>",
        f"<td>{values['rd_loss']:.4f}</td>",
    ]
    if is_rated(fronts):
        saved = values.get("bd_rate", math.nan)
        cells.append(f"<td>{signed(saved, '.1f') if math.isfinite(saved) else '-'}</td>")
    cells.append('<td class="left scripted"></td>')
    cells.append(f'<td class="key"><code>{escape(values["arch"])}</code></td>')
    return f'<tr id="{row.name}" class="{row.colour}">{"".join(cells)}</tr>'


def csv_url(fronts: Sequence[RunFront], rows: Mapping[Place, PageRow]) -> str:
    """The table as a CSV data URL with the columns of front.csv, and those of time if it is known.

    Args:
        fronts: fronts of the runs. If there are several, the first column has their names.
        rows: rows of the page.
    """
    costs = known_costs(fronts)
    unknown = [name for cost in COSTS.values() if cost not in costs for name in (cost.column, cost.flag)]
    lines = []
    for run_index, run in enumerate(fronts):
        indexes = [index for of, index in rows if of == run_index]
        table = run.front.loc[indexes].drop(columns=unknown)
        if len(fronts) > 1:
            table.insert(0, "run", run.name)
        lines.append(table.to_csv(index=False, header=run_index == 0, lineterminator="\n"))
    return "data:text/csv;charset=utf-8," + quote("".join(lines), safe="")


def final_table(fronts: Sequence[RunFront], rows: Mapping[Place, PageRow], scope: str) -> str:
    """The results of exported codecs on held-out photos, from real files.

    Args:
        fronts: fronts of the runs.
        rows: rows of the page.
        scope: scope of the cost.
    """
    exported = [row for row in rows.values() if row.exported]
    if not exported:
        return (
            "<p>Nothing is exported yet, so every number on this page is an estimate. "
            "<code>nas export RUN --target T</code> makes a codec and measures it on real files.</p>"
        )
    several = len(fronts) > 1
    costs = [cost for cost in (COSTS[scope], clock_of(scope)) if cost in known_costs(fronts)]
    names = ["architecture", *["run"] * several]
    names += [f"{cost.label}<br><small>{cost.unit}</small>" for cost in costs]
    names += ["rate<br><small>bit/px, real files</small>", "PSNR<br><small>dB, real files</small>"]
    names += ["loss<br><small>real files</small>", "loss<br><small>estimate</small>"]
    left = 2 if several else 1
    head = "".join(
        f'<th scope="col"{" class=left" * (column < left)}>{text}</th>' for column, text in enumerate(names)
    )
    body = "".join(_final_row(row, costs, several=several) for row in exported)
    return (
        '<p class="soft">Exported codecs: real files, of photos the search did not see. The estimates are of '
        "other photos, so the two losses need not agree.</p>"
        f'<div class="wide" tabindex="0" role="region" aria-label="Final numbers">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _final_row(row: PageRow, costs: Sequence[Cost], *, several: bool) -> str:
    values = row.values
    numbers = [
        *(_number(values[cost.column]) for cost in costs),
        f"{values['test_bpp']:.4f}",
        f"{values['test_psnr']:.2f}",
        f"{values['test_rd_loss']:.4f}",
        f"{values['rd_loss']:.4f}",
    ]
    cells = [f'<th scope="row" class="left"><a href="#{row.name}">#{row.number}</a>{_badges(row)}</th>']
    if several:
        cells.append(f'<td class="left"><span class="dot"></span>{escape(row.run.label)}</td>')
    cells += [f"<td>{escape(text)}</td>" for text in numbers]
    return f'<tr class="{row.colour}">{"".join(cells)}</tr>'


def _number(value: float) -> str:
    return number(value) if value == value else "-"


def _badges(row: PageRow) -> str:
    return "".join(f' <span class="badge">{escape(name)}</span>' for name in row.badges)
