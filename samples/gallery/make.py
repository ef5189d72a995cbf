"""Make README's pictures and tables anew: `python samples/gallery/make.py`.

The moving picture is the sample clip in the default look; each preset is shown on a frame of the
clip, as it is when settled, and on a portrait.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from dreamflow import job, preset
from dreamflow.frames import Box, Moment

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIP, PORTRAIT = HERE.parent / "clip.mp4", HERE.parent / "astronaut.jpg"
MOMENT = Moment.parse("1.5")
HEIGHT = 150


def main() -> None:
    make_moving_picture()
    for look in preset.shipped():
        make_stills(look.name)
    fill_readme()


def make_moving_picture() -> None:
    target, rate = str(HERE / "dream.gif"), Fraction(25, 2)
    small = job.VideoRequest(
        CLIP, target, preset.load("base"), rate=rate, size=Box.parse("360"), overwrite=True
    )
    finish(job.render_video(small))


def make_stills(name: str) -> None:
    for kind, source in (("clip", CLIP), ("still", PORTRAIT)):
        target = str(HERE / f"{name}-{kind}.jpg")
        request = job.VideoRequest(
            source, target, preset.load(name), size=Box(4096, 270), overwrite=True
        )
        finish(job.render_look(request, MOMENT) if kind == "clip" else job.render_picture(request))


def finish(events: Iterable[object]) -> None:
    for _ in events:
        pass


def fill_readme() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    text = between("presets", preset_table(), text)
    text = between("settings", preset.settings_markdown(), text)
    path.write_text(text, encoding="utf-8")
    write_schema()


def write_schema() -> None:
    """For editors, beside the presets that name it in their first line."""
    text = json.dumps(preset.json_schema(), indent=2, ensure_ascii=False)
    (ROOT / "presets" / "schema.json").write_text(text + "\n", encoding="utf-8")


def preset_table() -> str:
    rows = ["| preset | on the sample clip | on a portrait |", "|---|---|---|"]
    for look in preset.shipped():
        clip, still = (
            f'<img src="samples/gallery/{look.name}-{kind}.jpg" height="{HEIGHT}">'
            for kind in ("clip", "still")
        )
        rows.append(f"| **{look.name}**<br>{look.description} | {clip} | {still} |")
    return "\n".join(rows)


def between(marker: str, content: str, text: str) -> str:
    pattern = rf"(<!-- {marker} -->\n).*(<!-- /{marker} -->)"
    return re.sub(pattern, lambda m: f"{m[1]}{content.rstrip()}\n{m[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    main()
