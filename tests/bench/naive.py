"""The usual PyTorch DeepDream loop, as the baseline that benchmarks compare with.

Whole network with a hook, contiguous layout, BatchNorm as it comes, default allocator, a depthwise
convolution as blur: what the common notebooks do. Run as a program it times one frame for each
line on stdin and prints the seconds, so that a benchmark can take turns with it while allocator
settings stay apart.
"""

import sys
import time

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def main() -> None:
    name, layer, height, width, octaves, steps, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    network = getattr(torchvision.models, name)(**options).eval().requires_grad_(False)
    image = torch.rand(1, 3, int(height), int(width))
    activations: list[Tensor] = []
    network.get_submodule(layer).register_forward_hook(
        lambda _, __, output: activations.append(output)
    )
    for _ in sys.stdin:
        began = time.perf_counter()
        dream(network, activations, image, int(octaves), int(steps))
        print(time.perf_counter() - began, flush=True)


def dream(
    network: nn.Module, activations: list[Tensor], image: Tensor, octaves: int, steps: int
) -> Tensor:
    """Octaves from small to full, the dreamed whole enlarged from one to the next."""
    kernels = [blur_kernel(sigma) for sigma in (0.5, 1.0, 2.0)]
    dreamed = image
    for octave in reversed(range(octaves)):
        size = [round(side / 1.4**octave) for side in image.shape[-2:]]
        dreamed = F.interpolate(dreamed, size, mode="bilinear", align_corners=False)
        for _ in range(steps):
            dreamed = step(network, activations, dreamed, kernels)
    return dreamed


def step(
    network: nn.Module, activations: list[Tensor], image: Tensor, kernels: list[Tensor]
) -> Tensor:
    down, right = torch.randint(-32, 33, (2,)).tolist()
    image = torch.roll(image, (down, right), (2, 3)).requires_grad_(True)
    activations.clear()
    network((image - MEAN) / STD)
    activations[-1].square().mean().backward()
    assert image.grad is not None
    gradient = sum(blur(image.grad, kernel) for kernel in kernels) / len(kernels)
    gradient = gradient / gradient.std()
    with torch.no_grad():
        image = (image + 0.01 * gradient).clamp(0, 1)
    return torch.roll(image, (-down, -right), (2, 3))


def blur_kernel(sigma: float) -> Tensor:
    offsets = torch.arange(-4, 5).float()
    line = torch.exp(-0.5 * (offsets / sigma) ** 2)
    square = torch.outer(line, line)
    return (square / square.sum()).expand(3, 1, 9, 9).contiguous()


def blur(gradient: Tensor, kernel: Tensor) -> Tensor:
    padded = F.pad(gradient, (4, 4, 4, 4), mode="reflect")
    return F.conv2d(padded, kernel, groups=3)


if __name__ == "__main__":
    main()
