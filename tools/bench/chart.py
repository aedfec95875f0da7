"""Draws the results of a benchmark as an SVG: throughput by batch size, ours against each peer, a panel a section."""

from xml.sax.saxutils import escape

OURS = "#d1495b"
PEERS = ["#30638e", "#5fa8d3", "#8d99ae", "#cbb26a", "#7a9e7e", "#a5a58d", "#bc8034", "#6d597a"]
WIDTH, GAP = 960, 24
PLOT_LEFT, PLOT_TOP, PLOT_HEIGHT = 12, 44, 190


def text(x: float, y: float, words: str, size: int = 12, anchor: str = "start", weight: str = "normal",
         colour: str = "#222") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}">{escape(words)}</text>')


def figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def panel(section: dict, colours: dict[str, str], top: float) -> tuple[list[str], float]:
    """The panel's elements and its height."""
    rows = section["rows"]
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    largest = max(row["quartiles"][1] for row in rows)
    parts = [text(PLOT_LEFT, top + 18, section["title"], 15, weight="bold"),
             text(PLOT_LEFT, top + 34, "items per second; lines: quartiles", 11, colour="#666")]
    base = top + PLOT_TOP + PLOT_HEIGHT
    group = (WIDTH - 2 * PLOT_LEFT) / len(batches)
    bar = min(46, (group - 30) / len(contenders))
    for index, batch in enumerate(batches):
        centre = PLOT_LEFT + group * (index + 0.5)
        parts.append(text(centre, base + 16, f"batch {batch}", 12, "middle"))
        left = centre - bar * len(contenders) / 2
        for position, contender in enumerate(contenders):
            row = next((row for row in rows if (row["contender"], row["batch"]) == (contender, batch)), None)
            if row is None:
                continue
            x, height = left + bar * position, row["median"] / largest * (PLOT_HEIGHT - 20)
            middle = x + bar / 2
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{base - height:.1f}" width="{bar - 2:.1f}" height="{height:.1f}" '
                f'fill="{colours[contender]}"><title>{escape(contender)}: {figure(row["median"])}</title></rect>')
            low, high = (base - value / largest * (PLOT_HEIGHT - 20) for value in row["quartiles"])
            parts.append(f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="#222"/>')
            parts.append(text(middle, min(base - height, high) - 4, figure(row["median"]), 10, "middle",
                              "bold" if contender == "clip-gpu" else "normal"))
    parts.append(f'<line x1="{PLOT_LEFT}" x2="{WIDTH - PLOT_LEFT}" y1="{base}" y2="{base}" stroke="#888"/>')
    y, x = base + 38, PLOT_LEFT
    for contender in contenders:
        width = 22 + 6.4 * len(contender)
        if x + width > WIDTH - PLOT_LEFT and x > PLOT_LEFT:
            x, y = PLOT_LEFT, y + 18
        parts.append(f'<rect x="{x}" y="{y - 10:.1f}" width="11" height="11" fill="{colours[contender]}"/>')
        parts.append(text(x + 16, y, contender, 11))
        x += width
    return parts, y - top + GAP


def draw(results: dict) -> str:
    """The whole picture; sections that are not throughput by batch are left out."""
    sections = [section for name, section in results["sections"].items()
                if name.startswith(("image-", "text-")) and section["rows"]]
    machine = results["machine"]
    parts = [text(PLOT_LEFT, 22, f"{machine['cpu']}, {machine['threads_used']} threads", 13, colour="#444")]
    top = 36.0
    for section in sections:
        peers = [row["contender"] for row in section["rows"] if row["contender"] != "clip-gpu"]
        colours = {name: PEERS[index % len(PEERS)] for index, name in enumerate(dict.fromkeys(peers))}
        drawn, height = panel(section, colours | {"clip-gpu": OURS}, top)
        parts += drawn
        top += height
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" '
            f'width="{WIDTH}" height="{top:.0f}" font-family="Helvetica, Arial, sans-serif">\n'
            f'<rect width="100%" height="100%" fill="#fff"/>\n'
            + "\n".join(parts) + "\n</svg>\n")
