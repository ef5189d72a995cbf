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
from tempfile import TemporaryDirectory

from dreamflow import job, plots, preset, preview
from dreamflow.frames import Box, Moment, to_array
from dreamflow.render import RenderedFrame
from dreamflow.video.stills import write_still

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIP, PORTRAIT = HERE.parent / "clip.mp4", HERE.parent / "astronaut.jpg"
MOMENT = Moment.parse("1.5")
HEIGHT = 150
PREVIEW_FRAME = 38


def main() -> None:
    make_moving_picture()
    for look in preset.shipped():
        make_stills(look.name)
    make_plot_and_preview()
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


TOUR = """
extends: base
description: A tour of three layers over fine strokes, that breathes.
objectives:
  - {cycle: [fire5, fire7, fire9], every: 4s, fade: 1s}
  - {layer: fire3, weight: 0.5, octaves: [0, 1]}
dream: {step_size: "2.5 + sin(2*pi*t/60)"}
follow: {decay: {0: 0.985, 3s: 0.95, 8s: 0.99, ease: spline}}
"""
"""README's examples of what moves, in one preset."""


def make_plot_and_preview() -> None:
    with TemporaryDirectory() as folder:
        look, film = Path(folder, "tour.yaml"), Path(folder, "preview.mp4")
        look.write_text(TOUR, encoding="utf-8")
        span = plots.Span(duration=Moment.parse("12"))
        plots.plot_preset(str(look), HERE / "plot.png", span, overwrite=True)
        request = job.VideoRequest(CLIP, str(film), preset.load(str(look)))
        for event in preview.render_preview(request):
            if isinstance(event, RenderedFrame) and event.index == PREVIEW_FRAME:
                write_still(HERE / "preview.jpg", to_array(event.image))


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
