"""The networks of timm, by the name `timm/NAME`, if the extra `timm` is installed.

timm is imported when one is asked for, and its weights are fetched from their hub as safetensors
only: nothing that could run code when it is loaded.
"""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from dreamflow.errors import UnavailableError

logger = logging.getLogger("dreamflow")

PREFIX = "timm/"
_WEIGHTS = "model.safetensors"


def names() -> list[str]:
    """Every network there is, each as `timm/NAME`."""
    return [f"{PREFIX}{name}" for name in _timm("its networks").list_models()]


def is_known(name: str) -> bool:
    """Whether timm has the network `timm/NAME`, or `timm/NAME.TAG` for weights of another kind."""
    bare = name.removeprefix(PREFIX)
    return bool(_timm(name).is_model(bare)) and (
        "." not in bare or bare in _timm(name).list_pretrained()
    )


def module(name: str) -> nn.Module:
    """The architecture without weights, on the device of the context."""
    return _timm(name).create_model(name.removeprefix(PREFIX), pretrained=False)


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the images it was trained on, per channel, in 0..1."""
    found = _published(name)
    return (found.mean, found.std) if found else ((0.5,) * 3, (0.5,) * 3)


def cached(name: str, folder: Path | None) -> bool:
    """Whether its weights are on this machine."""
    return _cached_file(_published(name), folder) is not None


def fetch(name: str, folder: Path | None) -> Path:
    """The file of its weights, fetched on first use; UnavailableError where that fails."""
    published = _published(name)
    if published is None or not published.hf_hub_id:
        raise UnavailableError(
            f"timm has no weights of {name} on its hub: name a file of your own, {name}:FILE"
        )
    if file := _cached_file(published, folder):
        return file
    from huggingface_hub import hf_hub_download

    address = f"https://huggingface.co/{published.hf_hub_id}/blob/main/{_WEIGHTS}"
    logger.warning("fetching %s", address)
    try:
        return Path(hf_hub_download(published.hf_hub_id, _WEIGHTS, cache_dir=folder))
    except Exception as error:  # the hub's client raises whatever its transport does
        reason = str(error).strip().partition("\n")[0]
        raise UnavailableError(
            f"cannot fetch {address} ({reason}); fetch that file and use it as {name}:FILE"
        ) from error


def _cached_file(published: Any, folder: Path | None) -> Path | None:
    if published is None or not published.hf_hub_id:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(published.hf_hub_id, _WEIGHTS, cache_dir=folder)
    return Path(found) if isinstance(found, str) else None


def _published(name: str) -> Any:
    """What timm knows of the network's weights; None if there are none."""
    return _timm(name).get_pretrained_cfg(name.removeprefix(PREFIX), allow_unregistered=False)


def _timm(wanted: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise UnavailableError(
            f"{wanted}: timm is not installed (pip install 'dreamflow[timm]')"
        ) from error
    return timm
