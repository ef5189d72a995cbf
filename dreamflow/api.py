"""dreamflow from Python: what `import dreamflow` gives, over the jobs that the command line runs.

Convention: arrays `[H, W, 3]` RGB, uint8; files by name or `Path`; a look by a preset's name, its
file, or a `Preset`. What goes wrong is a `DreamflowError`, with a message for people; the options
that it may name are arguments here (`-y` is `overwrite=True`). The examples are tests: they run
where `clip.mp4` and `still.png` are tiny.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dreamflow import job, networks, progress, zoom_job
from dreamflow import measure as measuring
from dreamflow import preset as presets
from dreamflow.caption import finished
from dreamflow.errors import UsageError
from dreamflow.film import Conditions, Finished, Saved, Started
from dreamflow.frames import Array, Box, Moment, parse_rate
from dreamflow.measure import Measurement
from dreamflow.networks import LayerInfo
from dreamflow.options import processors
from dreamflow.preset import Preset, PresetSummary
from dreamflow.render import RenderedFrame
from dreamflow.seeds import Noise, Solid
from dreamflow.video.stills import Still

File = str | os.PathLike[str]
Look = str | os.PathLike[str] | Preset
"""A preset's name, a preset file, or a preset."""
Time = str | float
"""Seconds as a number, or as the command line takes it: `1:02.5`, `48f`."""
Size = str | int
"""The long side in pixels, or a box to fit inside: `640x360`."""
Rate = str | float | Fraction
"""Frames per second; 23.976 means 24000/1001."""
Event = Started | RenderedFrame | Saved | Finished
Progress = Literal["auto", "bar", "json", "none"] | Callable[[Event], None]
"""How a render shows itself, or what is called with every event of it.

`bar` is a bar in a terminal and a line of text per frame elsewhere, as in a notebook; `auto` the
same in a terminal and silent elsewhere; `json` prints a line of JSON per event.
"""

# ── looks ────────────────────────────────────────────────────────────────────────────────────────


def list_presets() -> list[PresetSummary]:
    """The presets that come with dreamflow: name, description, network and family of each.

    >>> "dogs" in [each.name for each in dreamflow.list_presets()]
    True
    """
    return presets.shipped()


def load_preset(name_or_file: File, settings: Mapping[str, Any] | None = None) -> Preset:
    """The preset of that name or in that file, with settings of yours laid on it.

    Settings are spelled as in a preset file, or dotted. A list, as that of the objectives, is
    replaced; mappings are merged; curves are texts or mappings as there. Raises PresetError.

    >>> look = dreamflow.load_preset("dogs", {"dream.octaves": 3, "follow": {"decay": 0.97}})
    >>> look.dream.octaves, look.follow.decay
    (3, 0.97)
    >>> dreamflow.load_preset("dogs", {"dream.octvaes": 3})
    Traceback (most recent call last):
    dreamflow.errors.PresetError: settings: unknown key 'octvaes' (did you mean 'octaves'?)
    """
    return presets.of_values(dict(settings or {}), os.fspath(name_or_file))


def make_preset(*objectives: Mapping[str, Any], **settings: Any) -> Preset:
    """A preset of plain Python values: what to dream after, and how where it is not the default.

    Each objective is a mapping as in a preset file. Raises PresetError.

    >>> look = dreamflow.make_preset(
    ...     {"layer": "fire8", "channel": 12}, {"class": "tabby", "weight": 0.5}, strength=1.5
    ... )
    >>> [objective.label for objective in look.objectives]
    ['fire8 channel 12', 'tabby']
    """
    return presets.of_values({"objectives": objectives, **settings})


def list_networks() -> list[str]:
    """The networks there are, the one in the package first.

    >>> dreamflow.list_networks()[0]
    'squeezenet1_1'
    """
    return networks.list_networks()


def list_layers(network: str = networks.DEFAULT) -> list[LayerInfo]:
    """The layers of a network that can be dreamed, in the order they run. Needs no weights.

    >>> [(layer.alias, layer.channels) for layer in dreamflow.list_layers() if layer.alias][:2]
    [('conv1', 64), ('fire2', 128)]
    """
    return networks.list_layers(network)


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────


def dream_array(
    array: Array, preset: Look = "dogs", *, device: str = "auto", threads: int | None = None
) -> Array:
    """A picture dreamed in memory: uint8 `[H, W, 3]` in and out (uint16 stays uint16).

    Sets this process up for rendering, as every render does: `threads` (all CPUs unless given)
    for torch and OpenCV. Raises UsageError for an array of another kind.

    >>> grey = np.full((48, 64, 3), 127, np.uint8)
    >>> dreamed = dreamflow.dream_array(grey, "whisper")
    >>> dreamed.shape, dreamed.dtype, bool((dreamed != grey).any())
    ((48, 64, 3), dtype('uint8'), True)
    """
    _check_array(array)
    conditions = Conditions(device=device, threads=threads or processors())
    engine = job.still_engine(_look(preset), conditions)
    return job.dream_still(Still(np.ascontiguousarray(array), None), engine).pixels


def render_picture(
    source: File,
    target: File,
    preset: Look = "dogs",
    *,
    size: Size | None = None,
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
) -> Finished:
    """Dream a picture file as `dreamflow image` does.

    >>> dreamflow.render_picture("still.png", "dreamed.png", "whisper").target
    'dreamed.png'
    """
    request = job.VideoRequest(
        source=Path(source),
        target=os.fspath(target),
        preset=_look(preset),
        size=_size(size),
        device=device,
        threads=threads or processors(),
        overwrite=overwrite,
    )
    return _followed(job.render_picture(request), "none")


# ── films ────────────────────────────────────────────────────────────────────────────────────────


def render_clip(
    source: File,
    target: File,
    preset: Look = "dogs",
    *,
    start: Time | None = None,
    end: Time | None = None,
    fps: Rate | None = None,
    size: Size | None = None,
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress = "auto",
) -> Finished:
    """Dream a clip as `dreamflow video` does, with its sound; goes on where it was stopped.

    >>> seen = []
    >>> dreamflow.render_clip("clip.mp4", "dream.mp4", "whisper", progress=seen.append).frame_count
    3
    >>> [type(event).__name__ for event in seen]
    ['Started', 'RenderedFrame', 'RenderedFrame', 'RenderedFrame', 'Finished']
    """
    request = _of_clip(
        source, target, preset, start, end, fps, size, device, threads, overwrite=overwrite
    )
    return _followed(job.render_video(request), progress)


def dreamed_frames(
    source: File,
    preset: Look = "dogs",
    *,
    start: Time | None = None,
    end: Time | None = None,
    fps: Rate | None = None,
    size: Size | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Iterator[Array]:
    """The frames of a clip's dream, one by one as they are done; nothing is written.

    They are those of `render_clip`, uint8 `[H, W, 3]`. Closing the iterator early stops all.

    >>> frames = dreamflow.dreamed_frames("clip.mp4", "whisper")
    >>> [frame.shape for frame in frames]
    [(48, 64, 3), (48, 64, 3), (48, 64, 3)]
    """
    request = _of_clip(source, "", preset, start, end, fps, size, device, threads)
    with closing(job.render_frames(request)) as frames:
        for frame in frames:
            yield finished(frame, request.preset.output)


def render_zoom(
    seed: File | Solid | Noise,
    target: File,
    preset: Look = "dive",
    *,
    frames: int | None = None,
    duration: Time | None = None,
    fps: Rate = zoom_job.RATE,
    loop: bool = False,
    ping_pong: bool = False,
    size: Size | None = None,
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress = "auto",
) -> Finished:
    """Dive into a picture, a colour or noise as `dreamflow zoom` does.

    >>> teal = dreamflow.Solid.parse("teal")
    >>> dreamflow.render_zoom(teal, "dive.mp4", frames=2, size="64x48").frame_count
    2
    >>> pink = dreamflow.Noise("pink")
    >>> again = dreamflow.render_zoom(pink, "dive.mp4", frames=1, size=64, overwrite=True)
    """
    request = zoom_job.ZoomRequest(
        seed=seed if isinstance(seed, Solid | Noise) else Path(seed),
        target=os.fspath(target),
        preset=_look(preset),
        frames=frames,
        duration=_moment(duration),
        rate=parse_rate(str(fps)),
        loop=loop,
        ping_pong=ping_pong,
        size=_size(size),
        device=device,
        threads=threads or processors(),
        overwrite=overwrite,
    )
    return _followed(zoom_job.render_film(request), progress)


def measure_clip(
    source: File,
    output: File,
    *,
    start: Time | None = None,
    end: Time | None = None,
    fps: Rate | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Measurement:
    """Measure a dreamed clip against its source as `dreamflow measure` does.

    Of a part of the source give the `start`, `end` and `fps` it was rendered with.

    >>> dreamflow.render_clip("clip.mp4", "measured.mp4", "whisper").frame_count
    3
    >>> found = dreamflow.measure_clip("clip.mp4", "measured.mp4")
    >>> len(found.frames), found.film.change > 0
    (3, True)
    """
    request = measuring.MeasureRequest(
        Path(source),
        Path(output),
        start=_moment(start),
        end=_moment(end),
        rate=_rate(fps),
        device=device,
        threads=threads or processors(),
    )
    *_frames, measurement = measuring.measure(request)
    assert isinstance(measurement, Measurement)
    return measurement


# ── what is given, as the jobs take it ───────────────────────────────────────────────────────────


def _of_clip(
    source: File,
    target: File,
    preset: Look,
    start: Time | None,
    end: Time | None,
    fps: Rate | None,
    size: Size | None,
    device: str,
    threads: int | None,
    *,
    overwrite: bool = False,
) -> job.VideoRequest:
    return job.VideoRequest(
        source=Path(source),
        target=os.fspath(target),
        preset=_look(preset),
        start=_moment(start),
        end=_moment(end),
        rate=_rate(fps),
        size=_size(size),
        device=device,
        threads=threads or processors(),
        overwrite=overwrite,
    )


def _look(preset: Look) -> Preset:
    return preset if isinstance(preset, Preset) else presets.load(os.fspath(preset))


def _moment(time: Time | None) -> Moment | None:
    return None if time is None else Moment.parse(str(time))


def _size(size: Size | None) -> Box | None:
    return None if size is None else Box.parse(str(size))


def _rate(fps: Rate | None) -> Fraction | None:
    return None if fps is None else parse_rate(str(fps))


def _check_array(array: Array) -> None:
    if not isinstance(array, np.ndarray):
        raise UsageError(f"a picture is a NumPy array [H, W, 3], not a {type(array).__name__}")
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UsageError(f"a picture is an array [H, W, 3] in RGB, not {list(array.shape)}")
    if array.dtype not in (np.uint8, np.uint16):
        raise UsageError(
            f"a picture is uint8 (0..255) or uint16, not {array.dtype}: "
            "give (array * 255).astype('uint8') for floats from 0 to 1"
        )


def _followed(events: Generator[Any, None, None], shown: Progress) -> Finished:
    """Run a render to its end, showing it."""
    event = None
    with closing(events), _view(shown) as show:
        for event in events:
            show(event)
    assert isinstance(event, Finished)
    return event


def _view(shown: Progress) -> AbstractContextManager[Callable[[Event], None]]:
    if callable(shown):
        return nullcontext(shown)
    if shown not in progress.VIEWS:
        raise UsageError(
            f"progress is one of {', '.join(progress.VIEWS)} or a function, not {shown!r}"
        )
    return progress.view(shown)
