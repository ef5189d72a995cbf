"""Curves: what is read, what comes out, what is refused, and that nothing is ever executed."""

import math
import time
from contextlib import suppress

import numexpr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watched import LOOSER, TARGET_SECONDS, harmless

from dreamflow.errors import PresetError
from dreamflow.schedule import (
    EASES,
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_KEYS,
    MAX_OPERATIONS,
    SOUND_NAMES,
    CurveError,
    parse,
)

T = np.arange(100.0)


def over(source, frame_count=100, fps=30.0, seed=0):
    return parse(source).over(frame_count, fps, seed)


def refusal(source):
    with pytest.raises(CurveError) as caught:
        parse(source)
    assert isinstance(caught.value, PresetError)
    return caught.value


# ── sound ──


SOUND = {name: np.linspace(0, 1, 100) ** power for power, name in enumerate(SOUND_NAMES, 1)}


def test_the_sounds_curves_are_values_like_any_other():
    curve = parse("2 + 3*audio.bass - max(audio.beat, 0.5)")
    expected = 2 + 3 * SOUND["audio.bass"] - np.maximum(SOUND["audio.beat"], 0.5)
    np.testing.assert_array_equal(curve.over(100, 30.0, sound=SOUND), expected)


def test_a_key_with_sound_takes_that_keys_frames_and_the_last_one_holds_behind_the_end():
    values = parse("0:(0), 50:(audio.rms), 150:(audio.rms)").over(100, 30.0, sound=SOUND)
    np.testing.assert_allclose(values[:51], np.linspace(0, SOUND["audio.rms"][50], 51))
    np.testing.assert_array_equal(values[50:], SOUND["audio.rms"][50:])


@pytest.mark.parametrize(
    ("source", "expression"),
    [
        ("t + audio.mid", "t + audio.mid"),
        ("0:(1), 5s:( 2*(audio.onset) ), 9s:(audio.rms)", "2*(audio.onset)"),
        ({0: 1, "50%": "1 - audio.beat "}, "1 - audio.beat"),
        ("0:(1), 5s:(beat(120))", None),
        (3, None),
    ],
)
def test_a_curve_tells_which_expression_needs_the_sound(source, expression):
    assert parse(source).sound_expression == expression


def test_a_curve_that_needs_the_sound_is_not_evaluated_without():
    with pytest.raises(ValueError, match=r"audio\.bass"):
        over("audio.bass")


def test_an_expression_of_the_sound_that_leaves_the_numbers_is_refused_with_its_frame():
    with pytest.raises(CurveError, match=r"infinite at frame 0\n  1/audio\.rms\n   \^"):
        parse("1/audio.rms").over(100, 30.0, sound=SOUND)


@pytest.mark.parametrize(
    ("text", "column", "nearest"),
    [("1 + audio.bas", 5, "audio.bass"), ("audio.", 1, None), ("audio", 1, None),
     ("audio.Beat", 1, "audio.beat"), ("audio.rms.real", 10, None)],
)  # fmt: skip
def test_an_unknown_name_of_the_sound_is_answered_with_all_there_are(text, column, nearest):
    error = refusal(text)
    assert error.column == column
    if column < 10:
        assert f"allowed: {', '.join(SOUND_NAMES)})" in str(error)
    assert ("did you mean" in str(error)) == (nearest is not None)
    assert nearest is None or f"did you mean {nearest!r}" in str(error)


# ── keyframes ──


def test_deforums_default_zoom_is_its_formula():
    values = over("0: (1.0025+0.002*sin(1.25*3.14*t/30))")
    np.testing.assert_array_equal(values, 1.0025 + 0.002 * np.sin(1.25 * 3.14 * T / 30))


def test_deforums_default_strength_is_constant():
    assert set(over("0:(0.65)")) == {0.65}


def test_numbers_are_joined_by_straight_lines_and_the_last_holds():
    values = over("0:(0), 30:(10), 60:(0)")
    np.testing.assert_allclose(values[:31], np.linspace(0, 10, 31))
    np.testing.assert_allclose(values[30:61], np.linspace(10, 0, 31))
    assert not values[60:].any()


def test_an_expression_holds_until_the_next_key_and_a_number_glides_to_it():
    values = over("0:(1), 10:(t), 20:(5)")
    np.testing.assert_allclose(values[:11], np.linspace(1, 10, 11))
    np.testing.assert_array_equal(values[10:20], T[10:20])
    assert (values[20:] == 5).all()


def test_the_first_value_holds_before_its_key():
    assert (over("40:(t)")[:41] == 40).all()


@pytest.mark.parametrize("source", [2.5, "2.5", " (2.5) ", "0:(2.5)", {0: 2.5}, {"0": "5/2"}])
def test_a_constant_can_be_written_in_many_ways(source):
    assert set(over(source)) == {2.5}


def test_keys_are_frames_seconds_or_per_cent():
    values = over({0: 0, "2s": 20, "50%": 10, "60f": 0}, frame_count=81, fps=10.0)
    assert [values[i] for i in (0, 20, 40, 60, 80)] == [0, 20, 10, 0, 0]
    np.testing.assert_array_equal(values, over("0:(0), 2s:(20), 50%:(10), 60:(0)", 81, 10.0))


@pytest.mark.parametrize(
    ("pasted", "plain"),
    [
        ("0:(1), 60:(2),", "0:(1), 60:(2)"),
        ("0:(1), 60:(2) ,\n", "0:(1), 60:(2)"),
        ('"0":(1), "60":(2)', "0:(1), 60:(2)"),
        ("'0' : (1), '2s':(2)", "0:(1), 60:(2)"),
        ("0:1.02, 60:2", "0:(1.02), 60:(2)"),
        ("0: 1+max(t, 2), 60: (1+2)*3", "0:(1+max(t, 2)), 60:((1+2)*3)"),
        ("0:(1), max_f/2:(3)", "0:(1), 49:(3)"),
        ("0:(1), (max_f-1):(2)", "0:(1), 98:(2)"),
        ("max_f-1:(2), 0:(1)", "0:(1), 98:(2)"),
        ('0:(s), 1:(-1), "max_f-2":(-1), "max_f-1":(s)', "0:(s), 1:(-1), 97:(-1), 98:(s)"),
    ],
)
def test_what_deforum_reads_besides_is_read_alike(pasted, plain):
    np.testing.assert_array_equal(over(pasted, seed=3), over(plain, seed=3))
    assert parse(pasted).last_key(30.0) == (60 if "60" in plain else pasted.count("1:(-1)"))


def test_keys_before_the_first_frame_of_a_short_render_do_not_count_there():
    values = over('0:(s), 1:(-1), "max_f-2":(-1), "max_f-1":(s)', 1, seed=3)
    assert list(values) == [3]
    assert list(over("max_f-4:(0), max_f:(8)", 3)) == [4, 6, 8]
    sound = {name: np.array([0.25, 1]) for name in SOUND_NAMES}
    assert list(parse("max_f-4:(audio.rms), 9:(1)").over(2, 30.0, sound=sound)) == [0.25, 1]


@pytest.mark.parametrize(
    ("text", "frame_count", "message"),
    [
        ("0:(1), 60/max_f:(2)", 1, "is infinite at frame 0\n  0:(1), 60/max_f:(2)\n           ^"),
        ("1e9*max_f:(2)", 3, "the key is too large\n  1e9*max_f:(2)\n  ^"),
    ],
)
def test_a_key_that_has_no_frame_in_a_render_is_refused_there(text, frame_count, message):
    with pytest.raises(CurveError) as caught:
        over(text, frame_count)
    assert str(caught.value) == message


DEFORUM = {
    "zoom": "0: (1.0025+0.002*sin(1.25*3.14*t/30))",
    "zoom with a beat": "0:(1.04), 30:(1.04+0.06*abs(sin(10*t))), 120:(1.0)",
    "angle": "0:(0), 30:(-3*sin(2*3.14*t/60)), 90: (0)",
    "translation_x": "0: (-0.3*(cos(3.141*t/15)**100)+0.8)",
    "translation_y": "0:(0), 20:(5*sin(t/20)), 40:(where(cos(t/5) > 0, 2, -2))",
    "translation_z": "0: (1.10),\n 60: (2.5),\n 90: (0.5),\n",
    "rotation_3d_y": "0:(0), 99:(-0.15), 100:(0.15), 199:(0)",
    "noise_schedule": "0: (0.065), 30:(0.02+0.01*cos(t))",
    "strength_schedule": '"0":(0.65), "25":(0.55), "max_f-10":(0.7),',
    "contrast_schedule": "0: 1.0, 60: 0.95, 120: 1.0",
    "cfg_scale_schedule": "0:(7), max_f/2:(12), (max_f-1):(7)",
    "seed_schedule": '0:(s), 1:(-1), "max_f-2":(-1), "max_f-1":(s)',
    "fov_schedule": "0: (70+(40*(t%30)/30))",
}


@pytest.mark.parametrize("pasted", DEFORUM.values(), ids=DEFORUM)
def test_settings_as_they_are_passed_around_for_deforum_are_curves(pasted):
    values = over(pasted, 240)
    assert np.isfinite(values).all()
    assert len(set(values)) > 1


def test_seconds_keep_a_films_timing_at_any_rate():
    for fps in (24000 / 1001, 25.0, 60.0):
        assert over("0:(0), 1s:(1)", 200, fps)[round(fps)] == 1


def test_keys_of_several_units_come_in_the_order_of_the_render():
    assert over({0: 0, "5s": 1, "50%": 9}, 101, 10.0)[50] in (1, 9)
    assert over({0: 0, "5s": 1, "100%": 9}, 11, 10.0)[10] == 9  # the end comes before 5 s here


@pytest.mark.parametrize(
    ("ease", "quarter"),
    [("linear", 2.5), ("in", 0.625), ("out", 4.375), ("in-out", 1.5625), ("hold", 0.0)],
)
def test_an_easing_bends_the_way_between_two_numbers(ease, quarter):
    values = over({0: 0, 40: 10, "ease": ease})
    assert (values[0], values[10], values[40]) == (0, quarter, 10)


def test_a_spline_is_smooth_meets_its_keys_and_never_overshoots():
    values = over({0: 0, 20: 1, 50: 4, 99: 4, "ease": "spline"})
    assert [values[i] for i in (0, 20, 50, 99)] == pytest.approx([0, 1, 4, 4])
    assert values.min() >= 0
    assert values.max() <= 4 + 1e-12
    steps = np.diff(values)
    assert (steps > -1e-12).all()
    assert np.abs(np.diff(steps)).max() < 0.02  # straight lines have a corner of 0.05 at key 20


# ── expressions ──


@pytest.mark.parametrize(
    "text",
    [
        "1.0025+0.002*sin(1.25*3.14*t/30)",
        "-t % 7.0", "(t - 50) % 7", "5.5 % (t + 1)", "-(t-50) % 3.3",
        "2.0 ** (t/10)", "-t**2", "2.0**-1 + t", "2.0**3.0**0.5 + t", "-2.0**2 + t",
        "t - 3 - 2", "t / 3 / 2", "t*2 + 1*3", "1.5e-1*t + .5 + 2.*t",
        "where(t < 30, t, 1)", "where((t > 3) & (t <= 9) | (t == 50), 1.5, 0.5)",
        "where(~(t != 30), 2.0, 3.0)", "where((t >= 5) & ~(t > 50), t, -t)",
        "sin(t)+cos(t)*tan(t/100)", "arcsin(t/100)+arccos(t/100)+arctan(t)",
        "arctan2(t, t-50)", "sinh(t/50)+cosh(t/50)+tanh(t)", "arcsinh(t)+arccosh(t+1)",
        "arctanh(t/100)", "log(t+1)+log10(t+1)+log1p(t)", "exp(-t)+expm1(t/100)",
        "sqrt(t)+abs(t-50)", "floor(t/7)+ceil(t/7)", "+t - -t", "((((t))))",
        "t//3 + (t-50)//7.0", "round(t/2)+trunc(t/3)+sign(t-50)", "log2(t+1)+hypot(t, 3)",
        "fmod(t-50, 7)", "(t > 2) + (t > 1)", "2.5*(t > 2) + (t > 5)*t", "(t > 3) == (t > 5)",
    ],
)  # fmt: skip
def test_the_numbers_are_numexprs(text):
    expected = numexpr.evaluate(text, {"t": T})
    np.testing.assert_allclose(over(text), expected, rtol=1e-14, atol=1e-14)


def test_what_numexpr_lacks_works_with_several_values():
    np.testing.assert_array_equal(over("min(t, 30, 2*t)"), np.minimum(T, 30))
    np.testing.assert_array_equal(over("max(t, 30, 40)"), np.maximum(T, 40))
    np.testing.assert_array_equal(over("clip(t, 10, 20)"), T.clip(10, 20))
    np.testing.assert_array_equal(over("sin(2*pi*t/e)"), np.sin(2 * math.pi * T / math.e))


def test_commas_inside_functions_do_not_end_a_key():
    values = over("0:(where(t<30, max(t, 2), 1)), 60:(min(3, 4))")
    np.testing.assert_array_equal(values[:60], np.where(T < 30, np.maximum(T, 2), 1)[:60])
    assert (values[60:] == 3).all()


def test_the_variables_are_those_of_the_render():
    assert over("t + max_f + s", 11, seed=7)[10] == 10 + 10 + 7
    np.testing.assert_allclose(over("sec * fps", fps=24000 / 1001), T)


def test_a_comparison_alone_is_nought_or_one():
    assert list(over("t >= 2", 4)) == [0, 0, 1, 1]
    assert list(over("1*(t>0) + 1*(t>1)", 4)) == [0, 1, 2, 2]


def test_waves_go_from_nought_to_one_with_period_one():
    assert list(over("saw(t/4)", 6)) == [0, 0.25, 0.5, 0.75, 0, 0.25]
    assert list(over("tri(t/4)", 6)) == [0, 0.5, 1, 0.5, 0, 0.5]
    assert list(over("square(t/4)", 6)) == [1, 1, 0, 0, 1, 1]
    assert list(over("pulse(t/4, 0.25)", 6)) == [1, 0, 0, 0, 1, 0]


def test_those_in_a_cycle_take_turns_and_sum_to_1():
    found = [over(f"cycle(t/20, {place}, 3, 0.25)", 121) for place in range(3)]
    np.testing.assert_allclose(np.sum(found, axis=0), 1, atol=1e-9)
    for place, values in enumerate(found):
        turn = values[20 * place :]
        assert turn[0] == turn[15] == turn[60] == 1
        assert (turn[16:20] > 0).all()
        assert (turn[16:20] < 1).all()
        assert not turn[20:55].any()
    assert list(over("cycle(t, 1, 2, 0)", 5)) == [0, 1, 0, 1, 0]


def test_an_ease_given_beside_a_curve_counts_unless_it_has_its_own():
    text = "0:(0), 40:(10)"
    assert parse(text, "in").over(100, 30.0)[10] == 0.625
    assert parse({0: 0, 40: 10}, "in").over(100, 30.0)[10] == 0.625
    assert parse({0: 0, 40: 10, "ease": "hold"}, "in").over(100, 30.0)[10] == 0
    assert parse(text, "in").source == text


def test_a_beat_is_one_on_every_beat():
    values = over("beat(120)", 61, 30.0)
    assert list(np.flatnonzero(values == 1)) == [0, 15, 30, 45, 60]
    assert (np.diff(values[:15]) < 0).all()


def test_noise_is_smooth_seeded_and_in_range():
    values = over("noise(t/20)", 2000, seed=1)
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.std() > 0.15
    assert np.abs(np.diff(values)).max() < 0.08
    np.testing.assert_array_equal(values, over("noise(t/20)", 2000, seed=1))
    assert np.abs(values - over("noise(t/20)", 2000, seed=2)).max() > 0.2


# ── refusing ──


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:(1), 60:(foo+1)", "unknown name 'foo' (did you mean 'floor'?)\n"
         "  0:(1), 60:(foo+1)\n"
         "             ^"),
        ("60:(1), 30:(2)", "keys must come in order, each later than the one before\n"
         "  60:(1), 30:(2)\n"
         "          ^"),
        ("0:(1) 60:(2)", "here should be ',', not '60'\n"
         "  0:(1) 60:(2)\n"
         "        ^"),
        ("0:(1),,", "here should be a key: a frame (60), seconds (5s) or 50%, not ','\n"
         "  0:(1),,\n"
         "        ^"),
        ("0:(1), \"t/2\":(3)", "a key may depend on max_f, s and fps, not on t\n"
         "  0:(1), \"t/2\":(3)\n"
         "          ^"),
        ("0:(1), '9:(3)", "here should be \"'\", not ':'\n"
         "  0:(1), '9:(3)\n"
         "           ^"),
        ("0:(sin(t)", "here should be ')', not the end\n"
         "  0:(sin(t)\n"
         "           ^"),
        ("t/0", "is not a number at frame 0\n"
         "  t/0\n"
         "   ^"),
        ("0:(1), 5:(t/0)", "is infinite at frame 5\n"
         "  0:(1), 5:(t/0)\n"
         "             ^"),
        ("9**9**9**9", "is infinite at frame 0\n"
         "  9**9**9**9\n"
         "      ^"),
        ("t.real", "here should be an operator or the end, not '.'\n"
         "  t.real\n"
         "   ^"),
        ("0 < t < 9", "comparisons do not chain; write (0 < t) & (t < 9)\n"
         "  0 < t < 9\n"
         "        ^"),
        ("t > 3 & t < 9", "'&' joins comparisons, as in (t > 3) & (t < 9)\n"
         "  t > 3 & t < 9\n"
         "        ^"),
        ("clip(t, 1)", "clip() takes 3 values, not 2\n"
         "  clip(t, 1)\n"
         "  ^"),
        ("1e999", "the number is too large\n"
         "  1e999\n"
         "  ^"),
        ("0.5:(1)", "a key in frames is a whole number; seconds are written 2.5s\n"
         "  0.5:(1)\n"
         "  ^"),
    ],
)  # fmt: skip
def test_a_mistake_has_a_caret_under_its_column(text, message):
    error = refusal(text)
    assert str(error) == message
    assert error.column == message.rpartition("\n")[2].index("^") - 1


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "().__class__", "t.__class__", "lambda: 1", "[t for t in t]", "t[0]",
        "eval(t)", "open(t)", "exec", "'a'", "t if t else t", "t := 1", "f'{t}'", "print(1)",
        "numpy", "np.sin(t)", "where.__globals__", "0:(__import__('os').system('true'))", "`t`",
        "audio", "\0", "", " ", "0:()", "0:(1),,", ",0:(1)", "t:(1)", "'0:(1)", "sin", "sin()",
        "min(1)", "t t", "1:30", "(1)(2)", "pi()",
    ],
)  # fmt: skip
def test_everything_not_on_the_list_is_refused(text):
    assert "^" in str(refusal(text)) or not text


@pytest.mark.parametrize(
    "text",
    [
        "1" * (MAX_CHARACTERS + 1), "1+" * 4999 + "1", "(" * 9999, "-" * 9999, "sin(" * 2499,
        "2**" * 3333 + "2", "9**9**9**9", "where(" * 1600, "0:(1)," * 1666, "t " * 4999,
        ",".join(f"{i}:({i})" for i in range(900)), "0:(1), 1:(" + "t" * 999_000,
        ",".join(f"{i}:(t)" for i in range(60_000)), "cycle(" * 1600,
        "min(" + "t," * 4990 + "t)", "~" * 9999,
        "a" * 10_000, "0:(" * 3000, "noise(" * (MAX_DEPTH - 2) + "t" + ")" * (MAX_DEPTH - 2),
        "+".join(["noise(t)"] * (MAX_OPERATIONS // 4)), "9" * 10_000,
    ],
)  # fmt: skip
def test_hostile_texts_cost_next_to_nothing(text):
    best = math.inf
    for _ in range(3):
        began = time.process_time()
        with suppress(CurveError):
            parse(text)
        best = min(best, time.process_time() - began)
    assert best < LOOSER * TARGET_SECONDS


def test_a_text_with_too_many_keys_is_refused_at_the_first_of_them():
    error = refusal(",".join(f"{i}:(t)" for i in range(1001)))
    assert str(error).startswith("a curve has 1000 keys at most\n")
    assert str(parse(",".join(f"{i}:(t)" for i in range(1000))).keys[-1].time.amount) == "999.0"


def test_a_value_that_is_not_finite_names_its_entry():
    with pytest.raises(CurveError, match="is infinite at frame 7") as caught:
        over({"0": 1, "5": "1/(t-7)"}, 10)
    assert caught.value.entry == "5"


def test_a_value_that_is_not_finite_names_its_first_frame():
    with pytest.raises(CurveError, match="is infinite at frame 8\n  1/\\(max_f-1-t\\)\n   \\^"):
        over("1/(max_f-1-t)", 10)


def test_an_infinity_that_is_not_chosen_does_no_harm():
    assert list(over("where(t > 0, 1/t, 5)", 3)) == [5, 1, 0.5]


@pytest.mark.parametrize(
    ("source", "entry", "message"),
    [
        ({"0": 1, "x": 3}, "x",
         "a key must be a frame (60), seconds (5s), 50% or ease, not 'x'"),
        ({"0": 1, "101%": 3}, "101%", "the key is too large"),
        ({"0": "t+"}, "0",
         "here should be a number, a name or '(', not the end\n  t+\n    ^"),
        ({"0": "0:(1)"}, "0", "a key has one number or expression, not keys of its own"),
        ({"0": True}, "0", "must be a number or an expression"),
        ({"0": math.nan}, "0", "must be a finite number"),
        ({"0": 1, "ease": "fast"}, "ease",
         "ease must be one of linear, in, out, in-out, hold, spline, not 'fast'"),
        ({str(i): "t+1" for i in range(4000)}, None,
         "12000 characters; at most 10000 are read"),
        ({str(i): 1 for i in range(MAX_KEYS + 2)}, None,
         "a curve has 1000 keys at most, not 1002"),
        ({}, None, "a curve has at least one key, as in {0: 1, 5s: 2}"),
        ({"1s": 1, "1.0s": 2}, None, "two keys for the same time"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_mapping_names_its_entry(source, entry, message):
    error = refusal(source)
    assert (str(error), error.entry) == (message, entry)


# ── anything at all ──

WORDS = st.sampled_from(
    ["t", "s", "pi", "max_f", "sec", "fps", "sin", "where", "min", "noise", "beat", "pulse", "(",
     ")", ",", "+", "-", "*", "/", "%", "**", "<", ">=", "==", "&", "|", "~", "0", "1.5", "9e99",
     ":", "0:(", "5s:(", "50%:(", "max_f-1:(", ",", chr(34), "__class__",
     "audio.rms", "audio.", ".", "'", "[", " ", "\n", "é"]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=25).map("".join) | st.text(max_size=40)
KEY_TEXTS = (
    st.from_regex(r"\A[0-9]{1,3}(\.[0-9])?(s|%|f|)\Z") | st.just("ease") | st.text(max_size=5)
)


SHAPES = st.sampled_from(
    ["({0})+({1})", "({0})-{1}", "{0}*({1})", "({0})/({1})", "{0}%({1})", "({0})**({1})",
     "({0})<({1})", "-({0})", "sin({0})", "sqrt({0})", "log({0})", "noise({0})", "beat({0})",
     "where({0}>{1},{0},1)", "min({0},{1})", "pulse({0},{1})", "cycle({0},{1},3,{0})"]
)  # fmt: skip
EXPRESSIONS = st.recursive(
    st.sampled_from(["t", "s", "sec", "max_f", "pi", "audio.beat", "2", "0.5", "1e9", "0"]),
    lambda inner: st.tuples(SHAPES, inner, inner).map(lambda parts: parts[0].format(*parts[1:])),
    max_leaves=8,
)
SOURCES = TEXTS | EXPRESSIONS | st.dictionaries(
    KEY_TEXTS, TEXTS | EXPRESSIONS | st.floats() | st.integers() | st.booleans()
)  # fmt: skip


@settings(max_examples=500)
@given(
    SOURCES,
    st.integers(1, 50),
    st.sampled_from([1.0, 23.976, 60.0]),
    st.integers(0, 2**32 - 1),
)
def test_anything_is_finite_numbers_or_a_refusal(source, frame_count, fps, seed):
    with harmless():
        try:
            values = parse(source).over(frame_count, fps, seed, SOUND)
        except CurveError:
            return
    assert values.shape == (frame_count,)
    assert values.dtype == np.float64
    assert np.isfinite(values).all()


NUMBERS = st.floats(-1e6, 1e6)
KEYS = st.from_regex(r"\A[0-9]{1,3}(s|%|f|)\Z")


@settings(max_examples=200, deadline=200)
@given(st.dictionaries(KEYS, NUMBERS, min_size=1), st.sampled_from(EASES), st.integers(1, 300))
def test_between_numbers_no_easing_leaves_their_range(keys, ease, frame_count):
    try:
        values = parse({**keys, "ease": ease}).over(frame_count, 24.0)
    except CurveError:
        return
    low, high = min(keys.values()), max(keys.values())
    margin = 1e-9 * max(1, abs(low), abs(high))
    assert values.min() >= low - margin
    assert values.max() <= high + margin
