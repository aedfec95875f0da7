"""The scenes that the demonstration model knows: what can be in one, how it is drawn, and what can be said about it.

A scene is one shape, or two with a relation between them, before a background. A batch of scenes is a dictionary of
integer tensors of length n, one for each attribute below; `render` draws it at any size, `captions` words it.
Everything is vectorised over the batch and driven by a seeded `torch.Generator`, so a seed is a data set.

One colour/shape pair in eight is held out: it occurs in no training picture and in no training caption, although each
of its halves does. A model that names those pairs has learnt to put colour and shape together.
"""

import math
import random

import torch

COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "white", "black"]
SHAPES = ["circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent"]
SIZES = ["small", "big"]
RELATIONS = ["single", "left", "above"]  # of the first shape to the second; "right" and "below" are their mirrors
GROUNDS = ["grey", "pink", "brown", "turquoise"]
PATTERNS = ["plain", "striped", "checkered"]
PLACES = ["top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"]

# One pair for each colour and each shape, spread over the table.
HELD_OUT = [(colour, (3 * colour + 2) % 8) for colour in range(8)]
HELD_OUT_TABLE = torch.zeros(8, 8, dtype=torch.bool)
for _colour, _shape in HELD_OUT:
    HELD_OUT_TABLE[_colour, _shape] = True

# Attribute -> number of values. Attributes of the second shape and the place have one more: "there is none".
ATTRIBUTES = {
    "colour1": 8, "shape1": 8, "size1": 2, "colour2": 9, "shape2": 9, "size2": 3,
    "relation": 3, "ground": 4, "pattern": 3, "place": 10,
}
NONE = {"colour2": 8, "shape2": 8, "size2": 2, "place": 9}

COLOUR_RGB = torch.tensor([
    [0.88, 0.10, 0.12], [0.98, 0.52, 0.05], [0.98, 0.90, 0.12], [0.10, 0.60, 0.18],
    [0.12, 0.25, 0.85], [0.50, 0.14, 0.62], [0.98, 0.98, 0.98], [0.04, 0.04, 0.05],
])
GROUND_RGB = torch.tensor([[0.52, 0.52, 0.53], [0.97, 0.68, 0.77], [0.46, 0.31, 0.20], [0.35, 0.80, 0.78]])


# What is in a scene

def _integers(high, n, generator):
    return torch.randint(high, (n,), generator=generator)


def _draw_pair(n, generator, held_out):
    """Colours and shapes of n objects; `held_out` False draws seen pairs only, True any pair."""
    colour, shape = _integers(8, n, generator), _integers(8, n, generator)
    while not held_out and (bad := HELD_OUT_TABLE[colour, shape]).any():
        count = int(bad.sum())
        colour[bad], shape[bad] = _integers(8, count, generator), _integers(8, count, generator)
    return colour, shape


def draw(n, generator, held_out=False, double=0.6):
    """n scenes, of which about a fraction `double` has two shapes."""
    colour1, shape1 = _draw_pair(n, generator, held_out)
    colour2, shape2 = _draw_pair(n, generator, held_out)
    scenes = {
        "colour1": colour1, "shape1": shape1, "size1": _integers(2, n, generator),
        "colour2": colour2, "shape2": shape2, "size2": _integers(2, n, generator),
        "relation": 1 + _integers(2, n, generator),
        "ground": _integers(4, n, generator), "pattern": _integers(3, n, generator),
        "place": _integers(9, n, generator),
    }
    single = torch.rand(n, generator=generator) >= double
    return settle(scenes, single)


def settle(scenes, single):
    """Makes attributes agree: one shape has no second; two shapes have no place; a big one stands in the centre."""
    scenes["relation"] = torch.where(single, 0, scenes["relation"])
    for name in ("colour2", "shape2", "size2"):
        scenes[name] = torch.where(single, NONE[name], scenes[name])
    place = torch.where(scenes["size1"] == 1, 4, scenes["place"])
    scenes["place"] = torch.where(single, place, NONE["place"])
    return scenes


def with_twins(scenes, generator):
    """The scenes and, for each, a copy that differs in one attribute: the hardest negatives there are."""
    n = len(scenes["ground"])
    twins = {name: values.clone() for name, values in scenes.items()}
    single = twins["relation"] == 0
    for i, choice in enumerate(_integers(8, n, generator).tolist()):
        if single[i] and choice in (3, 4, 5):
            choice -= 3
        name = ("colour1", "shape1", "size1", "colour2", "shape2", "swap", "ground", "pattern")[choice]
        if name == "swap":
            for one in ("colour", "shape", "size"):
                a, b = twins[one + "1"][i].item(), twins[one + "2"][i].item()
                twins[one + "1"][i], twins[one + "2"][i] = b, a
            continue
        count = {"colour2": 8, "shape2": 8}.get(name, ATTRIBUTES[name])
        twins[name][i] = (twins[name][i] + 1 + int(_integers(count - 1, 1, generator))) % count
        for end in "12":
            if name in ("colour" + end, "shape" + end):
                if HELD_OUT_TABLE[twins["colour" + end][i], twins["shape" + end][i]]:
                    twins[name][i] = scenes[name][i]
        if single[i] and name == "size1" and twins["size1"][i] == 1:
            twins["place"][i] = 4
    return {name: torch.cat([scenes[name], twins[name]]) for name in scenes}


# How it is drawn

def _distance(shape, x, y):
    """Signed distance (negative inside) to the outline of a shape of unit radius; y points down."""
    if shape == 0:
        return torch.hypot(x, y) - 0.88
    if shape == 1:
        return torch.maximum(x.abs(), y.abs()) - 0.78
    if shape == 2:
        y = y - 0.2
        return torch.maximum(y, 0.8660254 * x.abs() - 0.5 * y) - 0.55
    if shape == 3:  # fold the plane onto half a point of the star
        angle = torch.atan2(x, -y)
        fifth = 2 * math.pi / 5
        angle = (torch.remainder(angle + fifth / 2, fifth) - fifth / 2).abs()
        length = torch.hypot(x, y)
        u, v = length * torch.cos(angle), length * torch.sin(angle)
        outer, inner = 1.08, 0.45
        iu, iv = inner * math.cos(fifth / 2), inner * math.sin(fifth / 2)
        edge = math.hypot(outer - iu, iv)
        return ((u - outer) * iv + v * (outer - iu)) / edge
    if shape == 4:
        ax, ay = x.abs(), y.abs()
        return torch.minimum(torch.maximum(ax - 0.92, ay - 0.3), torch.maximum(ax - 0.3, ay - 0.92))
    if shape == 5:
        return (torch.hypot(x, y) - 0.68).abs() - 0.22
    if shape == 6:  # a square on its corner and two discs on its upper sides
        y = y - 0.1
        u, v, h = (x - y) * 0.70710678, (-x - y) * 0.70710678, 0.56
        body = torch.maximum(u.abs(), v.abs()) - h
        return torch.minimum(body, torch.minimum(torch.hypot(u - h, v), torch.hypot(u, v - h)) - h)
    return torch.maximum(torch.hypot(x + 0.05, y) - 0.92, 0.78 - torch.hypot(x - 0.42, y))


def _uniform(low, high, shape, generator):
    return low + (high - low) * torch.rand(shape, generator=generator)


def render(scenes, size, generator, softness=(0.9, 1.2), gradient=0.05):
    """Draws scenes at size x size: uint8 [n, size, size, 3].

    Places, radii, turns, tints and backgrounds vary within what the attributes leave open. `softness` is the range
    of the width of an edge, in pixels; `gradient` how much a background may darken across. What is drawn depends on
    the generator's state alone, not on `size`.
    """
    n = len(scenes["ground"])
    pixel = 2.0 / size
    line = (torch.arange(size) + 0.5) * pixel - 1
    X, Y = line.view(1, 1, size), line.view(1, size, 1)

    # Background: a tint with a slow gradient, darkened in stripes or checks
    base = GROUND_RGB[scenes["ground"]] + _uniform(-0.045, 0.045, (n, 3), generator)
    turn = _uniform(0, 2 * math.pi, (n, 1, 1), generator)
    slope = _uniform(0, gradient, (n, 1, 1), generator)
    shade = 1 + slope * (torch.cos(turn) * X + torch.sin(turn) * Y)
    turn = _uniform(0, math.pi, (n, 1, 1), generator)
    wave = 2 * math.pi / _uniform(0.36, 0.6, (n, 1, 1), generator)
    phase = _uniform(0, 2 * math.pi, (n, 2, 1, 1), generator)
    depth = _uniform(0.14, 0.22, (n, 1, 1), generator)
    U = torch.sin(wave * (torch.cos(turn) * X + torch.sin(turn) * Y) + phase[:, 0])
    V = torch.sin(wave * (torch.cos(turn) * Y - torch.sin(turn) * X) + phase[:, 1])
    pattern = scenes["pattern"].view(n, 1, 1)
    ripple = torch.where(pattern == 1, U, U * V) / (wave * pixel)  # about a pixel wide at the edge
    shade = shade * torch.where(pattern == 0, 1.0, 1 - depth * (ripple + 0.5).clamp(0, 1))
    picture = (base.view(n, 1, 1, 3) * shade.unsqueeze(-1))

    # Where the shapes stand
    single = scenes["relation"] == 0
    first, second = scenes["size1"], scenes["size2"].clamp(max=1)
    spread = torch.rand(n, 2, generator=generator)
    low = torch.tensor([0.30, 0.44])
    wide = torch.tensor([0.05, 0.05])
    r1, r2 = low[first] + wide[first] * spread[:, 0], low[second] + wide[second] * spread[:, 1]
    r1 = torch.where(single & (first == 1), 0.52 + 0.26 * spread[:, 0], r1)
    r1 = torch.where(single & (first == 0), 0.31 + 0.08 * spread[:, 0], r1)
    noise = _uniform(-1, 1, (n, 2, 2), generator)  # [scene, shape, axis]
    place = scenes["place"].clamp(max=8)
    grid = torch.stack([place % 3 - 1, torch.div(place, 3, rounding_mode="floor") - 1], 1).float()
    alone = grid * 0.55 + noise[:, 0] * 0.08
    apart, across = 0.5 + 0.04 * noise[..., 0], 0.22 * noise[..., 1]
    along = torch.stack([-apart[:, 0], apart[:, 1]], 1)  # [scene, shape]
    level = scenes["relation"].view(n, 1) == 1
    x = torch.where(single.view(n, 1), alone[:, :1], torch.where(level, along, across))
    y = torch.where(single.view(n, 1), alone[:, 1:], torch.where(level, across, along))

    # The shapes themselves
    turns = _uniform(-0.22, 0.22, (n, 2), generator)
    rgb = torch.stack([COLOUR_RGB[scenes["colour1"]], COLOUR_RGB[scenes["colour2"].clamp(max=7)]], 1)
    rgb = (rgb + _uniform(-0.05, 0.05, (n, 2, 3), generator)) * _uniform(0.92, 1.05, (n, 2, 1), generator)
    edge = _uniform(*softness, (n,), generator)
    for k, (colour, shape, radius) in enumerate(
            ((scenes["colour1"], scenes["shape1"], r1), (scenes["colour2"], scenes["shape2"], r2))):
        for s in range(8):
            index = (shape == s).nonzero().squeeze(1)
            if not len(index):
                continue
            r = radius[index].view(-1, 1, 1)
            c, d = torch.cos(turns[index, k]).view(-1, 1, 1), torch.sin(turns[index, k]).view(-1, 1, 1)
            dx, dy = X - x[index, k].view(-1, 1, 1), Y - y[index, k].view(-1, 1, 1)
            distance = _distance(s, (c * dx + d * dy) / r, (c * dy - d * dx) / r) * r
            cover = (0.5 - distance / (pixel * edge[index].view(-1, 1, 1))).clamp(0, 1).unsqueeze(-1)
            picture[index] = picture[index] * (1 - cover) + rgb[index, k].view(-1, 1, 1, 3) * cover
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


# What can be said about it

COLOUR_WORDS = {"purple": ["purple", "purple", "violet"], "red": ["red", "red", "crimson"]}
SHAPE_WORDS = {
    "circle": ["circle", "circle", "disc"], "cross": ["cross", "cross", "plus sign"],
    "ring": ["ring", "ring", "hoop"], "crescent": ["crescent", "crescent", "crescent moon"],
}
SIZE_WORDS = [["small", "small", "little", "tiny"], ["big", "large", "huge"]]
GROUND_WORDS = {"grey": ["grey", "gray"], "turquoise": ["turquoise", "teal"]}
PATTERN_WORDS = [["plain", ""], ["striped"], ["checkered", "checked"]]
LEAD = ["", "", "", "a photo of ", "a picture of ", "an image of ", "a drawing of ", "there is ", "this is "]
LEVEL = (["to the left of", "left of", "on the left of"], ["to the right of", "right of", "on the right of"])
UPRIGHT = (["above", "over", "on top of"], ["below", "under", "beneath"])


def _words(table, word, pick):
    return pick(table.get(word, [word]))


def article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def _object(scene, end, said, pick):
    """'a small red circle', with those of its attributes in `said`."""
    words = []
    if "size" in said:
        words.append(pick(SIZE_WORDS[scene["size" + end]]))
    if "colour" in said:
        words.append(_words(COLOUR_WORDS, COLOURS[scene["colour" + end]], pick))
    words.append(_words(SHAPE_WORDS, SHAPES[scene["shape" + end]], pick) if "shape" in said
                 else pick(["thing", "shape", "object"]))
    return article(" ".join(words))


def _ground(scene, said, pick):
    pattern = pick(PATTERN_WORDS[scene["pattern"]]) if "pattern" in said else ""
    colour = _words(GROUND_WORDS, GROUNDS[scene["ground"]], pick) if "ground" in said else ""
    words = " ".join(word for word in (pattern, colour, "background") if word)
    said_pattern = "pattern" in said and pattern
    return pick([" on ", " before ", " against ", " on "]) + article(words), bool(said_pattern)


def caption(scene, full, chance):
    """One caption of a scene (a dictionary of integers), and the attributes it states: {name: value}.

    `full` states everything; otherwise a random part. 'ordered' in the result says whether the caption tells which
    of two shapes is the first; without it the statements about the two may fit either way round.
    """
    pick = chance.choice
    pair = scene["relation"] != 0
    stated = {}

    def state(*names):
        for name in names:
            stated[name] = scene[name]

    if not pair:
        said = {"size", "colour", "shape"} if full else set(pick([
            ("colour", "shape"), ("colour", "shape"), ("colour", "shape"), ("size", "colour", "shape"),
            ("colour",), ("shape",), ("size", "shape"), ("size", "colour")]))
        state(*(name + "1" for name in said))
        text = _object(scene, "1", said, pick)
        if full or chance.random() < 0.25:
            state("place", "relation", "colour2", "shape2", "size2")
            place = PLACES[scene["place"]]
            where = pick(["in the centre", "in the middle", "at the center"]) if place == "centre" else (
                pick(["in the " + place + " corner", "at the " + place]) if " " in place else
                pick(["at the " + place, "on the " + place + " side" if place in ("left", "right") else
                      "at the " + place]))
            text += " " + where
    elif full:
        kind = chance.random()
        state("colour1", "shape1", "size1", "colour2", "shape2", "size2", "relation")
        said = {"size", "colour", "shape"}
        one, two = _object(scene, "1", said, pick), _object(scene, "2", said, pick)
        words = LEVEL if scene["relation"] == 1 else UPRIGHT
        if kind < 0.5:
            text = one + " " + pick(words[0]) + " " + two
        else:
            text = two + " " + pick(words[1]) + " " + one
        stated["ordered"] = True
    else:
        said = set(pick([("colour", "shape"), ("colour", "shape"), ("colour",), ("shape",)]))
        kind = chance.random()
        if kind < 0.45:  # with the relation
            for end in "12":
                state(*(name + end for name in said))
            state("relation")
            words = LEVEL if scene["relation"] == 1 else UPRIGHT
            one, two = _object(scene, "1", said, pick), _object(scene, "2", said, pick)
            text = (one + " " + pick(words[0]) + " " + two if chance.random() < 0.5
                    else two + " " + pick(words[1]) + " " + one)
            stated["ordered"] = True
        elif kind < 0.75:  # both, no relation
            for end in "12":
                state(*(name + end for name in said))
            one, two = _object(scene, "1", said, pick), _object(scene, "2", said, pick)
            if chance.random() < 0.5:
                one, two = two, one
            text = one + pick([" and ", " with ", " beside ", " next to "]) + two
            stated["two"] = True
        else:  # one of the two
            end = pick("12")
            text = _object(scene, end, said, pick)
            for name in said:
                stated[name + "1"] = scene[name + end]
    if full or chance.random() < 0.3:
        said = {"ground", "pattern"} if full else set(pick([("ground",), ("ground", "pattern"), ("pattern",)]))
        words, said_pattern = _ground(scene, said, pick)
        text += words
        if "ground" in said:
            state("ground")
        # Left out, "plain" is still meant by a full caption; a partial one leaves it open.
        if said_pattern or full:
            state("pattern")
    return pick(LEAD) + text + pick(["", "", "."]), stated


def rows(scenes):
    names = list(scenes)
    return [dict(zip(names, values)) for values in zip(*(scenes[name].tolist() for name in names))]


def captions(scenes, full, seed):
    """Captions of a batch, and what they state: int64 [n, attributes] (-1: not stated) and bool [n] 'ordered'."""
    chance = random.Random(seed)
    texts, names = [], list(ATTRIBUTES)
    table, ordered = torch.full((len(scenes["ground"]), len(names)), -1), []
    for i, scene in enumerate(rows(scenes)):
        text, stated = caption(scene, full, chance)
        texts.append(text)
        ordered.append(bool(stated.get("ordered")))
        for name, value in stated.items():
            if name in ATTRIBUTES:
                table[i, names.index(name)] = value
    return texts, table, torch.tensor(ordered)


def fits(scenes, stated, ordered):
    """bool [n scenes, m captions]: whether a caption's statements hold of a scene."""
    names = list(ATTRIBUTES)
    facts = torch.stack([scenes[name] for name in names], 1)

    def agree(facts):
        match = torch.ones(len(facts), len(stated), dtype=torch.bool)
        for k in range(len(names)):
            match &= (stated[:, k] < 0) | (facts[:, k, None] == stated[:, k])
        return match

    swapped = facts[:, [names.index(name) for name in (
        "colour2", "shape2", "size2", "colour1", "shape1", "size1", "relation", "ground", "pattern", "place")]]
    return agree(facts) | (agree(swapped) & ~ordered)


def class_prompts():
    """The 64 classes, colour by colour: 'a photo of a red circle'."""
    return ["a photo of " + article(f"{colour} {shape}") for colour in COLOURS for shape in SHAPES]
