"""What can be set, stage by stage: type, range, unit, default and one line of help each.

This one definition feeds the YAML checks, the command line, the JSON Schema and the documentation.
The classes hold plain numbers, so the numeric core takes them as they are; it never sees a curve.
Free of torch: `--help` and `presets list` import this and nothing heavy.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from dreamflow import classes


class Stage(BaseModel):
    """Base of all settings: unknown keys refused, nothing coerced, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def setting(default: Any, help: str, *, unit: str = "", moves: bool = False, **bounds: Any) -> Any:
    """A field with its line of help and its unit; `bounds` are pydantic's (ge, le, gt, ...).

    One that `moves` may be given as a curve (see `schedule`), so that it changes over a render.
    """
    extra: dict[str, Any] = {"unit": unit, "moves": True} if moves else {"unit": unit}
    return Field(default, description=help, json_schema_extra=extra, **bounds)


Ease = Literal["linear", "in", "out", "in-out", "hold", "spline"]
"""Ways from one key of a curve to the next (see `schedule`)."""
EASES: tuple[str, ...] = get_args(Ease)

Octaves = (
    Annotated[tuple[Annotated[int, Field(ge=0, le=15)], ...], Field(min_length=1)] | Literal["all"]
)


_WEIGHT = setting(
    1.0,
    "Share of this term in the sum; negative suppresses. A sum under 1 dreams less.",
    moves=True,
    ge=-100,
    le=100,
)
_EASE = setting("linear", "How the weight glides from key to key, if it is a curve.")
_OCTAVES = setting(
    "all", "Octaves it is dreamed in: 0 is the full size, 1 the next smaller one, and so on."
)

Target = Annotated[float, Field(ge=-1e6, le=1e6)] | None
_TARGET = setting(
    None,
    "Value that the score shall have, from above or below, instead of as much as it can; the dream "
    "stops growing there.",
)


class NamedClass(Stage):
    """A class of ImageNet, as what is dreamed, where it is dreamed, or as a stop of a cycle."""

    class_: str | Annotated[int, Field(ge=0, le=999)] = setting(
        ...,
        "Class to draw, instead of a layer: ImageNet's label such as `tabby`, or its number.",
        alias="class",
    )

    @field_validator("class_")
    @classmethod
    def _is_known(cls, name: str | int) -> str | int:
        classes.index(name)
        return name

    @property
    def index(self) -> int:
        """Its place among a network's class scores."""
        return classes.index(self.class_)

    @property
    def label(self) -> str:
        """ImageNet's label."""
        return classes.label(self.class_)


_INVERT = setting(False, "Everywhere but there.")


class ClassMask(NamedClass):
    """Where a class is seen."""

    class_: str | Annotated[int, Field(ge=0, le=999)] = setting(
        ...,
        "Where a class is seen, as by `dreamflow heatmap`: ImageNet's label or number. In clips "
        "the mask follows what moves, and is looked for again twice a second.",
        alias="class",
    )
    invert: bool = _INVERT

    @property
    def thing(self) -> str:
        """What tells it from other masks, inverted or not."""
        return f"class {self.index}"


class FileMask(Stage):
    """Where a file is white."""

    file: str = setting(
        ..., "Still, clip or numbered stills beside the preset: white dreams.", min_length=1
    )
    follow: bool = setting(
        False,
        "Whether a still, laid on the first frame of each shot, follows what it lies on there.",
    )
    invert: bool = _INVERT

    @property
    def thing(self) -> str:
        """What tells it from other masks, inverted or not."""
        return self.file + " followed" * self.follow


def _mask_tag(value: Any) -> str:
    """What a mask is meant as, whatever else is wrong with it."""
    if isinstance(value, ClassMask) or (isinstance(value, dict) and "class" in value):
        return "<class>"
    return "<file>" if isinstance(value, FileMask | dict) else "<text>"


AnyMask = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[ClassMask, Tag("<class>")]
    | Annotated[FileMask, Tag("<file>")],
    Discriminator(_mask_tag),
]
"""Where to dream; a text is the name of a file, or of one of `MOVING_MASKS`."""

MOVING_MASKS = ("luma", "motion")
"""Masks that are found in each frame."""


def mask_name(mask: AnyMask) -> str:
    """What tells a mask from others; empty for none."""
    return mask if isinstance(mask, str) else f"<{'not ' * mask.invert}{mask.thing}>"


class Weighted(Stage):
    """What all objectives have in common."""

    weight: float = _WEIGHT
    ease: Ease = _EASE
    octaves: Octaves = _OCTAVES
    network: str = setting(
        "", "Network it is of, if not the preset's; several can dream on one picture."
    )
    mask: AnyMask = setting(
        "",
        "Where it is dreamed: a grey still of the frame, or a clip frame by frame, beside the "
        "preset (white: in full), `luma` (where the frame is bright), `motion` (where a clip "
        "moves), or a mapping as below; empty for everywhere.",
    )

    @property
    def files(self) -> tuple[str, ...]:
        """The pictures and other files that it needs."""
        if isinstance(self.mask, str):
            return () if self.mask in ("", *MOVING_MASKS) else (self.mask,)
        return (self.mask.file,) if isinstance(self.mask, FileMask) else ()


class OneLayer(Stage):
    """What objectives of one layer have in common."""

    layer: str = setting(..., "Module name of the layer to amplify (see `dreamflow layers`).")

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it looks at."""
        return (self.layer,)

    @property
    def label(self) -> str:
        """What people call it."""
        return self.layer


class Objective(Weighted, OneLayer):
    """One term of what the dream is after: the energy of one layer."""

    norm: Literal["l2", "l1"] = setting(
        "l2", "What is summed up: squares, which favour what is strong, or absolute values."
    )


_CHANNEL = Annotated[int, Field(ge=0, le=65535)]


class ChannelObjective(Weighted, OneLayer):
    """One term: the mean of one channel of a layer."""

    channel: _CHANNEL = setting(..., "Channel of the layer, counted from 0.")
    target: Target = _TARGET

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.layer} channel {self.channel}"


class ChannelsObjective(Weighted, OneLayer):
    """One term: the mean of several channels of a layer."""

    channels: tuple[_CHANNEL, ...] = setting(
        ..., "Several channels of the layer, counted from 0.", min_length=1, max_length=4096
    )

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.layer} channels {', '.join(map(str, self.channels))}"


class NeuronObjective(Weighted, OneLayer):
    """One term: one channel of a layer at one place."""

    neuron: tuple[Annotated[float, Field(ge=0, le=65535)], ...] = setting(
        ...,
        "[channel, x, y]: a channel at a place, in fractions of the frame from its top left.",
        min_length=3,
        max_length=3,
    )
    target: Target = _TARGET

    @field_validator("neuron")
    @classmethod
    def _is_a_place(cls, neuron: tuple[float, ...]) -> tuple[float, ...]:
        channel, x, y = neuron
        if channel != int(channel) or max(x, y) > 1:
            raise ValueError(
                "must be [channel, x, y], a whole number and two fractions of the frame from 0 to "
                f"1, not [{channel:g}, {x:g}, {y:g}]"
            )
        return neuron

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.layer} channel {self.neuron[0]:g} at {self.neuron[1]:g}, {self.neuron[2]:g}"


class DirectionObjective(Weighted, OneLayer):
    """One term: how much of a direction there is in a layer's features."""

    direction: str | tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...] = setting(
        ...,
        "A direction among the layer's channels: one number for each, or a .npy or .safetensors "
        "file of them.",
    )
    cosine: float = setting(
        1.0,
        "Power of the cosine that it is multiplied with: 0 for the bare dot product.",
        moves=True,
        ge=0,
        le=8,
    )

    @property
    def files(self) -> tuple[str, ...]:
        """The pictures and other files that it needs."""
        own = (self.direction,) if isinstance(self.direction, str) else ()
        return own + super().files

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.layer} direction"


class GuideObjective(Weighted, OneLayer):
    """One term: features like those of another picture, wherever they fit best."""

    guide: str = setting(..., "Picture beside the preset whose shapes are dreamed.", min_length=1)

    @property
    def files(self) -> tuple[str, ...]:
        """The pictures and other files that it needs."""
        return (self.guide, *super().files)

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.layer} like {_stem(self.guide)}"


class StyleObjective(Weighted):
    """One term: the textures of another picture."""

    layer: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=16)] = setting(
        ..., "Layer, or list of layers, to look at."
    )
    style: str = setting(..., "Picture beside the preset whose textures are dreamed.", min_length=1)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it looks at."""
        return (self.layer,) if isinstance(self.layer, str) else self.layer

    @property
    def files(self) -> tuple[str, ...]:
        """The pictures and other files that it needs."""
        return (self.style, *super().files)

    @property
    def label(self) -> str:
        """What people call it."""
        return f"style of {_stem(self.style)}"


class ContentObjective(Weighted, OneLayer):
    """One term: the features of another picture, place by place."""

    content: str = setting(
        ..., "Picture beside the preset that is dreamed; its middle fills the frame.", min_length=1
    )

    @property
    def files(self) -> tuple[str, ...]:
        """The pictures and other files that it needs."""
        return (self.content, *super().files)

    @property
    def label(self) -> str:
        """What people call it."""
        return f"content of {_stem(self.content)}"


class EnhanceObjective(Weighted, OneLayer):
    """One term: the frame's own features, so many times as strong."""

    enhance: float = setting(
        ...,
        "How many times as strong the frame's own features shall become; under 1 wipes them out.",
        moves=True,
        ge=0,
        le=100,
    )

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.layer} enhanced"


class DiversityObjective(Weighted, OneLayer):
    """One term: pictures of one batch that differ from one another."""

    diversity: Literal[True] = setting(
        ..., "Pulls pictures that are dreamed together apart; one alone does not feel it."
    )

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.layer} diversity"


def _stem(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2].partition(".")[0]


class ClassObjective(Weighted, NamedClass):
    """One term of what the dream is after: the score of one class."""

    target: Target = _TARGET

    @property
    def layer(self) -> str:
        """The pseudo layer that its score is in."""
        return classes.LAYER

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it looks at."""
        return (self.layer,)


_KINDS = (
    *("class", "channel", "channels", "neuron", "direction"),
    *("guide", "style", "content", "enhance", "diversity"),
)
"""Keys that tell one kind of objective from the others; what has none is the energy of a layer."""

TAGS = frozenset(f"<{kind}>" for kind in ("layer", *_KINDS, "text", "file"))
"""pydantic's names for the arms of a choice, in its errors."""


def _tag(value: Any) -> str:
    """What an objective is meant as, whatever else is wrong with it: its first telling key."""
    if isinstance(value, Stage):
        names = {field.alias or name for name, field in type(value).model_fields.items()}
    else:
        names = set(value) if isinstance(value, dict) else set()
    return f"<{next((kind for kind in _KINDS if kind in names), 'layer')}>"


AnyObjective = Annotated[
    Annotated[Objective, Tag("<layer>")]
    | Annotated[ClassObjective, Tag("<class>")]
    | Annotated[ChannelObjective, Tag("<channel>")]
    | Annotated[ChannelsObjective, Tag("<channels>")]
    | Annotated[NeuronObjective, Tag("<neuron>")]
    | Annotated[DirectionObjective, Tag("<direction>")]
    | Annotated[GuideObjective, Tag("<guide>")]
    | Annotated[StyleObjective, Tag("<style>")]
    | Annotated[ContentObjective, Tag("<content>")]
    | Annotated[EnhanceObjective, Tag("<enhance>")]
    | Annotated[DiversityObjective, Tag("<diversity>")],
    Discriminator(_tag),
]
Stop = Annotated[
    Annotated[str, Tag("<layer>")] | Annotated[NamedClass, Tag("<class>")], Discriminator(_tag)
]
"""What a cycle tours: a layer's name or `class: NAME`."""


Time = (
    Annotated[
        str,
        Field(
            pattern=r"^([0-9]{1,9}f?|[0-9]{1,9}(\.[0-9]{1,9})?[s%])$", examples=["4s", "96f", "25%"]
        ),
    ]
    | Annotated[int, Field(ge=0, le=999_999_999)]
)
"""A stretch of the render in the units of a curve's keys; a plain number is frames."""


def split_time(time: str | int) -> tuple[str, str]:
    """Amount and unit of a `Time`: `f`, `s` or `%`."""
    amount, unit = str(time)[:-1], str(time)[-1]
    return (amount + unit, "f") if unit.isdecimal() else (amount, unit)


CutPlace = (
    Annotated[int, Field(ge=0, le=999_999_999)]
    | Annotated[
        str,
        Field(
            pattern=r"^([0-9]{1,9}f|[0-9]{1,9}(\.[0-9]{1,9})?s|([0-9]{1,3}:)?[0-9]{1,9}:[0-9]{1,2}(\.[0-9]{1,9})?)$",
            examples=["48f", "2.5s", "1:02.5"],
        ),
    ]
)
"""A frame of the clip, counted from its beginning whatever --start says, or a time there."""

Cuts = (
    Literal["auto", "adaptive", "content", "off"]
    | Annotated[tuple[CutPlace, ...], Field(min_length=1, max_length=10_000)]
)
"""Where shots begin: found by a detector (see `shots.DETECTORS`), nowhere, or in a list."""


class Cycle(Stage):
    """A tour of layers and classes: short for one objective each, that cross-fade in a ring."""

    cycle: tuple[Stop, ...] = setting(
        ...,
        "Layers, or `class: NAME`, to tour, each in full for a while; short for an objective each.",
        min_length=2,
        max_length=100,
    )
    every: Time = setting(..., "Time from one layer to the next.", unit="frames")
    fade: Time = setting(..., "The part of it that the next one takes to fade in.", unit="frames")
    weight: float = setting(
        1.0, "Share of the tour in the sum: a number or an expression.", moves=True, ge=-100, le=100
    )
    octaves: Octaves = setting("all", "Octaves it is dreamed in.")

    @field_validator("every")
    @classmethod
    def _takes_time(cls, every: str | int) -> str | int:
        if float(split_time(every)[0]) == 0:
            raise ValueError(f"must be longer than 0, not {every}")
        return every

    @field_validator("fade")
    @classmethod
    def _fits(cls, fade: str | int, info: ValidationInfo) -> str | int:
        every = info.data.get("every", fade)  # absent if it is wrong itself
        (length, unit), (least, wanted) = split_time(fade), split_time(every)
        if float(length) == 0:  # a hard change, in any unit
            return fade
        if unit != wanted:
            raise ValueError(f"must be in the unit of `every`, which is {every}, not {fade}")
        if float(length) > float(least):
            raise ValueError(f"must be no longer than `every`, which is {every}, not {fade}")
        return fade


class Dream(Stage):
    """The ascent: how a frame without a past is dreamed."""

    size: Annotated[int, Field(ge=16, le=16384)] | Literal["full"] = setting(
        768,
        "Long side at which flow and dream run, at most; `full` for the frame's own.",
        unit="px",
    )
    tile: Annotated[int, Field(ge=64, le=16384)] | Literal["auto", "off"] = setting(
        "auto",
        "Side of the tiles that a picture is dreamed in where memory is short; `auto` cuts what "
        "takes over 3 GB at once, `off` nothing.",
        unit="px",
    )
    octaves: int = setting(4, "Scales dreamed, from small to full.", ge=1, le=16)
    octave_scale: float = setting(
        1.4, "Ratio of one octave's side to the next.", moves=True, ge=1.05, le=4
    )
    steps: int = setting(10, "Ascent steps per octave.", moves=True, ge=0, le=1000)
    step_size: float = setting(
        2.5,
        "How far one step moves the average pixel.",
        unit="8-bit levels",
        moves=True,
        ge=0,
        le=64,
    )
    jitter: int = setting(
        16, "Largest random shift before each step.", unit="px", moves=True, ge=0, le=512
    )
    smoothing: float = setting(
        1.0, "Width of the gradient's blur; 0 for none.", unit="px", moves=True, ge=0, le=32
    )
    chroma: float = setting(
        0.42, "Share of the gradient's colour that is kept; 1 is neon.", moves=True, ge=0, le=2
    )
    spread: float = setting(
        0.6,
        "How evenly the dream covers the picture: 0 grows what is strong, 1 lifts the faint to it.",
        moves=True,
        ge=0,
        le=1,
    )
    limit: float = setting(
        4.0,
        "Cap on one gradient value, in mean absolute values; 0 for none.",
        moves=True,
        ge=0,
        le=1000,
    )

    optimizer: Literal["ascent", "adam", "lbfgs"] = setting(
        "ascent",
        "How steps are taken: along the gradient, by Adam, or by L-BFGS, which knows no jitter and "
        "no shaping of the gradient.",
    )
    start: Literal["source", "grey", "noise", "frequency"] = setting(
        "source",
        "What a still is dreamed from: itself, or nothing (grey; noise; noise with a photograph's "
        "spectrum and steps to match).",
    )
    robust: float = setting(
        0.0,
        "Turns and scales the picture at random before each step, as jitter shifts it: 1 is up to "
        "10 degrees and a tenth.",
        moves=True,
        ge=0,
        le=4,
    )


class Regularize(Stage):
    """What keeps the dream plausible: priors that pull against the objectives; 0 is none.

    A prior of 1 pulls about as hard as the objectives do, on a picture that offends against it.
    """

    total_variation: float = setting(
        0.0, "Pull towards flat areas with sharp borders.", moves=True, ge=0, le=10
    )
    l2_grey: float = setting(0.0, "Pull towards mid-grey.", moves=True, ge=0, le=10)
    l2_source: float = setting(
        0.0, "Pull towards the picture without the dream.", moves=True, ge=0, le=10
    )
    p_norm: float = setting(
        0.0,
        "Pull of the extremes away from black and white (6th power).",
        moves=True,
        ge=0,
        le=10,
    )
    spectrum: float = setting(
        0.0, "Pull towards the spectrum of photographs: less fine grain.", moves=True, ge=0, le=10
    )
    blur: float = setting(
        0.0, "Blur of what was dreamed, after each step.", unit="px", moves=True, ge=0, le=32
    )
    laplacian: float = setting(
        0.0,
        "How far the gradient's scales are brought to one strength.",
        unit="share",
        moves=True,
        ge=0,
        le=1,
    )
    decorrelate: float = setting(
        0.0,
        "How far colours are dreamed as photographs have them: more light and dark, less hue.",
        unit="share",
        moves=True,
        ge=0,
        le=1,
    )


class Follow(Stage):
    """How the last frame's dream is carried into the next one."""

    flow: Literal["dis", "farneback", "raft_small", "raft_large", "files", "none"] = setting(
        "dis",
        "Optical flow method; RAFT's weights are fetched on first use, `files` takes --flow-files.",
    )
    flow_quality: Literal["ultrafast", "fast", "medium", "fine"] = setting(
        "medium", "Effort of `dis`."
    )
    flow_size: Annotated[int, Field(ge=16, le=16384)] | Literal["full"] = setting(
        "full",
        "Long side at which flow is searched for, at most; `full` for that of the dream.",
        unit="px",
    )
    decay: float = setting(
        0.985,
        "Share of the carried dream kept from frame to frame.",
        unit="per frame at 30 fps",
        moves=True,
        ge=0,
        le=1,
    )
    octaves: int = setting(
        2, "Scales dreamed in a frame that starts from a carried dream.", ge=1, le=16
    )
    steps: int = setting(2, "Ascent steps per octave in such a frame.", moves=True, ge=0, le=1000)
    effort: float = setting(
        0.28, "Step size of such a frame, as a share of `dream.step_size`.", moves=True, ge=0, le=4
    )
    jitter: float = setting(
        1.0,
        "Random shifts in such a frame, as a share of `dream.jitter`: small ones stick better.",
        moves=True,
        ge=0,
        le=4,
    )
    smoothing: float = setting(
        1.0,
        "Blur of the gradient in such a frame, as a share of `dream.smoothing`.",
        moves=True,
        ge=0,
        le=16,
    )
    restart: float = setting(
        0.25,
        "A frame of which less can be followed is dreamed from scratch.",
        unit="share of the picture",
        moves=True,
        ge=0,
        le=1,
    )
    softness: float = setting(
        0.5, "Blur of the occlusion mask's edge.", unit="px", moves=True, ge=0, le=32
    )
    memory: float = setting(
        0.13,
        "Share taken from five frames ago, against errors that add up; 0 forgets what was hidden.",
        moves=True,
        ge=0,
        le=1,
    )
    catch_up: float = setting(
        1.0,
        "How much harder what was uncovered is dreamed, until it is as ripe as the rest.",
        unit="times",
        moves=True,
        ge=0,
        le=20,
    )
    ground: float = setting(
        3.0,
        "Size of the step that broad new ground, as a pan brings it in, gets in each of the "
        "coarser octaves, as a share of `dream.step_size`; 0 for none.",
        moves=True,
        ge=0,
        le=20,
    )
    settle: bool = setting(
        True, "Dream as much as gives an encoded film at least the strength of frames from scratch."
    )


class Camera(Stage):
    """How the picture moves from frame to frame (signs as Deforum's; see `camera`)."""

    zoom: float = setting(
        1.0,
        "Enlargement; over 1 dives in, under 1 draws back.",
        unit="per frame at 30 fps",
        moves=True,
        ge=0.5,
        le=2,
    )
    rotate: float = setting(
        0.0,
        "Turn; positive is counter-clockwise.",
        unit="degrees per frame at 30 fps",
        moves=True,
        ge=-180,
        le=180,
    )
    pan_x: float = setting(
        0.0,
        "Shift to the right.",
        unit="widths per frame at 30 fps",
        moves=True,
        ge=-1,
        le=1,
    )
    pan_y: float = setting(
        0.0,
        "Shift down.",
        unit="widths per frame at 30 fps",
        moves=True,
        ge=-1,
        le=1,
    )
    center_x: float = setting(
        0.5, "What zoom and turns leave in place.", unit="widths", moves=True, ge=-1, le=2
    )
    center_y: float = setting(
        0.5, "The same, from the top.", unit="heights", moves=True, ge=-1, le=2
    )
    shear: float = setting(
        0.0,
        "Slant of the uprights; positive leans the lower half to the right.",
        unit="per frame at 30 fps",
        moves=True,
        ge=-1,
        le=1,
    )
    tilt: float = setting(
        0.0,
        "Perspective: positive leans the top away.",
        unit="degrees per frame at 30 fps",
        moves=True,
        ge=-45,
        le=45,
    )
    turn: float = setting(
        0.0,
        "Perspective: positive leans the right side away.",
        unit="degrees per frame at 30 fps",
        moves=True,
        ge=-45,
        le=45,
    )
    border: Literal["reflect", "wrap", "replicate", "outpaint"] = setting(
        "reflect", "What comes in from outside; `outpaint` is fresh noise for the dream to fill."
    )


class Color(Stage):
    """What keeps the colours from burning out."""

    anchor: Literal["source", "running", "none"] = setting(
        "source",
        "Whose mean and spread of colour (CIELAB) the dream is pulled to: its source's (a zoom's "
        "seed), or in a zoom its own of a while ago.",
    )
    strength: float = setting(0.7, "Pull of a frame dreamed from scratch.", moves=True, ge=0, le=1)
    rate: float = setting(
        0.3,
        "Pull of a frame that starts from a carried dream.",
        unit="per frame at 30 fps",
        moves=True,
        ge=0,
        le=1,
    )
    contrast: float = setting(
        1.0, "Most spread of lightness, as a multiple of the anchor's.", moves=True, ge=0, le=8
    )
    saturation: float = setting(
        1.0, "Most spread of colour, as a multiple of the anchor's.", moves=True, ge=0, le=8
    )
    least_lightness: float = setting(
        0.0,
        "An anchor darker than this is lifted to it, in a zoom over the first seconds.",
        unit="L*, mean",
        moves=True,
        ge=0,
        le=100,
    )
    least_contrast: float = setting(
        0.0,
        "Spread of lightness that is allowed however flat the anchor is.",
        unit="L*",
        moves=True,
        ge=0,
        le=50,
    )
    least_saturation: float = setting(
        0.0,
        "Spread of colour that is allowed however grey the anchor is.",
        unit="a*, b*",
        moves=True,
        ge=0,
        le=50,
    )


class Feedback(Stage):
    """What keeps a picture alive that feeds on itself, frame after frame: zooms."""

    sharpen: float = setting(
        0.04,
        "Unsharp mask of 1 px that makes up for resampling; too much rings and grows.",
        unit="per frame at 30 fps",
        moves=True,
        ge=0,
        le=1,
    )
    noise: float = setting(
        0.003,
        "Fresh grain for the dream to grow on, as standard deviation.",
        unit="of full scale, per frame at 30 fps",
        moves=True,
        ge=0,
        le=1,
    )
    reseed: float = setting(
        0.0,
        "Share of the seed mixed in again.",
        unit="per frame at 30 fps",
        moves=True,
        ge=0,
        le=1,
    )


class Output(Stage):
    """How the result is encoded."""

    codec: Literal["auto", "h264", "h265", "vp9", "av1", "prores", "ffv1", "gif", "png"] = setting(
        "auto", "Codec; `auto` goes by the output's name."
    )
    crf: int = setting(
        15, "Quality of h264, h265, vp9 and av1; lower is better and larger.", ge=0, le=63
    )
    speed: Literal["ultrafast", "veryfast", "fast", "medium", "slow", "veryslow"] = setting(
        "medium", "Encoder effort: slower makes smaller files."
    )
    caption: bool = setting(
        False, "Write what has most weight, such as a class, at the foot of every frame."
    )
    threads: int = setting(2, "Encoder threads; fixed, since they change the picture.", ge=1, le=64)


def allowed(schema: dict[str, Any], unit: str = "") -> str:
    """What a setting's JSON Schema lets through, in words: `a whole number from 1 to 16 (px)`."""
    if "anyOf" in schema:
        if all("required" in arm for arm in schema["anyOf"]):  # kinds of mapping
            kinds = [" and ".join(arm["required"]) for arm in schema["anyOf"]]
            return f"a mapping with {', or '.join(kinds)}"
        return " or ".join(allowed(option, unit) for option in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "const" in schema:
        return repr(schema["const"])
    kind = schema["type"]
    if kind == "object":
        return f"a mapping with {', '.join(schema['properties'])}"
    if kind == "array":
        most = f"to {schema['maxItems']}" if "maxItems" in schema else "or more"
        return f"a list of {schema.get('minItems', 0)} {most}, each {allowed(schema['items'])}"
    if "examples" in schema:
        return f"{_NOUNS[kind]} such as {', '.join(schema['examples'])}"
    measure = f"({unit})" if unit and kind != "string" else ""
    return " ".join(filter(None, [_NOUNS[kind], limits(schema), measure]))


_NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "null": "null",
}


def limits(schema: dict[str, Any]) -> str:
    """The range of a number in words: `from 1 to 16`, `above 0`; empty if there is none."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"from {_short(low)} to {_short(high)}"
    words = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    return " and ".join(f"{word} {_short(schema[k])}" for k, word in words.items() if k in schema)


def _short(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
