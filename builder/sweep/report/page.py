"""The page: one HTML file that needs nothing else.

All that comes from the user or a server is escaped where it is put into HTML. The page's policy runs no script but its
own two, which it knows by their digests, and lets nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

from builder.sweep.report import heat, instances, style, summary
from builder.sweep.report.table import table
from builder.tools import vega

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.artifacts import Json
    from builder.sweep.report.plots import Plot
    from builder.sweep.report.rows import Row
    from builder.sweep.swept import Swept

DATA: Final = Path(__file__).parent / "data"


def page(swept: Swept, points: list[Row], plots: Sequence[Plot]) -> str:
    """The report as HTML."""
    bundle, own = vega.javascript().replace("</script", "<\\/script"), (DATA / "page.js").read_text(encoding="utf-8")
    return Template((DATA / "page.html").read_text(encoding="utf-8")).substitute(
        policy=_policy(bundle, own),
        css=(DATA / "page.css").read_text(encoding="utf-8"),
        bundle=bundle,
        script=own,
        data=_embedded(_drawn(swept, points, plots)),
        name=escape(swept.served.name),
        about=escape(_about(swept)),
        verdict=_verdict(swept),
        counts=escape(f"{summary.counts(swept)}. {summary.effort(swept)}."),
        ended=escape(f"The search ended: {swept.ended}." if swept.ended else ""),
        plots="\n".join(_plot(swept, plot) for plot in plots),
        table=table(swept, points),
        method=_facts(swept.method.items()),
        machine=_facts(_machine(swept)),
        versions=_facts(swept.versions.items()),
    )


def _drawn(swept: Swept, points: list[Row], plots: Sequence[Plot]) -> dict[str, Json]:
    """What page.js reads."""
    own = {name: data for plot in plots for name, data in plot.data.items()}
    return {
        "specs": {plot.name: plot.spec for plot in plots},
        "data": {"points": points, **own},
        "config": {"light": {**style.config(dark=False), "background": None}, "dark": style.config(dark=True)},
        "heat": heat.choices(swept),
    }


def _embedded(data: Json) -> str:
    """JSON inside of a script element: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(*scripts: str) -> str:
    """What the browser lets the page do. Vega compiles its expressions, which takes ``unsafe-eval``."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src 'unsafe-eval' {allowed}; style-src 'unsafe-inline'; img-src data:"


def _about(swept: Swept) -> str:
    target = f"target {swept.served.target}" if swept.served.target else ""
    when = swept.at.replace("T", " ").replace("Z", " UTC")
    return " · ".join(part for part in (target, swept.served.given, _processor(swept), when) if part)


def _processor(swept: Swept) -> str:
    gpus = [gpu.name for gpu in swept.hardware.gpus]
    return ", ".join([f"{swept.hardware.usable_cpus:g} cores of {swept.hardware.cpu}", *gpus])


def _machine(swept: Swept) -> list[tuple[str, str]]:
    machine = swept.hardware
    gpus = [
        (f"GPU {at}", f"{gpu.name}, {gpu.memory_mib} MiB, driver {gpu.driver}") for at, gpu in enumerate(machine.gpus)
    ]
    return [
        ("Processor", machine.cpu),
        ("Usable CPUs", f"{machine.usable_cpus:g} of {machine.cpus}"),
        ("Memory", f"{machine.memory_bytes / 2**30:.1f} GiB"),
        *gpus,
        ("Kernel", f"{machine.kernel}, {machine.architecture}"),
        ("Fingerprint", machine.fingerprint),
        ("Subject", swept.served.digest),
    ]


def _verdict(swept: Swept) -> str:
    sought = f'<p class="reading">Sought: {escape(summary.aim(swept))}.</p>'
    if swept.winner is None:
        return f'<p class="gain">{escape(summary.no_winner(swept))}</p>{sought}'
    best = f'<p class="best">{escape(summary.winner_label(swept, swept.winner))}</p>'
    gain = f'<p class="gain">{escape(summary.gain(swept))}</p>'
    against = "".join(f"<li>{escape(summary.verdict(one))}</li>" for one in swept.verdicts)
    baseline = f'<p class="reading">Against the baseline:</p><ul>{against}</ul>' if against else ""
    figures = [(label, _figure(before), _figure(after)) for label, before, after in summary.comparison(swept)]
    settings = [(label, escape(before), escape(after)) for label, before, after in summary.settings(swept)]
    pair = _compared("figure, 95 % interval", figures, "number") + _compared("setting", settings, "word")
    return f'{best}{gain}{sought}<div class="pair">{pair}</div>{baseline}'


def _figure(found: summary.Figure) -> str:
    if found is None:
        return ""
    if isinstance(found, float | int):
        return summary.number(found)
    low, high = summary.number(found.low), summary.number(found.high)
    return f"{summary.number(found.value)} <small>{low}&ndash;{high}</small>"


def _compared(title: str, found: list[tuple[str, str, str]], kind: str) -> str:
    """A table of two sides; their cells are HTML."""
    body = "".join(
        f'<tr{"" if before == after else " class=changed"}><th scope="row">{_breakable(label)}</th>'
        f'<td class="{kind}">{before or "&ndash;"}</td><td class="{kind}">{after or "&ndash;"}</td></tr>'
        for label, before, after in found
    )
    heads = "".join(f'<th scope="col" class="{kind}">{one}</th>' for one in ("as it is", "winner"))
    head = f'<tr><th scope="col">{title}</th>{heads}</tr>'
    return f'<table class="compared"><thead>{head}</thead><tbody>{body}</tbody></table>'


def _breakable(label: str) -> str:
    """A knob's path as HTML that breaks between its words."""
    return escape(label).replace(".", ".<wbr>").replace("_", "_<wbr>")


def _plot(swept: Swept, plot: Plot) -> str:
    title = escape(plot.title)
    choose = '<form class="choose" id="choose"></form>' if plot.name == "heat-map" else ""
    after = _instances(swept) if plot.name == "where-time-goes" else ""
    place = f'<div class="plot" data-plot="{plot.name}" role="img" aria-label="{title}"></div>'
    reading = f'<p class="reading">{escape(plot.reading)}</p>'
    return f'<section id="{plot.name}">\n<h2>{title}</h2>\n{reading}\n{choose}{place}\n{after}</section>'


def _instances(swept: Swept) -> str:
    found = instances.suggestions(swept, swept.winner.point) if swept.winner else ()
    if not found:
        return ""
    body = "".join(
        f'<tr><th scope="row">{escape(one.step)}{" (bottleneck)" if one.bottleneck else ""}</th>'
        f'<td class="number">{one.instances}</td><td class="number">{100 * one.utilisation:.0f} %</td>'
        f'<td class="number">{one.suggested}</td><td>{"limited by the cores" if one.limited else ""}</td></tr>'
        for one in found
    )
    heads = "".join(f'<th scope="col" class="number">{one}</th>' for one in ("instances", "busy", "suggested"))
    head = f'<tr><th scope="col">step of the winner</th>{heads}<th></th></tr>'
    most = f"{100 * instances.BUSY:.0f} %"
    rule = (
        "Busy: rate, times the time of an execution for each of its inferences, over the instances. Suggested: so "
        f"many that each is busy for at most {most} of the time, within the machine's cores. It is what to measure "
        "next, no forecast."
    )
    table = f'<table id="instances"><thead>{head}</thead><tbody>{body}</tbody></table>'
    return f'{table}\n<p class="reading">{escape(rule)}</p>\n'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(label)}</dt><dd>{escape(said)}</dd>" for label, said in facts)
