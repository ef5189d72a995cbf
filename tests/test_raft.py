"""RAFT as torchvision has it: fed as it was trained, padded and cropped, its weights checked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from flows import install_raft
from tiny import texture

from dreamflow import raft
from dreamflow.errors import UnavailableError
from dreamflow.flow import FlowMethod
from dreamflow.pixels import as_levels

CPU = torch.device("cpu")


def test_it_gives_what_the_network_gives_for_the_first_picture_then_the_second(
    tmp_path, monkeypatch
):
    path = install_raft(tmp_path, "raft_small", monkeypatch)
    network = torchvision.models.get_model("raft_small", weights=None).eval()
    network.load_state_dict(torch.load(path, weights_only=True))
    first, second = (texture(128, 136, seed=seed).mul(255).round() / 255 for seed in (1, 2))
    with torch.no_grad():
        expected = network(first * 2 - 1, second * 2 - 1)[-1]
    found = raft.build("raft_small", CPU)(as_levels(first), as_levels(second))
    torch.testing.assert_close(
        torch.from_numpy(found).permute(2, 0, 1)[None], expected, rtol=0, atol=1e-3
    )


def test_a_picture_is_continued_by_its_edge_and_the_flow_cropped(tmp_path, monkeypatch):
    install_raft(tmp_path, "raft_small", monkeypatch)
    search = raft.build("raft_small", CPU)
    one, other = (as_levels(texture(100, 131, seed=seed)) for seed in (1, 2))
    padding = ((0, 28), (0, 5), (0, 0))
    whole = search(*(np.pad(each, padding, mode="edge") for each in (one, other)))
    assert np.array_equal(search(one, other), whole[:100, :131])


def test_weights_that_are_absent_and_cannot_be_fetched_are_named(tmp_path, monkeypatch):
    path = install_raft(tmp_path, "raft_small", monkeypatch)
    path.unlink()
    with pytest.raises(UnavailableError) as caught:
        FlowMethod("raft_small")
    assert caught.value.exit_code == 69
    assert f"put that file at {path} (expected SHA-256 {path.stem[-8:]}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused(tmp_path, monkeypatch, damaged):
    path = install_raft(tmp_path, "raft_small", monkeypatch)
    damaged(path, path, at=0.5, length=1)
    with pytest.raises(UnavailableError, match="damaged: SHA-256 is"):
        FlowMethod("raft_small")


def test_weights_of_the_other_size_are_refused(tmp_path, monkeypatch):
    install_raft(tmp_path, "raft_small", monkeypatch)
    monkeypatch.setitem(raft.URLS, "raft_large", raft.URLS["raft_small"])
    with pytest.raises(UnavailableError, match="are not those of raft_large"):
        FlowMethod("raft_large")


@pytest.mark.parametrize("name", sorted(raft.URLS))
def test_the_addresses_are_those_that_torchvision_has(name):
    assert torchvision.models.get_model_weights(name).DEFAULT.url == raft.URLS[name]  # type: ignore[attr-defined]
