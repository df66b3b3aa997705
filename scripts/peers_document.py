"""Makes docs/benchmarks.md and its pictures from what scripts/peers measured. Measures nothing.

Every figure is a median over the rounds. A cell in bold is one where another server is better than annulet.
"""

import statistics
from html import escape

OURS = "annulet"
FLOOR = "floor"

TITLES = {
    "floor": "floor", "annulet": "annulet", "epoll": "epoll loop", "hyper": "hyper", "axum": "axum", "actix": "actix-web",
    "ntex": "ntex", "monoio": "monoio", "glommio": "glommio", "compio": "compio", "tokio-uring": "tokio-uring",
    "may": "may_minihttp", "nginx": "nginx", "aiohttp": "aiohttp + uvloop",
}
PACKAGES = {"hyper": "hyper", "axum": "axum", "actix": "actix-web", "ntex": "ntex", "monoio": "monoio",
            "glommio": "glommio", "compio": "compio", "tokio-uring": "tokio-uring", "may": "may_minihttp",
            "nginx": "nginx", "aiohttp": "aiohttp"}

HEAD = """# Benchmarks

annulet-serve beside the floor (`bench/targets/floor`, raw io_uring that parses nothing) and beside other people's servers
with the same pages (`bench/peers`). Made by `scripts/peers`; nothing here is written by hand.

{facts}

Each server has one core, the load (`annulet-bench load`, one loop) another. Within a case all servers are up and are loaded
one after the other, in an order that turns around every round; the first is loaded once before for nothing. Figures are
medians over the rounds; ratios are taken within a round and their median is given. "Side by side" is the ratio of CPU per
request while both share the core, each under its own load. CPU is that of all processes of the server, user and system, per answered request. **A cell in bold is one where
another server is better than annulet.** The floor is no server: it is the limit, and never in bold.

## How large is the noise

{noise}

Do not read a difference that is smaller than that.
"""


def write(data, cases, again, merged, path):
    """The document at `path`, its pictures beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [HEAD.format(facts=facts_text(data), noise=noise_text(data, cases, again))]
    pictures = []
    for case in ("64", "pipelined"):
        if data["cases"].get(case, {}).get("rounds"):
            picture = path.with_name(f"benchmarks-{case}.svg")
            picture.write_text(bars(data, cases, case, again))
            pictures.append(f"![CPU per request, {cases[case].words}]({picture.name})")
    parts.append("\n".join(pictures) + "\n")
    for case, what in cases.items():
        rounds = data["cases"].get(case, {}).get("rounds", [])
        if not rounds:
            continue
        parts.append(f"## {what.words[0].upper()}{what.words[1:]}\n\n{table(case, what, data, again, merged)}")
    parts.append(notes(data, cases))
    path.write_text("\n".join(parts))


def facts_text(data):
    facts = data.get("facts", {})
    lines = [f"Machine: {facts.get('cores')} cores of {facts.get('cpu')}, Linux {facts.get('kernel')}, servers on core "
             f"{facts.get('server_core')}, load on core {facts.get('load_core')}; {facts.get('rustc')}; commit "
             f"{facts.get('commit')}, {facts.get('date')}."]
    versions = facts.get("versions", {})
    named = [f"{TITLES[name]} {versions[package]}" for name, package in PACKAGES.items() if package in versions]
    if named:
        extra = f" uvloop {versions['uvloop']}." if "uvloop" in versions else ""
        lines.append(f"Versions: {', '.join(named)}.{extra}")
    return "\n".join(lines)


def noise_text(data, cases, again):
    """The floor against itself."""
    lines = ["The floor under two names, ratio of the two, median and range:", "",
             "| case | rounds | CPU in turn | CPU side by side | requests/s | p99 |",
             "|------|-------:|------------:|-----------------:|-----------:|----:|"]
    for case, kept in data["cases"].items():
        rounds = [each for each in kept["rounds"] if FLOOR in each and again in each and "cpu" in each[FLOOR]]
        if not rounds:
            continue
        cells = [spread(ratios(rounds, again, metric)) for metric in ("cpu", "rps", "p99")]
        beside = spread([each[again] for each in kept["pairs"] if again in each])
        lines.append(f"| {cases[case].words} | {len(rounds)} | {cells[0]} | {beside} | {cells[1]} | {cells[2]} |")
    return "\n".join(lines)


def ratios(rounds, name, metric, reference=FLOOR):
    found = []
    for each in rounds:
        if name in each and reference in each and each[name].get(metric) and each[reference].get(metric):
            found.append(each[name][metric] / each[reference][metric])
    return found


def spread(values):
    if not values:
        return "–"
    median = f"{statistics.median(values):.3f}"
    return f"{median} ({min(values):.3f}–{max(values):.3f})" if len(values) > 1 else median


def median(rounds, name, metric):
    values = [each[name][metric] for each in rounds if name in each and each[name].get(metric) is not None]
    return statistics.median(values) if values else None


class Column:
    """A column: its heading, its value of a server, how it is written, and whether more is better."""

    def __init__(self, heading, value, form, more=False, judged=True):
        self.heading, self.value, self.form, self.more, self.judged = heading, value, form, more, judged

    def cell(self, name, ours):
        value = self.value(name)
        if value is None:
            return "–"
        text = self.form(value)
        if not self.judged or name in (OURS, FLOOR) or ours is None:
            return text
        better = value > ours if self.more else value < ours
        return f"**{text}**" if better else text


def columns(case, data, merged):
    kept = data["cases"][case]
    rounds = kept["rounds"]

    def of(metric):
        return lambda name: median(rounds, name, metric)

    def over_floor(name):
        found = ratios(rounds, name, "cpu")
        return statistics.median(found) if found else None

    def beside(name):
        found = [each[name] for each in kept["pairs"] if name in each]
        return 1.0 if name == FLOOR and kept["pairs"] else statistics.median(found) if found else None

    whole = lambda value: f"{value:.0f}"
    fine = lambda value: f"{value:.3f}" if value < 100 else f"{value:.0f}"
    share = lambda value: f"{value:.0%}"
    if case == "idle":
        return [Column("bytes per connection", of("bytes"), whole)]
    if case == "open":
        percentile = lambda key: lambda name: merged.get(name, {}).get(key)
        return [Column("requests/s planned", of("rate"), whole, judged=False),
                *[Column(f"{key.replace('_', '.')} µs", percentile(key), whole) for key in ("p50", "p99", "p99_9", "p99_99")],
                Column("CPU µs/request", of("cpu"), fine), Column("server busy", of("busy"), share, judged=False)]
    found = [Column("CPU µs/request", of("cpu"), fine)]
    if any(FLOOR in each for each in rounds):
        found.append(Column("over floor", over_floor, fine))
    if kept["pairs"]:
        found.append(Column("side by side", beside, fine))
    found.append(Column("requests/s", of("rps"), whole, more=True))
    if case not in ("pipelined",):
        found += [Column("p50 µs", of("p50"), whole), Column("p99 µs", of("p99"), whole)]
    found += [Column("server busy", of("busy"), share, judged=False),
              Column("load busy", of("load_busy"), share, judged=False)]
    return found


def table(case, what, data, again, merged):
    rounds = data["cases"][case]["rounds"]
    shown = columns(case, data, merged)
    names = [name for name in TITLES if name != again and any(name in each for each in rounds)]
    # The cheapest first; the first column says what that means.
    names.sort(key=lambda name: shown[1 if case == "open" else 0].value(name) or float("inf"))
    lines = [f"| server | {' | '.join(column.heading for column in shown)} |", "|---|" + "---:|" * len(shown)]
    for name in names:
        cells = [column.cell(name, column.value(OURS)) for column in shown]
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    absent = [f"{TITLES[name]}: {why}" for name, why in what.without.items() if name in TITLES]
    if absent:
        text += f"\nNot here: {'; '.join(absent)}.\n"
    faults = sorted({name for each in rounds for name, sample in each.items() if sample.get("errors")})
    for name in faults:
        total = sum(each[name].get("errors", 0) for each in rounds if name in each)
        text += f"\n{TITLES.get(name, name)}: {total} errors.\n"
    return text


def notes(data, cases):
    lines = ["## What else to know", "",
             "- monoio, glommio, compio, tokio-uring and the epoll loop are runtimes: all five have the same lean HTTP over "
             "httparse (`bench/peers/common`), which checks less than annulet-http does. hyper, axum, actix-web, ntex, "
             "may_minihttp, nginx and aiohttp bring their own.",
             "- With bodies the server is `annulet-pages` (`bench/targets/pages`), the same pages with two more routes.",
             "- The heads differ a little in length and order; all have a length, a type and a date.",
             "- The percentiles of the open loop come from the histograms of all rounds, added together.",
             "- Requests/s are those that this load could ask for: where \"load busy\" is near 100 %, the server had time left."]
    for name, why in data.get("missing", {}).items():
        lines.append(f"- {TITLES.get(name, name)} was left out: {why}.")
    return "\n".join(lines) + "\n"


# ---- pictures -------------------------------------------------------------------------------------------------------

STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #57606a } .name { fill: #24292f } .bar { fill: #8c959f }
.ours { fill: #1f6feb } .floor { fill: #d0d7de }
@media (prefers-color-scheme: dark) { text { fill: #9aa3ad } .name { fill: #e6e8eb } .bar { fill: #6e7681 }
.ours { fill: #58a6ff } .floor { fill: #363c44 } }
</style>"""
ROW, LEFT, WIDTH = 24, 130, 720


def bars(data, cases, case, again):
    """CPU per request of every server, as an SVG of its own. One bar that is far longer than the others is cut."""
    rounds = data["cases"][case]["rounds"]
    values = {name: median(rounds, name, "cpu") for name in TITLES if name != again}
    rows = sorted((value, name) for name, value in values.items() if value)
    if not rows:
        return "<svg xmlns=\"http://www.w3.org/2000/svg\"/>"
    longest = rows[-1][0]
    # A bar of an interpreter would make all others look alike.
    scale = min(longest, 2.5 * statistics.median(value for value, _ in rows))
    height = ROW * len(rows) + 40
    title = f"CPU µs per request, {cases[case].words}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
             STYLE, f'<text class="name" x="0" y="16">{escape(title)}</text>']
    for row, (value, name) in enumerate(rows):
        y = 30 + row * ROW
        length = min(value / scale, 1) * (WIDTH - LEFT - 90)
        kind = {OURS: "ours", FLOOR: "floor"}.get(name, "bar")
        cut = " (cut)" if value > scale else ""
        parts.append(f'<text class="name" x="0" y="{y + 14}">{escape(TITLES[name])}</text>'
                     f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{ROW - 6}" rx="3"/>'
                     f'<text x="{LEFT + length + 6:.1f}" y="{y + 14}">{value:.3f}{cut}</text>')
    parts.append("</svg>\n")
    return "\n".join(parts)
