"""The state between two frames as bytes, exact to the last bit and to the order in memory.

Convention. A state is a frozen dataclass of tensors, numbers, texts, None, tuples of such and
further dataclasses that its fields' types tell of; those that are added need nothing here. The
bytes are a safetensors file whose metadata tell how its tensors are put together. Nothing in them
names code.

How a tensor lies in memory is kept too: sums run in that order, and round accordingly.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dreamflow.errors import StorageError
from dreamflow.feedback import Canvas, Carry

State = Carry | Canvas


def _kinds_in(*types: Any) -> dict[str, Any]:
    """The dataclasses among these types and in the fields of those, by name."""
    found: dict[str, Any] = {}
    waiting = list(types)
    while waiting:
        each = waiting.pop()
        waiting += get_args(each)
        if isinstance(each, type) and is_dataclass(each) and each.__name__ not in found:
            found[each.__name__] = each
            waiting += get_type_hints(each).values()
    return found


_KINDS = _kinds_in(Carry, Canvas)
_MAX_HEADER_BYTES = 1 << 20


def to_bytes(state: State) -> bytes:
    """The state as a safetensors file; raises TypeError for a field of a kind not provided for."""
    tensors: dict[str, Tensor] = {}
    plan = json.dumps(_described(state, tensors))
    return safetensors.torch.save(tensors, {"state": plan})


def from_bytes(data: bytes, kind: type[State], device: torch.device | str = "cpu") -> State:
    """The state that `to_bytes` was given; raises StorageError for anything else."""
    try:
        plan = _read_plan(data)
        state = _restored(plan, safetensors.torch.load(data), device)
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise StorageError(f"a checkpoint cannot be read: {error}") from error
    if not isinstance(state, kind):
        raise StorageError(f"a checkpoint holds a {type(state).__name__}, not a {kind.__name__}")
    return state


def _read_plan(data: bytes) -> Any:
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= min(_MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError(f"its header has {length} bytes")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["state"])


def _described(value: object, tensors: dict[str, Tensor]) -> Any:
    """`value` in JSON's terms; the tensors in it are put into `tensors`, flat."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value if _is_dense(list(value.shape), value.stride()) else value.contiguous()
        name = str(len(tensors))
        tensors[name] = value.as_strided((value.numel(),), (1,)).clone()
        return {"tensor": name, "shape": list(value.shape), "stride": list(value.stride())}
    if isinstance(value, tuple):
        return [_described(each, tensors) for each in value]
    if is_dataclass(value) and type(value).__name__ in _KINDS:
        parts = {part.name: getattr(value, part.name) for part in fields(value)}
        described = {name: _described(part, tensors) for name, part in parts.items()}
        return {"kind": type(value).__name__, "fields": described}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _restored(plan: Any, tensors: dict[str, Tensor], device: torch.device | str) -> Any:
    match plan:
        case {"tensor": str(name), "shape": list(shape), "stride": list(stride)}:
            return _laid_out(tensors[name], shape, stride).to(device)
        case list():
            return tuple(_restored(each, tensors, device) for each in plan)
        case {"kind": str(name), "fields": dict(parts)}:
            kind = _KINDS[name]
            if parts.keys() != {field.name for field in fields(kind)}:
                raise ValueError(f"the fields of its {name} are {', '.join(parts)}")
            return kind(**{key: _restored(part, tensors, device) for key, part in parts.items()})
        case None | bool() | int() | float() | str():
            return plan
    raise ValueError("it is not laid out as a checkpoint")


def _laid_out(flat: Tensor, shape: list[int], stride: list[int]) -> Tensor:
    """The flat tensor with this shape, in this order in memory."""
    if not _is_dense(shape, stride) or torch.Size(shape).numel() != flat.numel():
        raise ValueError(f"{flat.numel()} numbers are no tensor of {shape} with steps {stride}")
    tensor = torch.empty_strided(shape, stride, dtype=flat.dtype)
    tensor.as_strided((flat.numel(),), (1,)).copy_(flat)
    return tensor


def _is_dense(shape: list[int], stride: tuple[int, ...] | list[int]) -> bool:
    """Whether these steps run through all of a stretch of memory once. One long sides have none."""
    step = 1
    for along, length in sorted(zip(stride, shape, strict=True)):
        if length != 1 and along != step:
            return False
        step *= length
    return True
