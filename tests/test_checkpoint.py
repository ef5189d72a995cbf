"""States as bytes: exact, whatever is in them, and nothing else is taken for one."""

from __future__ import annotations

import json
import struct
from dataclasses import make_dataclass

import pytest
import torch

from dreamflow import checkpoint
from dreamflow.color import ColorStatistics
from dreamflow.errors import StorageError
from dreamflow.feedback import Canvas, Carry, Past


def image(height=6, width=8):
    return torch.rand(1, 3, height, width)


LAYOUTS = {
    "rows": image(),
    "channels last": image().contiguous(memory_format=torch.channels_last),
    "from an array": torch.rand(6, 8, 3).permute(2, 0, 1)[None],
    "one pixel": image(1, 1),
    "double": image().double(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_carry_comes_back_to_the_last_bit_and_in_its_order_in_memory(layout):
    tensor = LAYOUTS[layout]
    state = Carry(7, tensor, tensor - 0.5)
    back = checkpoint.from_bytes(checkpoint.to_bytes(state), Carry)
    assert back.index == 7
    assert torch.equal(back.source, tensor)
    assert torch.equal(back.residual, state.residual)
    assert (back.source.stride(), back.source.dtype) == (tensor.stride(), tensor.dtype)


def test_what_does_not_lie_densely_comes_back_all_the_same():
    tensor = image(12, 16)[..., ::2, ::2]
    back = checkpoint.from_bytes(checkpoint.to_bytes(Carry(1, tensor, tensor)), Carry)
    assert torch.equal(back.source, tensor)


def test_a_canvas_comes_back_with_its_colours():
    state = Canvas(-3, image(), ColorStatistics.of(image()))
    back = checkpoint.from_bytes(checkpoint.to_bytes(state), Canvas)
    assert back.anchor == state.anchor
    assert back.index == -3


def test_new_fields_of_all_kinds_need_nothing_here(monkeypatch):
    fields = ["index", "maps", "gain", "missing", "older"]
    wider = make_dataclass("Carry", fields, frozen=True)
    monkeypatch.setitem(checkpoint._KINDS, "Carry", wider)
    older = (Past(1, image(), image()), image())
    state = wider(1, (image(), (2, 0.1)), 1 / 3, None, older)
    back = checkpoint.from_bytes(checkpoint.to_bytes(state), wider)
    assert (back.gain, back.missing, back.maps[1]) == (1 / 3, None, (2, 0.1))
    assert torch.equal(back.older[0].pixels, older[0].pixels)
    with pytest.raises(TypeError, match="cannot hold a list"):
        checkpoint.to_bytes(wider(1, ["text"], 1, 1, 1))


def test_a_state_of_another_kind_is_refused():
    data = checkpoint.to_bytes(Carry(1, image(), image()))
    with pytest.raises(StorageError, match="holds a Carry, not a Canvas"):
        checkpoint.from_bytes(data, Canvas)


def with_plan(change):
    """A checkpoint whose plan says something else."""
    data = checkpoint.to_bytes(Carry(1, image(), image()))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    plan = json.loads(header["__metadata__"]["state"])
    change(plan)
    header["__metadata__"]["state"] = json.dumps(plan)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.update(kind="Popen"),
        lambda plan: plan["fields"].pop("source"),
        lambda plan: plan["fields"].update(more=1),
        lambda plan: plan["fields"]["source"].update(shape=[1, 3, 6, 9]),
        lambda plan: plan["fields"]["source"].update(stride=[0, 0, 0, 0]),
        lambda plan: plan["fields"]["source"].update(stride=[144, 48, 8, 10**12]),
        lambda plan: plan["fields"]["source"].update(shape=["a"], stride=["b"]),
        lambda plan: plan["fields"]["source"].update(tensor="9"),
        lambda plan: plan["fields"].update(source={"tensor": "0"}),
    ],
)
def test_a_plan_that_is_none_is_refused(change):
    with pytest.raises(StorageError, match=r"cannot be read"):
        checkpoint.from_bytes(with_plan(change), Carry)


@pytest.mark.parametrize("data", [b"", b"x" * 7, struct.pack("<Q", 1 << 40) + b"{}", b"\0" * 64])
def test_bytes_that_are_no_checkpoint_are_refused(data):
    with pytest.raises(StorageError, match="cannot be read"):
        checkpoint.from_bytes(data, Carry)
