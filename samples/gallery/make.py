"""Make README's pictures and tables anew: `python samples/gallery/make.py [PRESET...]`.

The moving picture is the sample clip in the default look; each preset is shown on a frame of the
clip, as it is when settled, and on a portrait, which hears a middling sound. A tour is shown on two
frames of the clip, for a picture stands still; a zoom on two frames of its way down into the deep
field of Hubble. With PRESETs only the pictures of these are made.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from dreamflow import audio, job, network_sheets, plots, preset, preview, seeds, zoom
from dreamflow.filters import gaussian_blur
from dreamflow.frames import Array, Box, Moment, to_array, to_image
from dreamflow.heatmap import Target
from dreamflow.heatmap_job import HeatmapRequest, render_heatmap
from dreamflow.network_sheets import SheetRequest
from dreamflow.networks import DEFAULT
from dreamflow.preset import PresetSummary
from dreamflow.render import RenderedFrame
from dreamflow.video.reader import resized
from dreamflow.video.stills import Still, read_still

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIP, PORTRAIT = HERE.parent / "clip.mp4", HERE.parent / "astronaut.jpg"
SKY, COFFEE = HERE.parent / "hubble.jpg", HERE.parent / "coffee.jpg"
DEPTHS = {"near": 20, "deep": 100}
"""Frames at which zooms are shown."""
MOMENTS = {"clip": Moment.parse("1.1"), "early": Moment.parse("0.7"), "late": Moment.parse("2.3")}
PREVIEW_FRAME = 38
HEIGHT = 216
"""Of the pictures, in pixels."""
SHEET_WIDTH = 900
SHOWN = 150
"""Height at which README shows them, so that they are sharp on dense screens."""

COLUMNS = {
    "clip": "on the sample clip",
    "still": "on a portrait",
    "early": "early in the sample clip",
    "late": "late in it",
    "near": "soon after the start",
    "deep": "three seconds in",
}


def main(names: Sequence[str]) -> None:
    if not names:
        make_moving_picture()
    for look in preset.shipped():
        if look.name in names or not names:
            make_stills(look)
    if not names:
        make_plot_and_preview()
        make_guided()
        make_sheets()
        make_heatmap()
    fill_readme()


def make_moving_picture() -> None:
    target, rate = str(HERE / "dream.gif"), Fraction(25, 2)
    small = job.VideoRequest(
        CLIP, target, preset.load("base"), rate=rate, size=Box.parse("328"), overwrite=True
    )
    finish(job.render_video(small))


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
        with Image.open(HERE / "plot.png") as plot:
            small = plot.quantize(128, dither=Image.Dither.NONE)
        small.save(HERE / "plot.png", optimize=True)
        request = job.VideoRequest(CLIP, str(film), preset.load(str(look)))
        for event in preview.render_preview(request):
            if isinstance(event, RenderedFrame) and event.index == PREVIEW_FRAME:
                save(to_array(event.image), "preview")


GUIDED = """
extends: base
objectives: [{{layer: fire8, guide: {}}}]
"""


def make_guided() -> None:
    """A sky that is dreamed towards two pictures."""
    sky = clouds()
    save(sky, "guide-none")
    for guide in (PORTRAIT, COFFEE):
        with TemporaryDirectory() as folder:
            shutil.copy(guide, folder)
            look = Path(folder, "guided.yaml")
            look.write_text(GUIDED.format(guide.name), encoding="utf-8")
            engine = job.prepare(preset.load(str(look)), Fraction(30), "auto", 2)
            save(job.dream_still(Still(sky), engine).pixels, f"guide-{guide.stem}")


SHEETS: dict[str, dict[str, Any]] = {
    "layers": {"image": COFFEE},
    "channels": {"image": COFFEE, "layer": "fire8", "channels": "top 12"},
    "classes": {"classes": ("tabby", "lakeside", "tarantula", "mushroom", "goldfish", "volcano")},
    "filters": {"filters": True},
    "activations": {"image": COFFEE, "layer": "fire8", "activations": True, "channels": "top 12"},
}


def make_sheets() -> None:
    """One of each kind that `dreamflow layers` draws."""
    for name, wanted in SHEETS.items():
        with TemporaryDirectory() as folder:
            drawn = Path(folder, "sheet.png")
            finish(network_sheets.network_sheet(SheetRequest(target=drawn, **wanted)))
            save_sheet(drawn, name)


def save_sheet(drawn: Path, name: str) -> None:
    """Small, and without the rows that README has no room for."""
    with Image.open(drawn) as sheet:
        small = sheet.crop((0, 0, sheet.width, min(sheet.height, sheet.width * 5 // 6)))
        small.thumbnail((SHEET_WIDTH, SHEET_WIDTH))
        small.convert("RGB").save(HERE / f"sheet-{name}.webp", quality=70, method=6)


def make_heatmap() -> None:
    """Where the coffee is, and a dream that is nowhere else."""
    with TemporaryDirectory() as folder:
        heat, mask = Path(folder, "heat.png"), Path(folder, "mask.png")
        wanted = Target.of_class("espresso")
        request = HeatmapRequest(source=COFFEE, target=heat, looked_for=wanted, mask=mask)
        render_heatmap(request)
        dreamed = Path(folder, "dreamed.png")
        look = preset.load("dogs").model_copy(update={"mask": str(mask)})
        finish(job.render_picture(job.VideoRequest(COFFEE, str(dreamed), look)))
        for kind, shown in (("map", heat), ("mask", mask), ("dream", dreamed)):
            array = read_still(shown)
            save(resized(array, Box(4096, HEIGHT).fit(*array.shape[1::-1])), f"heat-{kind}")


def clouds() -> Array:
    """White on blue, from noise with the spectrum of a landscape."""
    rules = {"multiple": 2, "take": 3, "max_pixels": 10**8}
    grain = to_image(seeds.draw(seeds.Noise("pink"), Box(384, HEIGHT), **rules))
    white = gaussian_blur(grain, 3.0).mean(dim=1, keepdim=True)
    white = (white - white.min()) / (white.max() - white.min())
    blue = torch.tensor([0.36, 0.55, 0.80]).view(1, 3, 1, 1)
    return to_array(blue.lerp(torch.full_like(blue, 0.97), white))


def save(array: Array, name: str) -> None:
    Image.fromarray(array).save(HERE / f"{name}.jpg", quality=85, optimize=True)


def finish(events: Iterable[object]) -> None:
    for _ in events:
        pass


def kinds(look: PresetSummary) -> tuple[str, ...]:
    """The pictures there are of a preset; none where the weights do not come with dreamflow."""
    if look.network != DEFAULT:
        return ()
    special = {"tours": ("early", "late"), "zooms": ("near", "deep")}
    return special.get(look.family, ("clip", "still"))


def make_stills(look: PresetSummary) -> None:
    if look.family == "zooms":
        make_zoom_stills(look.name)
        return
    for kind in kinds(look):
        shown = dreamed_portrait(look.name) if kind == "still" else frame(look.name, MOMENTS[kind])
        small = Image.fromarray(resized(shown, Box(4096, HEIGHT).fit(*shown.shape[1::-1])))
        small.save(HERE / f"{look.name}-{kind}.jpg", quality=85, optimize=True)


def make_zoom_stills(name: str) -> None:
    rules = {"multiple": 2, "take": 0, "max_pixels": 10**8}
    sky = to_image(seeds.draw(SKY, Box(384, HEIGHT), **rules))
    engine = job.prepare(preset.load(name), Fraction(30), "auto", 2, frame_count=300)
    kinds = {index: kind for kind, index in DEPTHS.items()}
    for shown in zoom.render_zoom(sky, engine, max(kinds) + 1):
        if shown.index in kinds:
            small = Image.fromarray(to_array(shown.image))
            small.save(HERE / f"{name}-{kinds[shown.index]}.jpg", quality=80, optimize=True)


def frame(name: str, moment: Moment) -> Array:
    """The settled frame at that moment of the clip."""
    request = job.VideoRequest(CLIP, "", preset.load(name))
    *_, last = job.render_moment(request, moment)
    assert isinstance(last, job.RenderedFrame)
    return to_array(last.image)


def dreamed_portrait(name: str) -> Array:
    engine = job.prepare(preset.load(name), Fraction(30), "auto", 2, sound=audio.steady(0.5))
    portrait = to_array(to_image(read_still(PORTRAIT)))
    return job.dream_still(Still(resized(portrait, (384, 384))), engine).pixels


def fill_readme() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    text = between("presets", preset_tables(), text)
    text = between("settings", preset.settings_markdown(), text)
    path.write_text(text, encoding="utf-8")
    write_schema()


def write_schema() -> None:
    """For editors, beside the presets that name it in their first line."""
    text = json.dumps(preset.json_schema(), indent=2, ensure_ascii=False)
    (ROOT / "presets" / "schema.json").write_text(text + "\n", encoding="utf-8")


def preset_tables() -> str:
    """A heading and a table for each family."""
    families = itertools.groupby(preset.shipped(), lambda look: look.family)
    return "\n\n".join(f"### {name.capitalize()}\n\n{table(list(all))}" for name, all in families)


def table(looks: Sequence[PresetSummary]) -> str:
    titles = [COLUMNS[kind] for kind in kinds(looks[0])] or ["network"]
    rows = [["preset", *titles], ["---"] * (1 + len(titles))]
    for look in looks:
        shown = pictures(look) or [f"`{look.network}`"]
        rows.append([f"**{look.name}**<br>{look.description}", *shown])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def pictures(look: PresetSummary) -> list[str]:
    return [
        f'<img src="samples/gallery/{look.name}-{kind}.jpg" height="{SHOWN}">'
        for kind in kinds(look)
    ]


def between(marker: str, content: str, text: str) -> str:
    pattern = rf"(<!-- {marker} -->\n).*(<!-- /{marker} -->)"
    return re.sub(pattern, lambda m: f"{m[1]}{content.rstrip()}\n{m[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    main(sys.argv[1:])
