"""The thousand classes of ImageNet by name: what the networks were trained to tell apart.

The labels are those of torchvision's weights (`meta["categories"]`, after ImageNet's ILSVRC 2012),
in the order of the networks' scores; the four that occur twice there have the meaning added. Free
of torch.
"""

from __future__ import annotations

import difflib
import functools
from pathlib import Path

LAYER = "classes"
"""What stands for the class scores among a network's layers."""
MAP = "class map"
"""What stands for the scores of every place, from which those of the whole picture are averaged."""
PSEUDO_LAYERS = frozenset({LAYER, MAP})


@functools.cache
def labels() -> tuple[str, ...]:
    """The label of each class, in the order of the networks' scores."""
    return tuple((Path(__file__).parent / "imagenet_classes.txt").read_text("utf-8").splitlines())


def index(name: str | int) -> int:
    """The place of a class in the networks' scores: by its label, in any case, or its number.

    Raises ValueError for an unknown label, with the nearest ones, and for one of two meanings.
    """
    if isinstance(name, int):
        if not 0 <= name < len(labels()):
            raise ValueError(f"a class's number is from 0 to {len(labels()) - 1}, not {name}")
        return name
    wanted = name.strip().casefold()
    known = _by_label()
    if wanted in known:
        return known[wanted]
    meanings = [label for label in labels() if label.casefold().startswith(f"{wanted} (")]
    if meanings and wanted:
        raise ValueError(f"{name!r} is two classes: write {' or '.join(map(repr, meanings))}")
    raise ValueError(
        f"unknown class {name[:100]!r} (nearest: {', '.join(nearest(wanted))}; "
        "ImageNet's labels and the numbers 0 to 999 are known)"
    )


def label(name: str | int) -> str:
    """The label of a class that `index` knows, as ImageNet writes it."""
    return labels()[index(name)]


def nearest(word: str) -> list[str]:
    """Three labels like `word`: first those it is a word of, such as those of all the cats."""
    word = word[:100].casefold()
    known = _by_label()
    within = [at for text, at in known.items() if word in text.replace("-", " ").split()]
    alike = [known[text] for text in difflib.get_close_matches(word, known, n=3, cutoff=0)]
    return [labels()[at] for at in dict.fromkeys((*within, *alike))][:3]


@functools.cache
def _by_label() -> dict[str, int]:
    return {text.casefold(): at for at, text in enumerate(labels())}
