"""The command line: reads options, calls the library, prints, and picks the exit code.

Nothing heavy is imported before a command that needs it runs, so that `--help` is quick.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

import dreamflow
from dreamflow.errors import (
    BadMediaError,
    DreamflowError,
    PresetError,
    RendersFailedError,
    UsageError,
    is_out_of_memory,
)
from dreamflow.interrupts import Interrupted, Interrupts
from dreamflow.options import (
    DEFAULT_PRESET,
    DEFAULT_ZOOM_PRESET,
    PATH,
    at_option,
    batch_options,
    clip_options,
    clip_or_seed_argument,
    computing_options,
    job_options,
    network_option,
    output_option,
    overwrite_option,
    part_options,
    preview_options,
    previewing_options,
    processors,
    rendering_options,
    seed_argument,
    set_option,
    size_type,
    source_argument,
    span_options,
    voice,
    zoom_options,
    zoom_rendering_options,
)
from dreamflow.progress import batch_view, printable, view, write_out

if TYPE_CHECKING:
    from fractions import Fraction

    from dreamflow.batch import Batch, Item, Report, Share
    from dreamflow.frames import Moment, Shot
    from dreamflow.job import VideoRequest
    from dreamflow.manifest import Entry
    from dreamflow.measure import Measurement
    from dreamflow.preset import Preset
    from dreamflow.seeds import Solid
    from dreamflow.watch import Watcher
    from dreamflow.zoom_job import ZoomRequest

logger = logging.getLogger("dreamflow")

# ── the edge: streams, warnings, errors, exit codes ──────────────────────────────────────────────


def main() -> None:
    """Entry point of the console script."""
    _let_go_of_processors()
    sys.exit(run(sys.argv[1:]))


def _let_go_of_processors() -> None:
    """Have torch's threads (libgomp's) sleep after a millisecond without work; before it is loaded.

    By default they go on spinning for several, on processors that others wait for: two renders at
    once, of as many threads as there are cores, each took ten times as long as one alone; now four
    times. One alone is as quick. What the user asked for stands.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "30000"


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. What goes wrong is said in one line on stderr."""
    _repair_streams()
    with _log_to_stderr(), Interrupts() as interrupts:
        try:
            cli.main(list(arguments), "dreamflow", standalone_mode=False, obj=interrupts)
            sys.stdout.flush()
            return 0
        except click.exceptions.NoArgsIsHelpError as error:
            print(error.format_message(), file=sys.stderr)
            return error.exit_code
        except (Exception, Interrupted) as error:
            if logger.isEnabledFor(logging.DEBUG):
                traceback.print_exc()
            code, lines = _explain(error)
            for line in lines:
                print(f"dreamflow: error: {printable(line)}", file=sys.stderr)
            return code


def _explain(error: BaseException) -> tuple[int, list[str]]:
    """Exit code and error lines for whatever a command raised."""
    match error:
        case PresetError():
            return error.exit_code, str(error).splitlines()
        case DreamflowError() | Interrupted():
            return error.exit_code, [str(error)]
        case click.ClickException():
            return error.exit_code, [_usage(error)]
        case click.Abort():
            return 130, ["stopped"]
        case MemoryError() | RuntimeError() if is_out_of_memory(error):
            remedy = "free some, or dream smaller: --size, dream.size, dream.tile"
            return 75, [f"there is not enough memory ({remedy})"]
        case ImportError():
            hint = "`dreamflow doctor` says what is missing"
            return 69, [f"cannot load {error.name or 'a part of dreamflow'}: {error} ({hint})"]
        case OSError() if error.filename is None:
            return 74, [f"cannot write the output: {error.strerror}"]
        case _:
            reason = f"{type(error).__name__}: {error}"
            return 70, [f"internal error ({reason}), run again with --debug"]


def _usage(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    text = text.replace("a valid integer range", "a whole number")
    text = text.replace("a valid float range", "a number")
    context = getattr(error, "ctx", None)
    return f"{text} (see `{context.command_path} --help`)" if context else text


def _repair_streams() -> None:
    """Make stdin, stdout and stderr usable whatever the caller did to them.

    A closed one would give its number to the next file opened; a name that the terminal's
    encoding lacks shall be shown escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


class _Lines(logging.Handler):
    """Log records as `dreamflow: warning: ...` lines, above a bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        warns = record.levelno >= logging.WARNING
        level = f"{record.levelname.lower()}: " if warns else ""
        print(f"dreamflow: {level}{printable(record.getMessage())}", file=sys.stderr)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    handler, level = _Lines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # what libraries warn of is for their developers
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


# ── rendering ────────────────────────────────────────────────────────────────────────────────────


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(dreamflow.__version__, prog_name="dreamflow", message="%(prog)s %(version)s")
def cli() -> None:
    """Render DeepDream video that does not flicker."""


@cli.command()
@source_argument
@clip_options
@at_option
@rendering_options
@job_options
@click.pass_obj
def video(
    interrupts: Interrupts, source: Path, at: Moment | None, progress: str, **options: Any
) -> None:
    """Render the clip IN as a dream, with its sound.

    IN is a video file, a folder of stills, or a pattern such as frame_%04d.png. What OUT becomes
    goes by its ending: .mp4 .mov .webm .mkv .gif, or a folder of PNGs if it ends in a slash.
    """
    if at and (options["start"] or options["end"]):
        raise UsageError("--at looks at one moment of the whole clip: leave out --start and --end")
    request = _request(source, **options)
    from dreamflow import job

    events = job.render_look(request, at) if at else job.render_video(request)
    _follow(events, request, progress, interrupts)


@cli.command()
@source_argument
@rendering_options
@click.pass_obj
def image(interrupts: Interrupts, source: Path, progress: str, **options: Any) -> None:
    """Render the picture IN as a dream; OUT is a .png, .jpg or .webp."""
    request = _request(source, **options)
    from dreamflow import job

    _follow(job.render_picture(request), request, progress, interrupts)


@cli.command()
@seed_argument
@zoom_options
@zoom_rendering_options
@job_options
@click.pass_obj
def zoom(interrupts: Interrupts, progress: str, target: str, live: bool, **options: Any) -> None:
    """Dive without end into the picture SEED, or into a colour or noise.

    What OUT becomes goes by its ending, as for `dreamflow video`. With --live it is a stream: pipe
    `-o -` into a player such as `ffplay -`.
    """
    if target == "-" and progress == "json":
        raise UsageError("--progress json writes to stdout, and so does the stream: leave one out")
    request = _zoom_request(target=target, live=live, **options)
    from dreamflow import zoom_job

    events = zoom_job.render_stream(request) if live else zoom_job.render_film(request)
    _follow(events, request, progress, interrupts)


def _zoom_request(
    picture: Path | None,
    *,
    solid: Solid | None,
    noise: Literal["pink", "white"] | None,
    name: str,
    overrides: Sequence[str],
    seed: int | None,
    mask: Path | None,
    strength: float | None,
    sound: Path | None,
    **rest: Any,
) -> ZoomRequest:
    """What the options ask for. A wrong preset is refused before torch is loaded."""
    preset = _preset(name, overrides, seed, strength, mask)
    if sound is not None:
        preset = preset.model_copy(update={"audio": str(sound)})
    from dreamflow.seeds import Noise
    from dreamflow.zoom_job import ZoomRequest

    given = [picture, solid, Noise(noise) if noise else None]
    found = [each for each in given if each is not None]
    if len(found) != 1:
        raise UsageError("a zoom grows from one thing: a picture SEED, --solid COLOR or --noise")
    return ZoomRequest(found[0], preset=preset, **_given(rest))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are there, and how many threads to use."""
    given = {key: value for key, value in options.items() if value is not None}
    given.setdefault("threads", processors())
    return given


@cli.command()
@clip_or_seed_argument
@preview_options
@previewing_options
@click.pass_obj
def preview(interrupts: Interrupts, source: Path | None, progress: str, **options: Any) -> None:
    """Show in seconds how the dream of IN will move, without dreaming it.

    For a clip a lattice is carried as the dream would be; for a picture, a colour or noise the
    camera's path is shown that a zoom would take. Beside it are three dreamed stills, below it the
    preset's curves. A long film is shown in three passages.
    """
    if _is_seed(source, options):
        from dreamflow import zoom_preview

        wanted = _only_for_zooms_or_clips(options, _OF_CLIPS, "clips, and this is a zoom")
        request = _zoom_request(
            source, **{**wanted, "name": options["name"] or DEFAULT_ZOOM_PRESET}
        )
        events = zoom_preview.render_preview(request)
    else:
        from dreamflow import preview

        wanted = _only_for_zooms_or_clips(options, _OF_ZOOMS, "zooms, and IN is a clip")
        if source is None:
            raise UsageError("what of? name a clip or a picture IN, or give --solid or --noise")
        request = _request(source, **{**wanted, "name": options["name"] or DEFAULT_PRESET})
        events = preview.render_preview(request)
    _follow(events, request, progress, interrupts)


_OF_CLIPS = ("start", "end", "flow_cache", "flow_files", "allow_truncated", "strict")
_OF_ZOOMS = ("frames", "duration", "solid", "noise", "loop", "ping_pong")


def _is_seed(source: Path | None, options: dict[str, Any]) -> bool:
    from dreamflow.video.sequences import is_picture

    return bool(options["solid"] or options["noise"] or (source and is_picture(source)))


def _only_for_zooms_or_clips(
    options: dict[str, Any], others: Sequence[str], whose: str
) -> dict[str, Any]:
    """The options without those of the other kind, which must not have been given."""
    for key in others:
        if options[key]:
            raise UsageError(f"--{key.replace('_', '-')} is for {whose}")
    return {key: value for key, value in options.items() if key not in others}


def _request(
    source: Path,
    target: str,
    *,
    name: str,
    overrides: Sequence[str],
    seed: int | None,
    mask: Path | None,
    strength: float | None,
    sound: Path | None = None,
    **rest: Any,
) -> VideoRequest:
    """What the options ask for. A wrong preset is refused before torch is loaded."""
    preset = _preset(name, overrides, seed, strength, mask)
    if sound is not None:
        preset = preset.listening_to(sound)
    from dreamflow.job import VideoRequest

    return VideoRequest(source, target, preset, **_given(rest))


def _preset(
    name: str,
    overrides: Sequence[str],
    seed: int | None,
    strength: float | None = None,
    mask: Path | None = None,
) -> Preset:
    from dreamflow import preset

    options = {"seed": seed, "strength": strength}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    look = preset.load(name, overrides=[*overrides, *given])
    return look if mask is None else look.model_copy(update={"mask": str(mask)})


def _follow(
    events: Generator[Any, None, None],
    request: VideoRequest | ZoomRequest,
    progress: str,
    interrupts: Interrupts,
) -> None:
    """Run a render to its end, showing it; a first signal stops it between two frames."""
    from dreamflow.film import Finished, Saved, Started
    from dreamflow.render import RenderedFrame

    frames, kept = 0, None
    with closing(events), view(progress) as show, interrupts.patiently():
        for event in events:
            if isinstance(event, Started) and event.resumes_at is not None:
                kept = event.resumes_at
                _say(f"resuming at frame {kept} of {event.info.frame_count}")
            show(event)
            frames += isinstance(event, RenderedFrame)
            if isinstance(event, Saved):
                kept = event.frame_count
            if not isinstance(event, Finished):
                interrupts.check(_stopped(frames, kept, request))


def _say(text: str) -> None:
    """A line on stderr, unless warnings are too much already."""
    if logger.isEnabledFor(logging.WARNING):
        print(f"dreamflow: {text}", file=sys.stderr, flush=True)


def _stopped(frames: int, kept: int | None, request: VideoRequest | ZoomRequest) -> str:
    if getattr(request, "live", False):
        return f"stopped after {frames} frames"
    again = "start again" if kept is None else f"resume at frame {kept}"
    return (
        f"stopped after {frames} frames, {request.target} is not written: "
        f"run the same command to {again}"
    )


# ── batches ──────────────────────────────────────────────────────────────────────────────────────


@cli.command("batch")
@click.argument("manifest_file", metavar="MANIFEST", type=PATH)
@batch_options
@click.pass_obj
def run_batch(
    interrupts: Interrupts,
    manifest_file: Path,
    dry_run: bool,
    output_folder: Path | None,
    report_file: Path | None,
    watch: Path | None,
    workers: int | None,
    threads: int | None,
    ray: str | None,
    gpus: float,
    progress: str,
    **options: Any,
) -> None:
    """Render all jobs of MANIFEST, a YAML file, as many at a time as the machine allows.

    All of it is checked before the first frame. Results that are there already are left alone, so
    the same command again does what is left. `dreamflow presets schema --manifest` describes the
    file to editors.
    """
    if watch and dry_run:
        raise UsageError("--dry-run has no plan of what is yet to come: leave out --watch")
    folder = output_folder or manifest_file.parent
    from dreamflow import batch, manifest

    if ray is not None:
        from dreamflow import ray_engine

        ray_engine.load()

    probes = [Path("clip.mp4"), Path("picture.png")] if watch else [None]
    asked = [manifest.read(manifest_file, folder, dropped=probe) for probe in probes]
    share = batch.Share.of(processors(), workers, threads)
    from dreamflow import machine, plan
    from dreamflow.film import Conditions

    given = {key: value for key, value in options.items() if value is not None}
    if ray is not None and not gpus:
        given.setdefault("device", "cpu")  # else all actors would take the first GPU
    conditions = Conditions(threads=share.threads, **given)
    if ray is None and workers is None and machine.pick_device(conditions.device).type != "cpu":
        share = batch.Share(1, share.threads)  # they would share one GPU, and its memory
    items = [] if watch else batch.survey(plan.plan(asked[0], conditions))
    if dry_run:
        _show_plan(items, share)
    plan.check_room([item.render for item in items if item.is_open], share.workers)
    if dry_run:
        return
    facts = {"manifest": str(manifest_file), "workers": share.workers, "threads": share.threads}
    report = batch.Report(report_file or folder / "report.json", **facts)

    def entries_of(path: Path, number: int) -> list[Entry]:
        return manifest.read(manifest_file, folder, dropped=path, first_index=number)

    def arrivals(path: Path, number: int) -> list[Item]:
        coming = batch.survey(plan.plan(entries_of(path, number), conditions), number)
        plan.check_room([item.render for item in coming if item.is_open], share.workers)
        return coming

    from dreamflow.watch import Watcher
    from dreamflow.workers import LocalPool

    drop = _Drop(Watcher(watch), entries_of, arrivals) if watch else None
    if ray is None:
        pool = LocalPool(share.workers)
    else:
        from dreamflow.ray_engine import RayPool

        most = share.workers if ray == "local" else workers
        pool = RayPool(ray, threads=share.threads, gpus=gpus, most=most)
    night = batch.Batch(pool, report)
    try:
        with pool:
            _work_off(night, items, drop, progress, interrupts)
    finally:
        night.stop()
    if progress != "json":
        write_out(_table(batch.table(night.items)))
    _judge(night, report)


@dataclass(frozen=True)
class _Drop:
    """Where things to render are dropped in."""

    watcher: Watcher
    entries_of: Callable[[Path, int], list[Entry]]
    """What a file asks for, numbered from there."""
    items_of: Callable[[Path, int], list[Item]]
    """The same, checked."""

    def arrived(self, night: Batch) -> Iterator[Item]:
        """The renders of what has arrived. What cannot be rendered is said, and passed over.

        So are results, those of an earlier run too, which may arrive before what they are made of.
        """
        paths = self.watcher.arrived()
        makers = {os.path.realpath(each.output): each.input for each in _entries(night)}
        results = {*makers, *(name for path in paths for name in self._results_of(path))}
        for path in paths:
            if os.path.realpath(path) in results:
                continue
            try:
                items = self.items_of(path, len(night.items) + 1)
            except DreamflowError as error:
                for line in str(error).splitlines():
                    logger.error("%s: %s", path.name, line)
                continue
            for item in items:
                entry = item.render.entry
                maker = makers.setdefault(os.path.realpath(entry.output), entry.input)
                if maker == entry.input:
                    yield item
                else:
                    text = "%s: output: %s is that of %s: tell them apart with {index}"
                    logger.error(text, path.name, entry.output, maker)

    def _results_of(self, path: Path) -> list[str]:
        try:
            return [os.path.realpath(each.output) for each in self.entries_of(path, 1)]
        except DreamflowError:
            return []  # which is said when its renders are asked for


def _entries(night: Batch) -> Iterator[Entry]:
    return (item.render.entry for item in night.items)


def _work_off(
    night: Batch, items: list[Item], drop: _Drop | None, progress: str, interrupts: Interrupts
) -> None:
    """Do all that there is; with a drop, for ever."""
    with batch_view(progress) as show, interrupts.patiently():
        night.add(items)
        while night.busy or drop:
            if drop:
                for item in drop.arrived(night):
                    night.add([item])
            for item in night.step():
                show(item, night)
            done = sum(item.state == "finished" for item in night.items)
            interrupts.check(f"stopped after {done} renders: run the same command to go on")


def _judge(night: Batch, report: Report) -> None:
    failed = night.failed()
    if failed:
        causes = "; ".join(f"{item.render.entry.output}: {item.cause}" for item in failed[:3])
        raise RendersFailedError(
            f"{len(failed)} of {len(night.items)} renders failed ({causes}); {report.path} tells "
            "more, and the same command tries them again"
        )


def _show_plan(items: Sequence[Item], share: Share) -> None:
    """The plan as a table, and where its numbers come from."""
    from dreamflow import batch, plan

    todo = [item for item in items if item.is_open]
    times = dict(zip(map(id, todo), plan.estimate(item.render for item in todo), strict=True))
    seconds = [times.get(id(item), 0.0) for item in items]
    write_out(_table(batch.plan_table(items, seconds)))
    write_out(
        f"times: of one worker, from a few frames of each look dreamed just now with "
        f"{share.threads} thread(s); {share.workers} workers take about "
        f"{batch.duration(sum(seconds) / min(share.workers, max(1, len(todo))))}. "
        "disk: from the pixels and the usual bits of a pixel in a dream"
    )


# ── looking around ───────────────────────────────────────────────────────────────────────────────


@cli.command()
@voice
def doctor() -> None:
    """Check what dreamflow stands on: ffmpeg, devices, weights, disk."""
    from dreamflow import doctor

    checks = list(doctor.examine())
    write_out(_table([(check.what, check.state, check.detail) for check in checks]))
    doctor.require(checks)


_OF_A_SHEET = ("image", "layer", "channels", "labels", "filters", "activations")


@cli.command()
@click.argument("network", required=False)
@click.option("--sheet", type=PATH, metavar="PNG", help="Draw it: every layer dreamed on IN.")
@click.option("--image", type=PATH, metavar="IN", help="The still that is dreamed or looked at.")
@click.option("--layer", metavar="LAYER", help="Draw the channels of this layer.")
@click.option("--channels", metavar="WHICH", help="top 24, all, or 3,7,9.  [default: top 24]")
@click.option("--classes", "labels", metavar="A,B", help="Draw these classes: tabby,espresso.")
@click.option("--filters", is_flag=True, help="Draw the weights of the first layer.")
@click.option("--activations", is_flag=True, help="Draw where the layers fire on IN.")
@computing_options
@voice
@click.pass_obj
def layers(interrupts: Interrupts, network: str | None, sheet: Path | None, **options: Any) -> None:
    """List the networks there are, or the layers of NETWORK that can be dreamed.

    With --sheet they are drawn, each with the line of a preset that dreams it.
    """
    if sheet is not None:
        _draw_network(interrupts, network, sheet, **options)
        return
    if any(options[key] for key in _OF_A_SHEET):
        raise UsageError("say where to draw it: --sheet PNG")
    from dreamflow import networks

    if network is None:
        rows = [(name, networks.where_weights_are(name)) for name in networks.list_networks()]
        write_out(_table([("network", "weights"), *rows]))
        return
    found = networks.list_layers(network)
    cells = [(layer.name, layer.alias, str(layer.channels), str(layer.stride)) for layer in found]
    write_out(_table([("layer", "alias", "channels", "stride"), *cells]))


def _draw_network(
    interrupts: Interrupts,
    network: str | None,
    sheet: Path,
    *,
    labels: str | None,
    **options: Any,
) -> None:
    from dreamflow import network_sheets

    given = _given(options)
    if network is not None:
        given["network"] = network
    if labels is not None:
        given["classes"] = tuple(label.strip() for label in labels.split(",") if label.strip())
        if not given["classes"]:
            raise UsageError("which classes? name them as in --classes tabby,espresso")
    events = network_sheets.network_sheet(network_sheets.SheetRequest(target=sheet, **given))
    with closing(events), interrupts.patiently():
        for event in events:
            if sys.stderr.isatty():
                print(f"{event.done}/{event.total} {printable(event.name)}", file=sys.stderr)
            interrupts.check(f"stopped after {event.done} pictures, {sheet} is not written")


@cli.command()
@source_argument
@output_option
@network_option
@click.option("--class", "class_", metavar="NAME", help="Look for this class of ImageNet: tabby.")
@click.option("--layer", metavar="LAYER", help="Look for a channel of this layer instead.")
@click.option("--channel", type=click.IntRange(min=0), metavar="N", help="Which one, from 0.")
@click.option("--npy", "array", type=PATH, metavar="FILE", help="Write the map as float32 [H, W].")
@click.option(
    "--mask", type=PATH, metavar="PNG", help="Write it as a dream's mask: white is dreamed."
)
@click.option("--invert", is_flag=True, help="Turn the mask around: everywhere but there.")
@computing_options
@voice
def heatmap(
    target: str, class_: str | None, layer: str | None, channel: int | None, **options: Any
) -> None:
    """Show where in the picture IN a network sees a class, or a channel of a layer.

    OUT is the map laid over the picture, the box of its strongest region drawn; that is printed
    too. With --mask it can be dreamed just there, with --invert everywhere but there.
    """
    if (class_ is None) == (layer is None) or (layer is None) != (channel is None):
        raise UsageError("say what to look for: --class NAME, or --layer LAYER with --channel N")
    if options["invert"] and not options["mask"]:
        raise UsageError("--invert turns the mask around: say where to write it with --mask PNG")
    from dreamflow.heatmap import Target
    from dreamflow.heatmap_job import HeatmapRequest, render_heatmap

    if class_ is not None:
        wanted = Target.of_class(class_)
    else:
        assert layer is not None
        assert channel is not None
        wanted = Target.of_channel(options["network"], layer, channel)
    found = render_heatmap(
        HeatmapRequest(target=Path(target), looked_for=wanted, **_given(options))
    )
    box = found.region
    rows = [
        ("looked for", found.label),
        ("strongest region", f"{box.width}x{box.height} at x {box.x}, y {box.y}"),
        ("peak", f"{found.strongest:.2f} (median {found.usual:.2f})"),
    ]
    write_out(_table(rows))


@cli.command("shots")
@click.argument("clip", metavar="CLIP", type=PATH)
@click.option(
    "--detector",
    type=click.Choice(("auto", "adaptive", "content")),
    default="auto",
    show_default=True,
    help="What finds the cuts; adaptive and content are PySceneDetect's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@voice
@click.pass_obj
def list_shots(
    interrupts: Interrupts,
    clip: Path,
    detector: Literal["auto", "adaptive", "content"],
    as_json: bool,
) -> None:
    """List the shots of CLIP: where each begins, and how long it is.

    These are the cuts at which a dream starts afresh (`shots` in a preset). A time given here to
    --start begins a render with that very frame.
    """
    from dreamflow import shots
    from dreamflow.video.reader import open_clip

    found: list[Shot] = []
    with open_clip(clip) as opened, interrupts.patiently():
        for shot in shots.find(opened, detector):
            found.append(shot)
            interrupts.check(f"stopped after {len(found)} shots")
    if as_json:
        rows = [
            {"first": shot.first, "frames": shot.frame_count}
            | {"start": float(shot.start), "seconds": float(shot.duration)}
            for shot in found
        ]
        rate = str(opened.info.rate)
        write_out(json.dumps({"clip": str(clip), "rate": rate, "shots": rows}, indent=2))
        return
    cells = [
        (str(number), f"{shot.first}f", _clock(shot.start), f"{float(shot.duration):.3f} s")
        for number, shot in enumerate(found, 1)
    ]
    write_out(_table([("shot", "frame", "time", "length"), *cells]))


def _clock(seconds: Fraction) -> str:
    """A time as --start takes it, of the first millisecond at which a frame is on screen."""
    minutes, rest = divmod(ceil(seconds * 1000), 60_000)
    return f"{minutes}:{rest // 1000:02}.{rest % 1000:03}"


@cli.command()
@click.argument("source", metavar="SOURCE", type=PATH)
@click.argument("output", metavar="OUTPUT", type=PATH)
@click.option(
    *("-p", "--preset", "name"),
    metavar="NAME|FILE",
    help="Whose layers' strength to take.  [default: the preset in OUTPUT]",
)
@click.option("--plot", type=PATH, metavar="PNG", help="Draw curves and the worst frames.")
@click.option("--json", "json_file", type=PATH, metavar="FILE", help="Write the numbers as JSON.")
@click.option("--csv", "csv_file", type=PATH, metavar="FILE", help="Write a line for each frame.")
@part_options
@computing_options
@voice
@click.pass_obj
def measure(
    interrupts: Interrupts,
    source: Path,
    output: Path,
    name: str | None,
    plot: Path | None,
    json_file: Path | None,
    csv_file: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Measure how steady, how strong and how true in colour the dream OUTPUT of SOURCE is.

    Flicker, 1 and 5 frames apart: 0 sticks perfectly to what moves, 1.41 is noise. Strength: how
    much more the dreamed layers see in OUTPUT than in SOURCE. Change and brightness are in 8-bit
    levels, colour is in CIELAB; drift is over a shot.
    """
    files = {file for file in (plot, json_file, csv_file) if file}
    preset = _preset(name, (), None) if name else None
    from dreamflow import measure, report
    from dreamflow.video.stills import write_still
    from dreamflow.video.writer import check_input_survives, check_place, check_still_target

    if plot:
        check_still_target(plot, overwrite=overwrite)
    for file in files:
        check_place(file, overwrite=overwrite)
        check_input_survives(file, [source, output])
    given = {key: value for key, value in options.items() if value is not None}
    given.setdefault("threads", processors())
    found = _measured(
        measure.measure(measure.MeasureRequest(source, output, preset, **given)), interrupts
    )
    if json_file:
        report.write_text(json_file, found.as_json() + "\n")
    if csv_file:
        report.write_text(csv_file, found.as_csv())
    if plot:
        write_still(plot, report.draw(found))
    write_out(_table(report.table(found)))


def _measured(events: Generator[Any, None, None], interrupts: Interrupts) -> Measurement:
    """Run a measurement to its end; on a terminal a line counts the frames."""
    from dreamflow.measure import Measurement, Opened

    done, total, last = 0, 0, None
    with closing(events), interrupts.patiently():
        for last in events:
            if isinstance(last, Opened):
                total = last.frame_count
            elif not isinstance(last, Measurement):
                done += 1
                if sys.stderr.isatty():
                    print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr)
                interrupts.check(f"stopped after {done} of {total} frames")
    assert isinstance(last, Measurement)
    return last


@cli.command()
@click.argument("clips", metavar="A B...", nargs=-1, required=True, type=PATH)
@output_option
@click.option(
    *("--label", "labels"),
    multiple=True,
    metavar="TEXT",
    help="Name of a clip, in their order; repeatable.  [default: the file names]",
)
@click.option("--columns", type=click.IntRange(1, 9), metavar="N", help="Clips in a row.")
@click.option(
    "--size",
    type=size_type,
    metavar="SIZE",
    help="Size of each clip: 640 for the long side.  [default: that of A, at most 960]",
)
@overwrite_option
@voice
@click.pass_obj
def compare(
    interrupts: Interrupts, clips: Sequence[Path], target: str, labels: Sequence[str], **rest: Any
) -> None:
    """Put 2 to 9 clips of one frame rate side by side, with their names and the sound of A.

    A clip that is over shows its last frame until the longest one ends.
    """
    from dreamflow import compare

    given = {key: value for key, value in rest.items() if value is not None}
    events = compare.compare(clips, target, labels or None, **given)
    with closing(events), interrupts.patiently():
        for done in events:
            if sys.stderr.isatty():
                print(f"\r{done} frames", end="", file=sys.stderr)
            interrupts.check(f"stopped after {done} frames, {target} is not written")
    if sys.stderr.isatty():
        print(file=sys.stderr)


@cli.command()
@click.argument("output", metavar="OUT", type=PATH)
@click.option("--preset", "preset_only", is_flag=True, help="Only the preset, as YAML.")
@voice
def show(output: Path, preset_only: bool) -> None:
    """Print how OUT was made: versions, settings, seed. The text is a preset that makes it again.

    OUT is a file or folder that dreamflow wrote.
    """
    from dreamflow.video.writer import embedded_settings

    text = embedded_settings(output)
    if text is None:
        raise BadMediaError(f"{output} carries no dreamflow settings: was it made by dreamflow?")
    versions, preset = _read_recipe(text, output)
    comments = "".join(f"# {key}: {value}\n" for key, value in versions.items())
    lines = (preset if preset_only else comments + preset).splitlines()
    write_out("\n".join(map(printable, lines)))


def _read_recipe(text: str, output: Path) -> tuple[dict[str, Any], str]:
    """The versions and the preset's YAML in a recipe, which anybody may have written."""
    try:
        recipe = json.loads(text)
        preset = recipe.pop("preset")
        return recipe, str(preset)
    except (ValueError, RecursionError, LookupError, AttributeError, TypeError):
        raise BadMediaError(f"{output}: its dreamflow settings are damaged") from None


# ── presets ──────────────────────────────────────────────────────────────────────────────────────


@cli.group()
def presets() -> None:
    """List, show, check and draw presets.

    A number in a preset may be keyframes such as 0:(1), 60:(2) or an expression of t (frame), s
    (seed), max_f (last frame), sec, fps, pi, e and audio.rms, .bass, .mid, .treble, .onset, .beat.
    Its functions: sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh
    log log2 log10 log1p exp expm1 sqrt abs floor ceil trunc round sign hypot fmod where min max
    clip saw tri square pulse cycle noise beat.
    """


@presets.command("list")
@voice
def list_presets() -> None:
    """List the presets that come with dreamflow, by family."""
    from dreamflow import preset

    shipped = preset.shipped()
    rows = [(f"  {each.name}", each.network, each.description) for each in shipped]
    lines = zip(shipped, _table(rows).splitlines(), strict=True)
    for family, members in itertools.groupby(lines, lambda line: line[0].family):
        write_out("\n".join([family, *(line for _, line in members)]))


@presets.command("show")
@click.argument("name", metavar="NAME|FILE")
@set_option
@voice
def show_preset(name: str, overrides: Sequence[str]) -> None:
    """Print a preset with every value spelled out, and where each comes from.

    The text is a preset: saved beside FILE, from where it names its files, it renders the same.
    """
    from dreamflow import preset

    write_out(preset.shown(name, overrides=overrides).rstrip())


@presets.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@voice
def check_presets(files: Sequence[str]) -> None:
    """Check presets: everything wrong in any of them is listed."""
    problems: list[str] = []
    for name in files:
        try:
            _check_preset(name)
            write_out(f"{printable(name)}: fine")
        except PresetError as error:
            problems += str(error).splitlines()
    if problems:
        raise PresetError("\n".join(problems))


def _check_preset(name: str) -> None:
    """Raise PresetError for what is wrong in a preset: files, curves, network, layers."""
    from dreamflow import preset

    loaded = preset.load(name)
    from dreamflow.render import check_names

    wrong: list[str] = []
    for check in (preset.check, check_names):
        try:
            check(loaded)
        except PresetError as error:
            wrong.append(str(error))
    if wrong:
        raise PresetError("\n".join(wrong))


@presets.command("sheet")
@click.option(
    *("--image", "source"), required=True, type=PATH, metavar="IN", help="The picture to dream."
)
@output_option
@click.option(
    *("--only", "names"), multiple=True, metavar="NAME|FILE", help="This preset; repeatable."
)
@computing_options
@voice
@click.pass_obj
def sheet_of_presets(
    interrupts: Interrupts, source: Path, target: str, names: Sequence[str], **options: Any
) -> None:
    """Dream the picture IN with every preset and put all on one labelled picture."""
    from dreamflow import sheets

    events = sheets.preset_sheet(source, Path(target), names or None, **_given(options))
    with closing(events), interrupts.patiently():
        for event in events:
            if sys.stderr.isatty():
                print(f"{event.done}/{event.total} {printable(event.name)}", file=sys.stderr)
            interrupts.check(f"stopped after {event.done} presets, {target} is not written")


@presets.command("plot")
@click.argument("name", metavar="NAME|FILE")
@output_option
@span_options
@click.option(
    *("--audio", "sound"),
    type=PATH,
    metavar="FILE",
    help="What `audio.*` in the preset listens to.  [default: the sound of CLIP]",
)
@set_option
@overwrite_option
@voice
def plot_preset(
    name: str,
    target: str,
    overrides: Sequence[str],
    sound: Path | None,
    overwrite: bool,
    **span: Any,
) -> None:
    """Draw the curves and layer weights of a preset over a render, as a picture."""
    from dreamflow import plots

    how = {"overrides": overrides, "sound": sound, "overwrite": overwrite}
    plots.plot_preset(name, Path(target), plots.Span(**span), **how)


@presets.command()
@click.option("--manifest", "of_manifests", is_flag=True, help="Of the manifests of batches.")
@voice
def schema(of_manifests: bool) -> None:
    """Print the JSON Schema of preset files, for editors."""
    from dreamflow import manifest, preset

    found = manifest.json_schema() if of_manifests else preset.json_schema()
    write_out(json.dumps(found, indent=2, ensure_ascii=False))


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(printable(line.rstrip()) for line in lines)
