"""Writes tools/samples: scenes of our own and photographs from scikit-image's wheel (see tools/samples.md)."""

from pathlib import Path

import torch
from PIL import Image

import scenes

SAMPLES = Path(__file__).resolve().parent.parent / "samples"

# colour, shape, size, place, ground, pattern; or two times the first three with a relation
SINGLE = [("red", "circle", "big", "centre", "grey", "plain"), ("blue", "heart", "big", "centre", "pink", "plain"),
          ("white", "star", "small", "top left", "brown", "plain")]
PAIRS = [(("yellow", "star", "small"), "left", ("purple", "ring", "big"), "turquoise", "striped"),
         (("green", "triangle", "big"), "above", ("orange", "square", "small"), "grey", "checkered"),
         (("black", "cross", "small"), "left", ("red", "crescent", "small"), "pink", "striped")]


def main():
    SAMPLES.mkdir(exist_ok=True)
    found = []
    for colour, shape, size, place, ground, pattern in SINGLE:
        found.append((f"{colour}-{shape}", [
            scenes.COLOURS.index(colour), scenes.SHAPES.index(shape), scenes.SIZES.index(size), 8, 8, 2, 0,
            scenes.GROUNDS.index(ground), scenes.PATTERNS.index(pattern), scenes.PLACES.index(place)]))
    for one, relation, two, ground, pattern in PAIRS:
        values = [table.index(word) for shape in (one, two)
                  for table, word in zip((scenes.COLOURS, scenes.SHAPES, scenes.SIZES), shape)]
        between = {"left": "left-of", "above": "above"}[relation]
        found.append((f"{one[0]}-{one[1]}-{between}-{two[0]}-{two[1]}", [
            *values, scenes.RELATIONS.index(relation), scenes.GROUNDS.index(ground),
            scenes.PATTERNS.index(pattern), scenes.NONE["place"]]))
    table = torch.tensor([row for _, row in found])
    batch = {name: table[:, k] for k, name in enumerate(scenes.ATTRIBUTES)}
    pictures = scenes.render(batch, 256, torch.Generator().manual_seed(40_000_003), (1, 1), gradient=0)
    for (name, _), picture in zip(found, pictures):
        Image.fromarray(picture.numpy()).save(SAMPLES / f"{name}.png", optimize=True)

    from skimage import data

    for name in ("astronaut", "chelsea", "coffee"):
        Image.fromarray(getattr(data, name)()).save(SAMPLES / f"{name}.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    main()
