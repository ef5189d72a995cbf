import pytest
from pydantic import Field, ValidationError

from dreamflow.settings import (
    Dream,
    Output,
    Stage,
    allowed,
    setting,
)


def descendants(kind):
    own = kind.__subclasses__()
    return {*own, *(each for child in own for each in descendants(child))}


STAGES = sorted(
    (stage for stage in descendants(Stage) if stage.__module__ == "dreamflow.settings"),
    key=lambda stage: stage.__name__,
)


def one_field(kind, **bounds):
    """The JSON Schema of a single setting of that type."""

    class Sample(Stage):
        value: kind = setting(..., "help", **bounds)

    return Sample.model_json_schema()["properties"]["value"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_has_a_line_of_help_and_a_unit_entry(stage):
    for name, field in stage.model_fields.items():
        assert field.description, name
        assert field.description.endswith((".", ")")), name
        assert "\n" not in field.description, name
        assert "unit" in field.json_schema_extra, name


@pytest.mark.parametrize("stage", STAGES)
def test_every_default_passes_its_own_check(stage):
    needs = {
        "layer": "features.1",
        "class_": "tabby",
        "file": "mask.png",
        "channel": 3,
        "channels": (3, 4),
        "neuron": (3.0, 0.5, 0.5),
        "direction": (1.0, 0.0),
        "guide": "guide.png",
        "style": "style.png",
        "content": "content.png",
        "enhance": 2.0,
        "diversity": True,
        "cycle": ("a", "b"),
        "every": "4s",
        "fade": "1s",
    }
    fields = stage.model_fields.items()
    required = {field.alias or name: needs[name] for name, field in fields if field.is_required()}
    plain = stage(**required).model_dump(by_alias=True)
    assert stage(**plain) == stage(**required)


@pytest.mark.parametrize("stage", STAGES)
def test_every_number_has_both_ends_of_its_range(stage):
    for name, schema in stage.model_json_schema()["properties"].items():
        for option in schema.get("anyOf", [schema]):
            if option.get("type") in ("integer", "number"):
                assert {"minimum", "maximum"} <= option.keys(), name


@pytest.mark.parametrize(
    "value", [{"octaves": 2.0}, {"octaves": "2"}, {"octaves": True}, {"step_size": "1"}]
)
def test_nothing_is_coerced(value):
    with pytest.raises(ValidationError):
        Dream(**value)


def test_a_whole_number_does_where_any_number_does():
    assert Dream(step_size=2).step_size == 2.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_no_number_leaves_the_finite(value):
    with pytest.raises(ValidationError):
        Dream(step_size=value)


def test_settings_do_not_change_after_the_check():
    with pytest.raises(ValidationError):
        Output().crf = 3


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (one_field(int, ge=1, le=16), "a whole number from 1 to 16"),
        (one_field(int, ge=0, le=2**32 - 1), "a whole number from 0 to 4294967295"),
        (one_field(float, ge=1.05, le=4), "a number from 1.05 to 4"),
        (one_field(float, gt=0), "a number above 0"),
        (one_field(float, gt=0, le=1), "a number above 0 and of at most 1"),
        (one_field(int, ge=2), "a whole number of at least 2"),
        (one_field(float), "a number"),
        (one_field(bool), "true or false"),
        (one_field(str), "a text"),
        (one_field(str | None), "a text or null"),
        (one_field(tuple[int, ...]), "a list of 0 or more, each a whole number"),
    ],
)
def test_what_a_setting_takes_is_said_in_words(schema, words):
    assert allowed(schema) == words


def test_a_unit_stands_with_the_number_only():
    size = Dream.model_json_schema()["properties"]["size"]
    assert allowed(size, "px") == "a whole number from 16 to 16384 (px) or 'full'"


def test_a_choice_and_a_stage_list_what_they_know():
    class Look(Stage):
        mood: str = Field("calm")
        depth: int = Field(1)

    codec = Output.model_json_schema()["properties"]["codec"]
    assert allowed(codec) == "one of " + ", ".join(codec["enum"])
    assert allowed(Look.model_json_schema()) == "a mapping with mood, depth"
