"""The options of the command line, each declared once and shared by the commands that take it.

The long ones are spelled like the fields of `job.VideoRequest` or `zoom_job.ZoomRequest` they fill;
those not given stay away, so defaults have one home.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dreamflow.progress import VIEWS

if TYPE_CHECKING:
    from fractions import Fraction

    from dreamflow.frames import Box, Moment
    from dreamflow.seeds import Solid

logger = logging.getLogger("dreamflow")

DEFAULT_PRESET = "base"
DEFAULT_ZOOM_PRESET = "dive"
DEFAULT_NETWORK = "squeezenet1_1"

Decorator = Callable[[Any], Any]


class _Name(click.Path):
    """A path. An empty one, which a shell makes of an unset variable, is not the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Name(path_type=Path)


def _together(*decorators: Decorator) -> Decorator:
    """Several decorators as one, in the order in which `--help` shows them."""
    return lambda function: functools.reduce(
        lambda decorated, decorator: decorator(decorated), reversed(decorators), function
    )


def _moment(text: str) -> Moment:
    from dreamflow.frames import Moment

    return Moment.parse(text)


def size_type(text: str) -> Box:
    from dreamflow.frames import Box

    return Box.parse(text)


def _rate(text: str) -> Fraction:
    from dreamflow.frames import parse_rate

    return parse_rate(text)


def _color(text: str) -> Solid:
    from dreamflow.seeds import Solid

    return Solid.parse(text)


def processors() -> int:
    """CPUs this process may use, which a container or `taskset` can make fewer than there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _log_from(level: int) -> Callable[[click.Context, click.Parameter, bool], None]:
    def apply(_context: click.Context, _option: click.Parameter, given: bool) -> None:
        if given:
            logger.setLevel(level)

    return apply


def _voice_option(*names: str, level: int, help: str) -> Decorator:
    return click.option(
        *names, is_flag=True, expose_value=False, callback=_log_from(level), help=help
    )


voice = _together(
    _voice_option("-q", "--quiet", level=logging.ERROR, help="No warnings."),
    _voice_option("-v", "--verbose", level=logging.INFO, help="Say what is done to the media."),
    _voice_option("--debug", level=logging.DEBUG, help="Show the traceback of an error."),
)

source_argument = click.argument("source", metavar="IN", type=PATH)

# The output stays a text: a trailing slash is lost in a Path.
output_option = click.option(
    *("-o", "--output", "target"), required=True, metavar="OUT", help="Where to write the result."
)

set_option = click.option(
    *("-s", "--set", "overrides"),
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the preset, as in dream.octaves=3; repeatable.",
)


def _look_options(default: str | None) -> Decorator:
    return _together(
        click.option(
            *("-p", "--preset", "name"),
            default=default,
            show_default=default or f"{DEFAULT_PRESET}, {DEFAULT_ZOOM_PRESET} for a zoom",
            metavar="NAME|FILE",
            help="The look: a name of `dreamflow presets list`, or a YAML file.",
        ),
        set_option,
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            metavar="N",
            help="Another take.  [default: the preset's]",
        ),
    )


network_option = click.option(
    "--network",
    default=DEFAULT_NETWORK,
    show_default=True,
    metavar="NAME",
    help="Which network looks (see `dreamflow layers`).",
)

overwrite_option = click.option("-y", "--overwrite", is_flag=True, help="Replace OUT if it exists.")

computing_options = _together(
    click.option(
        "--device",
        type=click.Choice(("auto", "cpu", "cuda", "mps")),
        help="Where to compute.  [default: auto, the fastest there is]",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        metavar="N",
        help="CPU threads; equal pictures need equal threads.  [default: all CPUs]",
    ),
    overwrite_option,
    click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        metavar="N",
        help="Refuse pictures of more pixels than this.  [default: 64000000]",
    ),
)


_progress_option = click.option(
    "--progress",
    type=click.Choice(tuple(VIEWS)),
    default="auto",
    show_default=True,
    help="How to show progress; auto: a bar if stderr is a terminal.",
)

strength_option = click.option(
    "--strength",
    type=click.FloatRange(0, 2),
    metavar="X",
    help="How strong the dream is, 0 to 2; 1 is as the preset means it.  [default: the preset's]",
)

mask_option = click.option(
    "--mask",
    type=PATH,
    metavar="FILE",
    help="Dream only where this picture (or clip, frame by frame) is white; black stays as it is.",
)


def _rendering_options(preset: str | None, size_help: str) -> Decorator:
    return _together(
        output_option,
        _look_options(preset),
        strength_option,
        mask_option,
        click.option("--size", type=size_type, metavar="SIZE", help=size_help),
        computing_options,
        _progress_option,
        voice,
    )


rendering_options = _rendering_options(
    DEFAULT_PRESET,
    "Size of the result: 640 for the long side, 640x360 to fit inside.  [default: that of IN]",
)
zoom_rendering_options = _rendering_options(
    DEFAULT_ZOOM_PRESET,
    "Size of the film: 640 for the long side, or 640x360, which SEED is cropped to."
    "  [default: that of SEED, or 1280x720]",
)

previewing_options = _rendering_options(
    None, "Size of the moving picture, as for the film itself.  [default: 480]"
)

stall_option = click.option(
    "--stall-seconds",
    type=click.FloatRange(min=1),
    metavar="S",
    help="Give up on an encoder that takes nothing for so long.  [default: 60]",
)

job_options = _together(
    click.option(
        "--restart",
        is_flag=True,
        help="Begin anew: discard what an earlier, unfinished render of OUT left.",
    ),
    click.option(
        "--keep-job",
        is_flag=True,
        help="Keep the folder .OUT.dreamflow with the parts of the render.",
    ),
)

at_option = click.option(
    "--at", type=_moment, metavar="TIME", help="Only write the settled frame there, as a still."
)

part_options = _together(
    click.option(
        "--start",
        type=_moment,
        metavar="TIME",
        help="Begin there: 12.5 (seconds), 1:02.5 or 48f (frames).  [default: the beginning]",
    ),
    click.option(
        "--end", type=_moment, metavar="TIME", help="Stop before that.  [default: the end]"
    ),
    click.option(
        "--fps",
        "rate",
        type=_rate,
        metavar="RATE",
        help="Frame rate of the result: 25, 23.976, 24000/1001.  [default: that of IN; stills: 30]",
    ),
)

_flow_options = _together(
    click.option(
        "--flow-cache",
        type=PATH,
        metavar="FOLDER",
        help="Keep the optical flow there, so that the next render of IN need not search for it.",
    ),
    click.option(
        "--flow-files",
        type=PATH,
        metavar="FOLDER",
        help="Take the flow from there: forward_7_8.flo, backward_8_7.flo, or .npy.",
    ),
)

_damage_options = _together(
    click.option("--allow-truncated", is_flag=True, help="Render what there is of a cut-off file."),
    click.option("--strict", is_flag=True, help="Stop at a frame that cannot be read."),
)

clip_options = _together(
    part_options,
    click.option(
        *("--audio", "sound"),
        type=PATH,
        metavar="FILE",
        help="What `audio.*` in the preset listens to, from the clip's first frame on."
        " OUT carries the sound of IN all the same.  [default: the sound of IN]",
    ),
    _flow_options,
    _damage_options,
    stall_option,
)

seed_argument = click.argument("picture", metavar="[SEED]", required=False, type=PATH)
clip_or_seed_argument = click.argument("source", metavar="[IN]", required=False, type=PATH)

_film_options = _together(
    click.option(
        "--frames", type=click.IntRange(min=1), metavar="N", help="Length of the film in frames."
    ),
    click.option(
        "--duration",
        type=_moment,
        metavar="TIME",
        help="The same as time: 12.5 (seconds), 1:02.5 or 300f.  [default: that of --audio]",
    ),
)

_seed_options = _together(
    click.option("--solid", type=_color, metavar="COLOR", help="Grow from one colour: #20304a."),
    click.option("--noise", type=click.Choice(("pink", "white")), help="Grow from random grain."),
)

_closing_options = _together(
    click.option(
        "--loop", is_flag=True, help="The end runs on into the beginning, without a seam."
    ),
    click.option("--ping-pong", is_flag=True, help="There and back again, in the same length."),
)

zoom_options = _together(
    _film_options,
    click.option(
        "--fps",
        "rate",
        type=_rate,
        metavar="RATE",
        help="Frame rate: 25, 23.976, 24000/1001.  [default: 30]",
    ),
    _seed_options,
    click.option(
        *("--audio", "sound"),
        type=PATH,
        metavar="FILE",
        help="The sound of the film, which `audio.*` in the preset listens to.",
    ),
    _closing_options,
    click.option(
        "--live",
        is_flag=True,
        help="Stream without end, as MPEG-TS: `-o -` for a player's pipe, or a file.",
    ),
    stall_option,
)

preview_options = _together(
    part_options,
    click.option(
        *("--audio", "sound"),
        type=PATH,
        metavar="FILE",
        help="What `audio.*` in the preset listens to; the sound of a zoom.",
    ),
    _flow_options,
    _damage_options,
    _film_options,
    _seed_options,
    _closing_options,
    stall_option,
)

span_options = _together(
    click.option(
        "--frames",
        type=click.IntRange(min=1),
        metavar="N",
        help="Length of the render.  [default: 10 s, or until after the last key]",
    ),
    click.option(
        "--duration", type=_moment, metavar="TIME", help="Length of the render: 12.5, 1:02.5, 48f."
    ),
    click.option(
        *("--input", "clip"), type=PATH, metavar="CLIP", help="As long, and as fast, as this clip."
    ),
    click.option(
        "--fps",
        "rate",
        type=_rate,
        metavar="RATE",
        help="Frame rate of the render.  [default: that of CLIP, else the preset's reference_fps]",
    ),
)

batch_options = _together(
    click.option("--dry-run", is_flag=True, help="Only show what would be rendered, at what cost."),
    click.option(
        *("-o", "--output", "output_folder"),
        type=PATH,
        metavar="DIR",
        help="Folder that results are named from.  [default: that of MANIFEST]",
    ),
    click.option(
        *("--report", "report_file"),
        type=PATH,
        metavar="FILE",
        help="Where to tell how it went.  [default: report.json in that folder]",
    ),
    click.option(
        "--watch",
        type=PATH,
        metavar="FOLDER",
        help="Render what is dropped in there, by the jobs of MANIFEST, until stopped.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 1024),
        metavar="N",
        help="Workers at a time.  [default: as many as the CPUs allow; on a GPU 1]",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        metavar="N",
        help="CPU threads of each worker; equal pictures need equal threads.  [default: 1, more"
        " where there are over 8 CPUs]",
    ),
    click.option(
        "--device",
        type=click.Choice(("auto", "cpu", "cuda", "mps")),
        help="Where to compute.  [default: auto, the fastest there is]",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        metavar="N",
        help="Refuse pictures of more pixels than this.  [default: 64000000]",
    ),
    click.option(
        "--ray",
        metavar="local|auto|ADDRESS",
        help="Render on a Ray cluster: one of this machine alone, the one it is in, or that at"
        " ADDRESS. Takes the extra `ray`.",
    ),
    click.option(
        "--gpus",
        type=click.FloatRange(min=0),
        default=0.0,
        metavar="N",
        help="GPUs of each Ray worker; 0.5 lets two share one.  [default: none]",
    ),
    click.option(
        "--restart",
        is_flag=True,
        help="Begin anew what an earlier run left unfinished.",
    ),
    stall_option,
    _progress_option,
    voice,
)
