"""Every kind of objective: its gradient, what it raises, and that a pass serves them all."""

from __future__ import annotations

import pytest
import torch
from tiny import TinyExtractor, texture

from dreamflow import classes, networks, objectives, warp
from dreamflow.dream import dream, uphill
from dreamflow.masks import Mask
from dreamflow.objectives import (
    SOURCE,
    Builder,
    Channels,
    ClassScore,
    Direction,
    Diversity,
    Guide,
    LayerEnergy,
    LayerMagnitude,
    Likeness,
    Neuron,
    Style,
    Target,
)
from dreamflow.scene import Gallery, Scene, View
from dreamflow.settings import (
    ChannelObjective,
    ChannelsObjective,
    ClassObjective,
    ContentObjective,
    DirectionObjective,
    Dream,
    EnhanceObjective,
    GuideObjective,
    NeuronObjective,
    Objective,
    StyleObjective,
)

DIRECTION = (0.3, -1.0, 2.0, 0.5, 0.0, 1.0, -0.2, 0.7)
ON_TINY = [
    LayerEnergy("second"),
    LayerMagnitude("second"),
    Channels("second", (2, 5)),
    Neuron("second", 3, 0.6, 0.4),
    Direction("second", DIRECTION, 2.0),
    Direction("second", DIRECTION, 0.0),
    ClassScore(3),
    Target(of=Channels("first", (1,)), value=3.7),
    Guide("second", "guide"),
    Style(("first", "second"), "guide"),
    Likeness("second", "content"),
    Likeness("second", gain=2.5),
    Diversity("second"),
]
"""One of each kind."""


class WithClasses(TinyExtractor):
    """The tiny network with scores of five classes."""

    def forward(self, image, layers=None):
        wanted = self.layers if layers is None else layers
        features = super().forward(image, {"first", "second"})
        pooled = features["second"].mean(dim=(-2, -1))
        features[classes.LAYER] = pooled[:, :5] * 3 - pooled[:, 3:8]
        return {layer: features[layer] for layer in wanted}


def kind(term):
    return type(term).__name__


def seen(term, extractor, image, source):
    """All features that a term asks for."""
    gallery = Gallery(extractor, {"guide": source.flip(-1), "content": source.flip(-2)})
    view = Scene(gallery).at(source, [term], extractor)
    return {**extractor(image, set(term.layers)), **view.references}


@pytest.mark.parametrize("term", ON_TINY, ids=kind)
def test_the_gradient_of_every_term_is_that_of_finite_differences(term):
    extractor = WithClasses().double()
    generator = torch.Generator().manual_seed(2)
    batch = 2 if isinstance(term, Diversity) else 1
    image = torch.rand(batch, 3, 8, 9, generator=generator, dtype=torch.float64)
    source = torch.rand(1, 3, 8, 9, generator=generator, dtype=torch.float64)
    unit = term.unit(seen(term, extractor, image, source)).detach()
    assert float(unit) > 0

    def value(picture):
        return objectives.total([term], seen(term, extractor, picture, source), [unit])

    leaf = image.requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    assert float(gradient.abs().max()) > 1e-6
    assert torch.autograd.gradcheck(value, leaf, eps=1e-6, atol=1e-6, rtol=1e-5)


# ── on the embedded network ──


@pytest.fixture(scope="module")
def embedded():
    return networks.build(
        "squeezenet1_1", ["features.3", "features.6", "features.9", classes.LAYER]
    )


RAISED = [
    (LayerEnergy("features.9"), 1.6),
    (LayerMagnitude("features.9"), 1.2),
    (Channels("features.9", (145,)), 2.0),
    (Channels("features.9", (3, 40, 77)), 1.5),
    (Neuron("features.9", 145, 0.7, 0.4), 2.0),
    (Direction("features.9", tuple(float(i % 7 == 3) for i in range(384))), 1.4),
    (ClassScore(1), 2.0),
    (Guide("features.9", "guide"), 1.2),
]
BROUGHT_NEAR = [
    (Style(("features.3", "features.6"), "guide"), 0.5),
    (Likeness("features.6", "guide"), 0.8),
    (Likeness("features.6", gain=1.5), 0.8),
    (Target(of=Channels("features.9", (145,)), value=150.0), 0.2),
]
"""With what is left of the distance."""
STEPS = Dream(octaves=2, steps=8, step_size=2.5, jitter=8)


def scored(term, extractor, image, scene):
    source = texture(96, 128, sigma=3)
    features = {**extractor(image, set(term.layers))}
    features |= scene.at(source, [term], extractor).references
    return float(term.score(features))


def before_and_after(term, extractor, settings=STEPS):
    """The term's score of a picture, before and after it is dreamed for."""
    image = texture(96, 128, sigma=3)
    pictures = {"guide": texture(80, 80, seed=4, sigma=1)}
    scene = Scene(Gallery(extractor, pictures))
    result = dream(image, extractor, [term], settings, scene=scene)
    return [scored(term, extractor, each, scene) for each in (image, result)]


@pytest.mark.parametrize(("term", "factor"), RAISED, ids=lambda each: kind(each))
def test_an_objective_raises_its_own_score(embedded, term, factor):
    before, after = before_and_after(term, embedded)
    assert after > factor * abs(before)
    assert after > before


@pytest.mark.parametrize(("term", "left"), BROUGHT_NEAR, ids=lambda each: kind(each))
def test_a_distance_shrinks(embedded, term, left):
    before, after = before_and_after(term, embedded)
    assert before < 0
    assert -after < left * -before


@pytest.mark.parametrize("term", [LayerEnergy("features.9"), Channels("features.9", (145,))])
def test_a_negative_weight_lowers_the_score(embedded, term):
    turned = type(term)(**{**vars(term), "weight": -1.0})
    before, after = before_and_after(turned, embedded)
    assert after < 0.8 * before


@pytest.mark.parametrize("value", [8.0, 20.0])
def test_a_score_lands_on_its_target(embedded, value):
    """From below and, once it is there, without overshooting: within 2%."""
    term = Target(of=ClassScore(1), value=value)
    settings = Dream(octaves=1, steps=30, step_size=1.5, jitter=0)
    image = texture(112, 112, sigma=3)
    result = dream(image, embedded, [term], settings)
    start, end = (float(embedded(each)[classes.LAYER][0, 1]) for each in (image, result))
    assert start < 0.9 * value or value == 8
    assert end == pytest.approx(value, rel=0.02)


def test_a_target_is_reached_from_above_too(embedded):
    settings = Dream(octaves=1, steps=20, step_size=1.5, jitter=0)
    image = texture(112, 112, sigma=3)
    high = dream(image, embedded, [ClassScore(1)], settings)
    low = dream(high, embedded, [Target(of=ClassScore(1), value=10.0)], settings)
    scores = [float(embedded(each)[classes.LAYER][0, 1]) for each in (high, low)]
    assert scores[0] > 12
    assert scores[1] == pytest.approx(10, rel=0.02)


# ── what only one place or one picture is about ──


def test_a_neuron_is_dreamed_where_it_is_however_the_picture_is_shifted(embedded):
    image = texture(96, 128, sigma=3)
    settings = Dream(octaves=1, steps=6, jitter=16, spread=0)
    result = dream(image, embedded, [Neuron("features.6", 20, 0.8, 0.25)], settings)
    change = (result - image).abs().mean(dim=1)[0]
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    share = change / change.sum()
    assert float((share * rows).sum()) == pytest.approx(0.25 * 96, abs=12)
    assert float((share * columns).sum()) == pytest.approx(0.8 * 128, abs=12)


def test_the_guide_decides_what_is_dreamed(embedded):
    image = texture(96, 128, sigma=3)
    fine, coarse = texture(96, 96, seed=1, sigma=0.7), texture(96, 96, seed=2, sigma=6)
    scene = Scene(Gallery(embedded, {"fine": fine, "coarse": coarse}))
    results = [
        dream(image, embedded, [Guide("features.6", name)], STEPS, scene=scene)
        for name in ("fine", "coarse")
    ]
    apart = float((results[0] - results[1]).abs().mean())
    changes = [float((result - image).abs().mean()) for result in results]
    assert apart > 0.5 * min(changes)


def test_pictures_of_a_batch_are_drawn_apart():
    extractor = TinyExtractor()
    image = torch.cat([texture(24, 32, seed=seed) for seed in (1, 2, 3)])
    term = Diversity("second")
    _, gradient = uphill(image, extractor, [term], View(image))
    moved = image + 0.02 * gradient / gradient.abs().mean()
    with torch.no_grad():
        apart = [float(term.score(extractor(each))) for each in (image, moved)]
        alone = float(term.score(extractor(image[:1])))
    assert apart[1] > apart[0]
    assert alone == 0


# ── cost ──


MANY = [
    LayerEnergy("first"),
    LayerMagnitude("second", weight=-0.5),
    Channels("second", (2, 5)),
    Direction("second", DIRECTION),
]


def test_several_objectives_share_one_pass_and_resize_nothing_more(monkeypatch):
    resize, sizes = warp.resize, []
    monkeypatch.setattr(
        warp, "resize", lambda image, size: (sizes.append(size), resize(image, size))[1]
    )
    plain, many = TinyExtractor(), TinyExtractor()
    image = texture(48, 64)
    settings = Dream(octaves=2, steps=3, jitter=4)
    dream(image, plain, MANY[:1], settings)
    of_one, sizes = sizes, []
    dream(image, many, MANY, settings)
    assert many.sides == plain.sides
    assert many.asked == [{"first", "second"}] * 6
    assert of_one
    assert sizes == of_one


def test_the_frames_own_features_cost_one_pass_an_octave_and_a_guide_one_in_all():
    extractor = TinyExtractor()
    gallery = Gallery(extractor, {"guide": texture(30, 30)})
    terms = [Likeness("second", gain=2.0), Likeness("first", gain=2.0), Guide("second", "guide")]
    settings = Dream(octaves=2, steps=3, jitter=4)
    for _ in range(2):
        dream(texture(48, 64), extractor, terms, settings, scene=Scene(gallery))
    assert len(extractor.sides) == 2 * (2 * 3 + 2) + 1


# ── masks ──


def half(height, width):
    """White on the left."""
    shares = torch.zeros(1, 1, height, width)
    shares[..., : width // 2] = 1
    return Mask(shares)


def test_an_objective_stays_in_its_mask_to_the_pixel():
    image = texture(48, 64)
    scene = Scene(masks={"left": half(48, 64)})
    settings = Dream(octaves=1, steps=4, jitter=6)
    terms = [LayerEnergy("second", mask="left")]
    result = dream(image, TinyExtractor(), terms, settings, scene=scene)
    assert torch.equal(result[..., 32:], image[..., 32:])
    assert float((result - image)[..., :32].abs().mean()) * 255 > 4


def test_what_is_masked_is_dreamed_as_strongly_as_what_is_not():
    image = texture(48, 64)
    settings = Dream(octaves=1, steps=1, jitter=6)
    whole = dream(image, TinyExtractor(), [LayerEnergy("second")], settings) - image
    scene = Scene(masks={"left": half(48, 64)})
    part = dream(
        image, TinyExtractor(), [LayerEnergy("second", mask="left")], settings, scene=scene
    ) - image  # fmt: skip
    ratio = float(part[..., :32].abs().mean() / whole.abs().mean())
    assert ratio == pytest.approx(1, rel=0.1)


def test_each_objective_has_its_own_mask_and_all_one_pass():
    image, extractor = texture(48, 64), TinyExtractor()
    left = half(48, 64)
    scene = Scene(masks={"left": left, "right": Mask(1 - left.shares)})
    terms = [LayerEnergy("second", mask="left"), LayerEnergy("second", mask="right", weight=-1)]
    settings = Dream(octaves=1, steps=4, jitter=0)
    result = dream(image, extractor, terms, settings, scene=scene)
    assert len(extractor.sides) == 4
    before, after = (TinyExtractor()(each)["second"].square() for each in (image, result))
    assert float(after[..., :14].mean()) > 1.05 * float(before[..., :14].mean())
    assert float(after[..., 18:].mean()) < 0.95 * float(before[..., 18:].mean())


# ── from the settings ──


def test_every_kind_of_objective_becomes_its_term():
    builder = Builder("alexnet", {"d.npy": (1.0, 2.0)})
    common = {"layer": "a", "octaves": (0,), "mask": "luma", "weight": 2.0}
    same = {"octaves": (0,), "mask": "luma", "weight": 2.0}
    given = [
        (Objective(**common), LayerEnergy("a", **same)),
        (Objective(**common, norm="l1"), LayerMagnitude("a", **same)),
        (ChannelObjective(**common, channel=3), Channels("a", (3,), **same)),
        (ChannelsObjective(**common, channels=(3, 4)), Channels("a", (3, 4), **same)),
        (NeuronObjective(**common, neuron=(3, 0.1, 0.2)), Neuron("a", 3, 0.1, 0.2, **same)),
        (DirectionObjective(**common, direction="d.npy", cosine=2),
         Direction("a", (1.0, 2.0), 2.0, **same)),
        (DirectionObjective(**common, direction=(5.0,)), Direction("a", (5.0,), **same)),
        (GuideObjective(**common, guide="g.png"), Guide("a", "g.png", **same)),
        (StyleObjective(**{**common, "layer": ("a", "b")}, style="g.png"),
         Style(("a", "b"), "g.png", **same)),
        (ContentObjective(**common, content="g.png"), Likeness("a", "g.png", **same)),
        (EnhanceObjective(**common, enhance=3.0), Likeness("a", SOURCE, 3.0, **same)),
        (ChannelObjective(**common, channel=3, target=4.0),
         Target(of=Channels("a", (3,), **same), value=4.0, **same)),
        (ClassObjective(**{"class": "goldfish", "target": 4.0}),
         Target(of=ClassScore(1), value=4.0)),
    ]  # fmt: skip
    assert builder.terms([setting for setting, _ in given]) == [term for _, term in given]


def test_a_layer_of_another_network_has_a_key_of_its_own():
    builder = Builder("alexnet")
    terms = builder.terms(
        [Objective(layer="a"), Objective(layer="a", network="alexnet"),
         Objective(layer="a", network="vgg16")]
    )  # fmt: skip
    assert [term.layers for term in terms] == [("a",), ("a",), ("a of vgg16",)]
