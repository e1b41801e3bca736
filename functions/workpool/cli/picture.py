"""Save what a terminal shows as an SVG. Called by `tail --picture` and by the demo.

The picture names no font to download: it uses a monospaced font that the reader has. Characters of
that font draw the borders. For a border without gaps, the characters are a little higher than a
line of text, and are not clipped at its edge.
"""

import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

FONT = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"

SVG = f"""\
<svg viewBox="0 0 {{width}} {{height}}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{{unique_id}}-matrix {{{{
        font-family: {FONT};
        font-size: calc({{char_height}}px * 1.14);
        line-height: {{line_height}}px;
    }}}}
    .{{unique_id}}-title {{{{
        font-size: 18px;
        font-weight: bold;
        font-family: system-ui, sans-serif;
    }}}}
    {{styles}}
    </style>
    <defs>
    <clipPath id="{{unique_id}}-clip-terminal">
      <rect x="0" y="0" width="{{terminal_width}}" height="{{terminal_height}}" />
    </clipPath>
    </defs>
    {{chrome}}
    <g transform="translate({{terminal_x}}, {{terminal_y}})"
       clip-path="url(#{{unique_id}}-clip-terminal)">
    {{backgrounds}}
    <g class="{{unique_id}}-matrix">
    {{matrix}}
    </g>
    </g>
</svg>
"""

DARK = TerminalTheme(
    (24, 26, 31),
    (208, 212, 220),
    [
        (24, 26, 31),
        (240, 113, 120),
        (126, 200, 120),
        (229, 192, 98),
        (97, 175, 239),
        (198, 140, 230),
        (86, 190, 200),
        (208, 212, 220),
    ],
    [
        (128, 134, 148),
        (255, 130, 136),
        (146, 216, 140),
        (245, 210, 120),
        (120, 190, 255),
        (214, 160, 240),
        (110, 206, 216),
        (240, 242, 246),
    ],
)
"""A dark terminal with enough contrast for each color; it stands out on light and dark pages."""


def save_svg(recorder: Console, path: Path, *, title: str) -> None:
    """Write what a recording console printed."""
    svg = recorder.export_svg(title=title, theme=DARK, code_format=SVG)
    unclipped = re.sub(r' clip-path="url\(#[^)"]*-line-\d+\)"', "", svg)
    path.write_text(unclipped, encoding="utf-8")
