"""The names of ImageNet's classes: found in any case, explained where they are not."""

from __future__ import annotations

import pytest
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from dreamflow import classes


def test_the_labels_are_torchvisions_with_meanings_told_apart():
    given = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]
    assert len(classes.labels()) == len(given) == 1000
    changed = {i: ours for i, ours in enumerate(classes.labels()) if ours != given[i]}
    assert changed == {
        134: "crane (bird)", 517: "crane (machine)", 264: "Cardigan (dog)",
        474: "cardigan (garment)", 638: "maillot (swimsuit)", 639: "maillot (tank suit)",
    }  # fmt: skip


def test_no_two_labels_differ_by_their_case_alone():
    assert len({label.casefold() for label in classes.labels()}) == 1000


@given(st.integers(0, 999))
def test_a_class_is_found_by_number_and_by_label_in_any_case(number):
    label = classes.labels()[number]
    names = (number, label, label.upper(), f" {label.lower()} ")
    assert [classes.index(name) for name in names] == [number] * 4
    assert [classes.label(name) for name in names] == [label] * 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Egiptian cat", r"unknown class 'Egiptian cat' \(nearest: Egyptian cat, "),
        ("cat", r"nearest: tiger cat, Persian cat, Siamese cat;"),
        ("CRANE", r"'CRANE' is two classes: write 'crane \(bird\)' or 'crane \(machine\)'"),
        ("cardigan", r"write 'Cardigan \(dog\)' or 'cardigan \(garment\)'"),
        ("", "unknown class ''"),
        ("x" * 5000, "unknown class 'x{100}'"),
        (1000, "from 0 to 999, not 1000"),
        (-1, "from 0 to 999, not -1"),
    ],
)
def test_what_is_no_class_is_answered_with_what_was_meant(name, message):
    with pytest.raises(ValueError, match=message):
        classes.index(name)
