"""Curves: settings that move over a render, as Deforum's keyframe strings, expressions or mappings.

    0:(1.02), 60:(1.02+0.01*sin(2*pi*t/30))     key: (number or expression), in order
    "0":1, "max_f/2":2, "max_f-1":1,            what else Deforum reads: see `_keyframes`
    {0: 1, 5s: 0.2, 50%: 3, ease: in-out}       the same as a mapping
    2.5 + sin(t/30)                             one expression for the whole render

Keys are output frames (`60` or `60f`), seconds (`5s`) or per cent of the render (`50%`). Between a
number and the next key the value glides; an expression is evaluated for every frame until the next
key. Expressions are numexpr's, as Deforum hands them to it, computed in float64: `%` has the sign
of its right side, comparisons do not chain, `& | ~` join comparisons.

Nothing is handed to Python: a parser of its own turns the text into a list of NumPy functions from
the tables below, so that no name outside them can be reached and every complaint has its column.

Names that begin with `audio.` are what the film's sound does (see `audio`): whoever evaluates a
curve that uses them gives their values along.
"""

import difflib
import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from dreamflow.errors import PresetError
from dreamflow.settings import EASES

Values = NDArray[np.float64]

SOUND_NAMES = (
    *("audio.rms", "audio.bass", "audio.mid", "audio.treble", "audio.onset", "audio.beat"),
)
"""What expressions may ask of the sound, each from 0 to 1."""

SoundCurves = Mapping[str, Values]
"""For each of `SOUND_NAMES` its value at every output frame."""

MAX_CHARACTERS = 10_000
MAX_KEYS = 1000
MAX_DEPTH = 40
"""How deep parentheses, calls, signs and powers may be nested."""
MAX_OPERATIONS = 500
"""How many operations one expression may have: it bounds the time a hostile preset takes."""


class CurveError(PresetError):
    """A curve is wrong. Where a text is at fault it follows, with a caret under the column."""

    def __init__(
        self, message: str, text: str = "", column: int = 0, entry: str | None = None
    ) -> None:
        super().__init__(f"{message}\n{_pointed_at(text, column)}" if text else message)
        self.column = column
        """Of the first character at fault in the text, from 1; 0 if it is about no text."""
        self.entry = entry
        """Key of the mapping entry at fault, if the curve is a mapping."""


def _pointed_at(text: str, column: int) -> str:
    """A stretch of the text around a column, and a caret under that."""
    begin = max(0, column - 50)
    shown = "".join(c if c.isprintable() else " " for c in text[begin : begin + 80])
    return f"  {shown}\n  {' ' * (column - 1 - begin)}^"


# ── what an expression may use ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Moment:
    """The frames an expression is evaluated for, and what it may ask of the render."""

    frames: Values
    frame_count: int
    fps: float
    seed: int
    sound: SoundCurves | None = None

    def variable(self, name: str) -> Any:
        match name:
            case "t":
                return self.frames
            case "s":
                return float(self.seed)
            case "max_f":
                return float(self.frame_count - 1)
            case "sec":
                return self.frames / self.fps
            case "fps":
                return self.fps
        return self.heard(name) if name in SOUND_NAMES else _CONSTANTS[name]

    def heard(self, name: str) -> Values:
        """The sound's curve at the frames; what lies outside it takes the value at that end."""
        if self.sound is None:
            raise ValueError(f"{name} is used: evaluate the curve with the sound's curves")
        curve = self.sound[name]
        return curve[np.clip(self.frames.astype(np.int64), 0, curve.size - 1)]


_CONSTANTS = {"pi": math.pi, "e": math.e}
_VARIABLES = ("t", "s", "max_f", "sec", "fps", *_CONSTANTS)


def _saw(x: Any) -> Any:
    return x - np.floor(x)


def _tri(x: Any) -> Any:
    return 1 - np.abs(2 * _saw(x) - 1)


def _pulse(x: Any, width: Any) -> Any:
    return np.less(_saw(x), width).astype(np.float64)


def _beat(moment: _Moment, bpm: Any) -> Any:
    """1 on every beat, falling to 0 until the next one."""
    return 1 - _saw(moment.variable("sec") * bpm / 60)


def _noise(moment: _Moment, x: Any) -> Any:
    """Smooth value noise in 0..1: seeded random numbers at the integers, eased in between."""
    cell, place = np.floor(x), _saw(x)
    left, right = _lottery(cell, moment.seed), _lottery(cell + 1, moment.seed)
    return left + (right - left) * place * place * (3 - 2 * place)


def _lottery(numbers: Any, seed: int) -> Any:
    """A number in 0..1 for each integer: the mixing function of SplitMix64 (Steele et al. 2014)."""
    finite = np.where(np.isfinite(numbers), numbers, 0)
    bits = np.atleast_1d(np.fmod(finite, 2**31)).astype(np.int64).astype(np.uint64)
    bits = (bits + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return (bits >> np.uint64(11)).astype(np.float64) / 2**53


def _modulo(x: Any, y: Any) -> Any:
    """As numexpr has it; `np.mod` differs by one `y` where `x / y` is whole but for rounding."""
    return x - np.floor(x / y) * y


def _cycle(turns: Any, place: Any, count: Any, fade: Any) -> Any:
    """Weight of the one at `place`, from 0, of `count` that take turns; all together give 1.

    Each has its turn in full when `turns` comes to its place, and hands over in the last `fade`
    (0..1) of the turn.
    """
    # Rounded, so that weights that ought to be nought are.
    since = np.fmod(np.round(_saw((turns - place + fade) / count) * count, 9), count)
    share = np.minimum(np.maximum(np.minimum(since, 1 + fade - since) / fade, 0), 1)
    return np.where(fade == 0, since < 1, share * share * (3 - 2 * share))


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return np.where(np.asarray(condition) != 0, yes, no)


class _Function(NamedTuple):
    """A function of expressions; one that is `timely` gets the moment as its first argument."""

    compute: Callable[..., Any]
    least: int = 1
    most: int = 1
    timely: bool = False


_MANY = 100

_ALIKE = (
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh"),
    *("arccosh", "arctanh", "log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs"),
    *("floor", "ceil", "trunc", "sign"),
)
"""Functions of one value that NumPy calls by the same name."""

_FUNCTIONS: dict[str, _Function] = {
    **{name: _Function(getattr(np, name)) for name in _ALIKE},
    "round": _Function(np.rint),
    "arctan2": _Function(np.arctan2, 2, 2),
    "hypot": _Function(np.hypot, 2, 2),
    "fmod": _Function(np.fmod, 2, 2),
    "where": _Function(_where, 3, 3),
    "min": _Function(lambda *all: functools.reduce(np.minimum, all), 2, _MANY),
    "max": _Function(lambda *all: functools.reduce(np.maximum, all), 2, _MANY),
    "clip": _Function(lambda x, low, high: np.minimum(np.maximum(x, low), high), 3, 3),
    "saw": _Function(_saw),
    "tri": _Function(_tri),
    "square": _Function(lambda x: _pulse(x, 0.5)),
    "pulse": _Function(_pulse, 2, 2),
    "cycle": _Function(_cycle, 4, 4),
    "noise": _Function(_noise, timely=True),
    "beat": _Function(_beat, timely=True),
}
"""The waves have period 1 and go from 0 to 1: `saw(t/30)` rises over 30 frames."""

FUNCTION_NAMES = tuple(_FUNCTIONS)
"""All that an expression may call."""


class _Operator(NamedTuple):
    """A binary operator: how strongly it binds, as in Python, and what it takes and gives."""

    compute: Callable[..., Any]
    binding: int
    takes_truth: bool = False
    gives_truth: bool = False


_OPERATORS: dict[str, _Operator] = {
    "|": _Operator(np.logical_or, 2, True, True),
    "&": _Operator(np.logical_and, 3, True, True),
    "+": _Operator(np.add, 4),
    "-": _Operator(np.subtract, 4),
    "*": _Operator(np.multiply, 5),
    "/": _Operator(np.true_divide, 5),
    "//": _Operator(np.floor_divide, 5),
    "%": _Operator(_modulo, 5),
    "**": _Operator(np.power, 7),
    "<": _Operator(np.less, 1, gives_truth=True),
    "<=": _Operator(np.less_equal, 1, gives_truth=True),
    ">": _Operator(np.greater, 1, gives_truth=True),
    ">=": _Operator(np.greater_equal, 1, gives_truth=True),
    "==": _Operator(np.equal, 1, gives_truth=True),
    "!=": _Operator(np.not_equal, 1, gives_truth=True),
}
_COMPARISON, _SIGN, _POWER = 1, 6, 7


# ── expressions ──────────────────────────────────────────────────────────────────────────────────


class _Step(NamedTuple):
    """One step of a program that works on a stack: it takes `takes` values and puts one."""

    compute: Callable[..., Any]
    takes: int
    column: int
    timely: bool = False


@dataclass(frozen=True)
class Expression:
    """A compiled expression."""

    text: str
    """The whole text it stands in, for messages."""
    column: int
    """Where it begins in that, from 1."""
    end: int
    """Behind which column it ends."""
    program: tuple[_Step, ...]
    names: frozenset[str]
    """The variables and functions it uses."""
    number: float | None
    """Its value if it is nothing but a number, which glides to the next key."""

    @property
    def written(self) -> str:
        """The expression alone."""
        return self.text[self.column - 1 : self.end].strip()

    @property
    def pointed_at(self) -> str:
        """The text it stands in with a caret under it, for messages."""
        return _pointed_at(self.text, self.column)

    @property
    def uses_sound(self) -> bool:
        return not self.names.isdisjoint(SOUND_NAMES)

    def over(self, moment: _Moment) -> Values:
        """Its value for every frame of the moment. Raises CurveError for one that is not finite."""
        with np.errstate(all="ignore"):
            result = self._run(moment, self.program)
        bad = np.flatnonzero(~np.isfinite(result))
        if bad.size:
            self._refuse(moment, int(bad[0]), float(result[bad[0]]))
        return result

    def _run(self, moment: _Moment, program: tuple[_Step, ...]) -> Values:
        stack: list[Any] = []
        for step in program:
            first = len(stack) - step.takes
            arguments = [np.asarray(value, np.float64) for value in stack[first:]]
            stack[first:] = [step.compute(*([moment] if step.timely else []), *arguments)]
        return np.broadcast_to(np.asarray(stack[-1], np.float64), moment.frames.shape)

    def _refuse(self, moment: _Moment, index: int, value: float) -> NoReturn:
        """Point at the first step that left the finite numbers at that frame."""
        frames = moment.frames[index : index + 1]
        single = replace(moment, frames=frames)
        column = self.column
        with np.errstate(all="ignore"):
            for end, step in enumerate(self.program, 1):
                if not np.isfinite(self._run(single, self.program[:end])).all():
                    column = step.column
                    break
        what = "not a number" if math.isnan(value) else "infinite"
        raise CurveError(f"is {what} at frame {int(frames[0])}", self.text, column)


_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TOKEN = re.compile(
    rf"(?P<number>{_NUMBER.pattern})|(?P<name>audio\.[A-Za-z_0-9]*|[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<sign>\*\*|//|<=|>=|==|!=|[-+*/%<>&|~(),])"
)
_SPACE = re.compile(r"[ \t\r\n]*")


class _Parser:
    """Reads expressions by operator precedence, and notes each operation after what it works on."""

    def __init__(self, text: str, position: int = 0) -> None:
        self.text = text
        self.position = position
        self.begin()

    def begin(self) -> None:
        """Start a new program where the parser stands."""
        self.program: list[_Step] = []
        self.names: set[str] = set()
        self.depth = 0
        self.skip_space()
        self.start = self.position

    def fail(self, message: str, position: int | None = None) -> NoReturn:
        at = self.position if position is None else position
        raise CurveError(message, self.text, at + 1)

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.position)
        self.position = match.end() if match else self.position

    def remains(self) -> bool:
        """Whether there is more of the text than space."""
        self.skip_space()
        return self.position < len(self.text)

    def peek(self) -> tuple[str, str]:
        """Kind and text of the next token; both empty where there is none."""
        self.skip_space()
        match = _TOKEN.match(self.text, self.position)
        return (str(match.lastgroup), match[0]) if match else ("", "")

    def take(self, sign: str) -> None:
        self.skip_space()
        if not self.text.startswith(sign, self.position):
            self.fail(f"here should be {sign!r}{self.found()}")
        self.position += len(sign)

    def found(self) -> str:
        """What stands here instead, for messages."""
        here = self.peek()[1] or self.text[self.position : self.position + 1]
        return f", not {here[:30]!r}" if here else ", not the end"

    def put(self, compute: Callable[..., Any], takes: int, at: int, timely: bool = False) -> None:
        if len(self.program) == MAX_OPERATIONS:
            self.fail(f"an expression has {MAX_OPERATIONS} operations at most", at)
        self.program.append(_Step(compute, takes, at + 1, timely))

    def expression(self) -> Expression:
        """The expression that begins where the parser stands, up to what does not belong to it."""
        self.begin()
        self.operation(0)
        program = tuple(self.program)
        names, number = frozenset(self.names), _number_of(program)
        return Expression(self.text, self.start + 1, self.position, program, names, number)

    def operation(self, binding: int) -> bool:
        """One operand and all operators that bind it more strongly; whether it is a truth."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} levels deep")
        truth = self.operand()
        while (operator := _OPERATORS.get(self.peek()[1])) and operator.binding > binding:
            truth = self.operator(operator, truth)
            if operator.binding == _COMPARISON:
                binding = _COMPARISON
                self.refuse_chain()
        self.depth -= 1
        return truth

    def operator(self, operator: _Operator, left: bool) -> bool:
        at, sign = self.position, self.peek()[1]
        self.position += len(sign)
        # A power binds from the right, and less than a sign that follows it: 2 ** -1.
        right = self.operation(_SIGN - 1 if operator.binding == _POWER else operator.binding)
        if operator.takes_truth and not (left and right):
            self.fail(f"{sign!r} joins comparisons, as in (t > 3) {sign} (t < 9)", at)
        if sign == "+" and left and right:  # numexpr's booleans: 1 + 1 is 1
            operator = _OPERATORS["|"]
        self.put(operator.compute, 2, at)
        return operator.gives_truth

    def refuse_chain(self) -> None:
        operator = _OPERATORS.get(self.peek()[1])
        if operator and operator.binding == _COMPARISON:
            self.fail("comparisons do not chain; write (0 < t) & (t < 9)")

    def operand(self) -> bool:
        kind, text = self.peek()
        at = self.position
        self.position += len(text)
        if kind == "number":
            self.number(text, at)
        elif kind == "name":
            self.name(text, at)
        elif text == "(":
            truth = self.operation(0)
            self.take(")")
            return truth
        elif text in ("-", "+"):
            self.operation(_SIGN)
            self.put(np.negative if text == "-" else np.positive, 1, at)
        elif text == "~":
            if not self.operation(_SIGN):
                self.fail("'~' turns a comparison round, as in ~(t > 3)", at)
            self.put(np.logical_not, 1, at)
            return True
        else:
            self.position = at
            self.fail(f"here should be a number, a name or '('{self.found()}")
        return False

    def number(self, text: str, at: int) -> None:
        value = float(text)
        if not math.isfinite(value):
            self.fail("the number is too large", at)
        self.put(lambda: value, 0, at)

    def name(self, name: str, at: int) -> None:
        self.names.add(name)
        if self.peek()[1] == "(":
            self.call(name, at)
        elif name in _VARIABLES or name in SOUND_NAMES:
            self.put(lambda moment: moment.variable(name), 0, at, timely=True)
        elif name in _FUNCTIONS:
            self.fail(f"{name!r} is a function; write {name}(...)", at)
        elif name == "audio" or name.startswith("audio."):
            self.fail(_unknown_sound(name), at)
        else:
            self.fail(_unknown_name(name), at)

    def call(self, name: str, at: int) -> None:
        function = _FUNCTIONS.get(name)
        if function is None:
            self.fail(_unknown_function(name), at)
        count = self.arguments()
        if not function.least <= count <= function.most:
            wanted = f"{function.least}{' or more' if function.most == _MANY else ''}"
            self.fail(f"{name}() takes {wanted} value{'s' * (wanted != '1')}, not {count}", at)
        self.put(function.compute, count, at, function.timely)

    def arguments(self) -> int:
        """The values in parentheses, separated by commas; how many they are."""
        self.take("(")
        count = 0
        while self.peek()[1] != ")" or count:
            self.operation(0)
            count += 1
            if self.peek()[1] == ")":
                break
            self.take(",")
        self.take(")")
        return count


def _number_of(program: tuple[_Step, ...]) -> float | None:
    """The value of a program that is one number, signed or not, else None."""
    if program[0].takes or program[0].timely:
        return None
    value = program[0].compute()
    for step in program[1:]:
        if step.compute not in (np.negative, np.positive):
            return None
        value = step.compute(value)
    return float(value)


def _unknown_name(name: str) -> str:
    near = difflib.get_close_matches(name[:100], (*_VARIABLES, *FUNCTION_NAMES), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(_VARIABLES)}"
    return f"unknown name {name[:40]!r} ({hint})"


def _unknown_function(name: str) -> str:
    near = difflib.get_close_matches(name[:100], FUNCTION_NAMES, n=1)
    if near:
        return f"unknown function {name[:40]!r} (did you mean {near[0]!r}?)"
    nearest = difflib.get_close_matches(name[:100], FUNCTION_NAMES, n=3, cutoff=0)
    listed = "`dreamflow presets --help` lists all"
    return f"unknown function {name[:40]!r} (nearest: {', '.join(nearest)}; {listed})"


def _unknown_sound(name: str) -> str:
    known = {known.removeprefix("audio."): known for known in SOUND_NAMES}
    near = difflib.get_close_matches(name[:100].removeprefix("audio."), known, n=1)
    hint = f"did you mean {known[near[0]]!r}? " if near else ""
    return f"unknown name {name[:40]!r} ({hint}allowed: {', '.join(SOUND_NAMES)})"


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────

_KEY = re.compile(r"[ \t\r\n]*([0-9]+(?:\.[0-9]+)?)([fs%]?)[ \t\r\n]*")
_MAX_KEY = 1e9


class _Time(NamedTuple):
    """When a key is: a number of frames, of seconds or of per cent, or an expression in frames."""

    amount: float
    unit: str = ""
    formula: Expression | None = None

    def frame(self, moment: _Moment) -> int:
        """In the render of that moment; a formula's fraction is cut off, as Deforum does."""
        if self.formula is not None:
            return _whole_frame(self.formula, moment)
        if self.unit == "s":
            return round(self.amount * moment.fps)
        if self.unit == "%":
            return round(self.amount / 100 * (moment.frame_count - 1))
        return int(self.amount)


def _whole_frame(formula: Expression, moment: _Moment) -> int:
    """What a key's formula says; it may lie before the first frame, in a short render."""
    frame = float(formula.over(replace(moment, frames=np.zeros(1)))[0])
    if abs(frame) > _MAX_KEY:
        raise CurveError("the key is too large", formula.text, formula.column)
    return int(frame)


class _Key(NamedTuple):
    """An expression, and from when on it counts."""

    time: _Time
    expression: Expression
    entry: str | None = None
    """As it was written, if the curve is a mapping."""

    def over(self, moment: _Moment) -> Values:
        """Its expression's value for every frame; a CurveError names the entry."""
        try:
            return self.expression.over(moment)
        except CurveError as error:
            error.entry = self.entry
            raise


@dataclass(frozen=True)
class Curve:
    """A setting over the frames of a render; two are equal if they were written alike."""

    source: str | dict[str, str | float]
    """As it was written: a text, or a mapping of keys to texts and numbers, and `ease`."""
    keys: tuple[_Key, ...] = field(compare=False, repr=False)
    ease: str = field(default="linear", compare=False, repr=False)

    @property
    def sound_expression(self) -> str | None:
        """The first of its expressions that asks for the sound; None if all do without."""
        found = (key.expression for key in self.keys if key.expression.uses_sound)
        return next((expression.written for expression in found), None)

    def over(
        self, frame_count: int, fps: float, seed: int = 0, sound: SoundCurves | None = None
    ) -> Values:
        """Its value at each output frame of a render of that length and rate.

        `sound` holds what `audio.*` stands for; without it a curve that asks for that raises
        ValueError. Keys of different units are taken in the order in which they come in this
        render; before the first its value holds. Raises CurveError for a frame whose value is not
        finite.
        """
        render = {"frame_count": frame_count, "fps": fps, "seed": seed, "sound": sound}
        moment = functools.partial(_Moment, **render)
        keys = list(zip(self.starts(frame_count, fps, seed), self.keys, strict=True))
        keys.sort(key=lambda pair: pair[0])
        points = [(start, _value_at(start, key, moment)) for start, key in keys]
        slopes = _slopes(points) if self.ease == "spline" else []
        values = np.full(frame_count, points[0][1])
        ends = [start for start, _ in keys[1:]] + [frame_count]
        for index, ((start, key), end) in enumerate(zip(keys, ends, strict=True)):
            first = max(start, 0)
            frames = np.arange(first, min(end, frame_count), dtype=np.float64)
            if not frames.size:
                continue
            between = slice(index, index + 2)
            if key.expression.number is None:
                part = key.over(moment(frames))
            else:
                part = self._glide(frames, points[between], slopes[between])
            values[first : first + frames.size] = part
        return values

    def starts(self, frame_count: int, fps: float, seed: int = 0) -> list[int]:
        """The output frame at which each of `keys` stands, which may be outside the render."""
        moment = _Moment(np.zeros(1), frame_count, fps, seed)
        return [key.time.frame(moment) for key in self.keys]

    def last_key(self, fps: float) -> int:
        """Frame of its last key among those that no render's length moves; 0 if there is none."""
        moment = _Moment(np.zeros(1), 1, fps, 0)
        times = (key.time for key in self.keys)
        fixed = (time for time in times if time.formula is None and time.unit != "%")
        return max((time.frame(moment) for time in fixed), default=0)

    def _glide(
        self, frames: Values, ends: list[tuple[int, float]], slopes: list[float]
    ) -> Values | float:
        """From one (frame, value) to the next by the curve's easing; the last one holds."""
        if len(ends) == 1:
            return ends[0][1]
        (start, low), (stop, high) = ends
        length = stop - start
        u = (frames - start) / length
        match self.ease:
            case "hold":
                return low
            case "in":
                u = u * u
            case "out":
                u = 1 - (1 - u) ** 2
            case "in-out":
                u = u * u * (3 - 2 * u)
            case "spline":
                bend = slopes[0] * (1 - u) - slopes[1] * u
                bend = (bend * length + (high - low) * (2 * u - 1)) * u * (1 - u)
                return low + (high - low) * u + bend
        return low + (high - low) * u


def _value_at(frame: int, key: _Key, moment: Any) -> float:
    if key.expression.number is not None:
        return key.expression.number
    return float(key.over(moment(np.array([frame], np.float64)))[0])


def _slopes(points: list[tuple[int, float]]) -> list[float]:
    """Slope per frame of a smooth line at each point (Fritsch & Butland 1984).

    The harmonic mean of the slopes on both sides, 0 at a turn: the line never overshoots a key, so
    that what lies in a setting's range at the keys does so in between.
    """
    pairs = itertools.pairwise(points)
    steps = [(high - low) / max(1, stop - start) for (start, low), (stop, high) in pairs]
    neighbours = itertools.pairwise(steps)
    inner = [2 * a * b / (a + b) if a * b > 0 else 0.0 for a, b in neighbours]
    return [0.0, *inner, 0.0]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def parse(source: float | str | Mapping[Any, Any], ease: str = "linear") -> Curve:
    """A curve from a number, a text or a mapping of keys to numbers and texts.

    `ease` counts unless the mapping has one of its own. Raises CurveError, with a caret under the
    column of a text.
    """
    if isinstance(source, Mapping):
        return _from_mapping({str(key): value for key, value in source.items()}, ease)
    text = source if isinstance(source, str) else repr(source)
    if len(text) > MAX_CHARACTERS:
        message = f"{len(text)} characters; at most {MAX_CHARACTERS} are read"
        raise CurveError(message, text, MAX_CHARACTERS + 1)
    parser = _Parser(text)
    keys = _keyframes(parser) if _has_keys(text) else [_Key(_Time(0), parser.expression())]
    if parser.remains():
        parser.fail(f"here should be an operator or the end{parser.found()}")
    return _checked(Curve(text, tuple(keys), ease))


_CLOCK = re.compile(r"[0-9.\s]+(?::[0-9.\s]+)+")


def _has_keys(text: str) -> bool:
    """No expression has a colon; `1:30` is rather meant as a time than as a key and its value."""
    return ":" in text and not _CLOCK.fullmatch(text)


def _keyframes(parser: _Parser) -> list[_Key]:
    """`0:(1), 60:(2)`: keys in order, each with its value, commas between.

    As Deforum does, it takes keys in quotes, keys that are expressions of `max_f` (which are put in
    order once that is known), values without parentheses and a comma behind the last one.
    """
    keys: list[_Key] = []
    last: dict[str, float] = {}
    while parser.remains() or not keys:
        at = parser.position
        if len(keys) == MAX_KEYS:
            parser.fail(f"a curve has {MAX_KEYS} keys at most")
        time = _time_at(parser)
        if time.formula is None:
            if last.get(time.unit, -1) >= time.amount:
                parser.fail("keys must come in order, each later than the one before", at)
            last[time.unit] = time.amount
        parser.take(":")
        keys.append(_Key(time, _value(parser)))
        if parser.remains():
            parser.take(",")
    return keys


def _time_at(parser: _Parser) -> _Time:
    """The key that stands here, in quotes or not."""
    quote = parser.text[parser.position : parser.position + 1]
    if quote not in ("'", '"'):
        return _bare_time_at(parser)
    parser.position += 1
    time = _bare_time_at(parser)
    parser.take(quote)
    return time


_KEY_END = re.compile(r"['\"]?\s*:")
_KEY_NAMES = frozenset({"max_f", "s", "fps", *_CONSTANTS, *_FUNCTIONS}) - {"beat", "noise"}


def _bare_time_at(parser: _Parser) -> _Time:
    match = _KEY.match(parser.text, parser.position)
    if match and _KEY_END.match(parser.text, match.end()):
        try:
            time = _time(match)
        except ValueError as error:
            parser.fail(str(error))
        parser.position = match.end()
        return time
    if parser.peek()[0] not in ("number", "name") and parser.peek()[1] not in ("(", "-", "+"):
        parser.fail(f"here should be a key: a frame (60), seconds (5s) or 50%{parser.found()}")
    formula = parser.expression()
    if not formula.names <= _KEY_NAMES:
        name = min(formula.names - _KEY_NAMES)
        parser.fail(f"a key may depend on max_f, s and fps, not on {name}", formula.column - 1)
    return _Time(0, formula=formula)


def _value(parser: _Parser) -> Expression:
    """A key's expression, commonly in parentheses, which then are no part of it."""
    parser.skip_space()
    begin = parser.position
    if parser.peek()[1] == "(":
        parser.position += 1
        expression = parser.expression()
        parser.take(")")
        if parser.peek()[1] in ("", ","):
            return expression
        parser.position = begin  # as in (1+2)*3
    return parser.expression()


def _time(match: re.Match[str]) -> _Time:
    """A key that is written as a number; frames have the empty unit."""
    amount, unit = float(match[1]), match[2].replace("f", "")
    if not unit and "." in match[1]:
        raise ValueError("a key in frames is a whole number; seconds are written 2.5s")
    if amount > (100 if unit == "%" else _MAX_KEY):
        raise ValueError("the key is too large")
    return _Time(amount, unit)


def _from_mapping(source: dict[str, Any], ease: str) -> Curve:
    ease = source.get("ease", ease)
    if ease not in EASES:
        allowed = ", ".join(EASES)
        raise CurveError(f"ease must be one of {allowed}, not {str(ease)[:40]!r}", entry="ease")
    length = sum(len(str(value)) for value in source.values())
    if length > MAX_CHARACTERS:
        raise CurveError(f"{length} characters; at most {MAX_CHARACTERS} are read")
    if len(source) > MAX_KEYS + 1:
        raise CurveError(f"a curve has {MAX_KEYS} keys at most, not {len(source)}")
    keys = [_entry(key, value) for key, value in source.items() if key != "ease"]
    if not keys:
        raise CurveError("a curve has at least one key, as in {0: 1, 5s: 2}")
    for unit in ("", "s", "%"):  # in whatever order they stand: a mapping has none
        amounts = [key.time.amount for key in keys if key.time.unit == unit]
        if len(set(amounts)) < len(amounts):
            raise CurveError("two keys for the same time")
    return _checked(Curve(source, tuple(keys), ease))


def _entry(key: str, value: Any) -> _Key:
    """One key of a mapping with its value."""
    match = _KEY.fullmatch(key[:100])
    if not match:
        wanted = "a key must be a frame (60), seconds (5s), 50% or ease"
        raise CurveError(f"{wanted}, not {key[:40]!r}", entry=key)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise CurveError("must be a number or an expression", entry=key)
    if not isinstance(value, str) and not abs(value) <= 1e300:
        raise CurveError("must be a finite number", entry=key)
    try:
        time = _time(match)
        curve = parse(value)
    except ValueError as error:
        raise CurveError(str(error), entry=key) from None
    except CurveError as error:
        error.entry = key
        raise
    if isinstance(value, str) and _has_keys(value):
        raise CurveError("a key has one number or expression, not keys of its own", entry=key)
    return _Key(time, curve.keys[0].expression, key)


_KNOWN_LATE = frozenset({"max_f", "sec", "fps", "beat", *SOUND_NAMES})
"""Names whose values depend on the render and not on the frame alone."""


def _checked(curve: Curve) -> Curve:
    """Try what is known before a render, so that `t/0` is refused where it is written.

    An expression that asks for nothing but the frame, at a key in frames, is evaluated there.
    """
    for key in curve.keys:
        late = key.time.unit or key.time.formula
        if not late and key.expression.names.isdisjoint(_KNOWN_LATE):
            frames = np.array([key.time.amount])
            key.expression.over(_Moment(frames, 2, 1.0, 0))
    return curve
