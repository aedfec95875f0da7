"""The inputs that every contender gets: made from fixed seeds, the same in every process."""

import json
import pathlib

import numpy

MEAN = numpy.array([0.48145466, 0.4578275, 0.40821073], numpy.float32)
DEVIATION = numpy.array([0.26862954, 0.26130258, 0.27577711], numpy.float32)
START, END = 49406, 49407
CAPTIONS = pathlib.Path(__file__).parent / "captions.jsonl"


def side(folder: pathlib.Path) -> int:
    """Pixels of one side of the pictures that a checkpoint takes."""
    config = folder / "config.json"
    if config.exists():
        return json.loads(config.read_text())["vision_config"]["image_size"]
    return json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["vision_cfg"]["image_size"]


def normalized(bytes_: numpy.ndarray) -> numpy.ndarray:
    """[side, side, 3] bytes as a model takes them: float32 [3, side, side]."""
    x = bytes_.astype(numpy.float32)
    x /= 255
    x -= MEAN
    x /= DEVIATION
    return numpy.ascontiguousarray(x.transpose(2, 0, 1))


def preprocessed(file: str) -> numpy.ndarray:
    """A picture file as a model takes it: the reference's preprocessing by Pillow and numpy."""
    from PIL import Image

    image = Image.open(file)
    width, height = image.size
    scale = 224 / min(width, height)
    size = (max(224, int(width * scale)), max(224, int(height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    return normalized(numpy.asarray(image.crop((left, top, left + 224, top + 224)).convert("RGB")))


def pixels(count: int, side: int, seed: int = 0) -> numpy.ndarray:
    """Random pictures, float32 [count, 3, side, side]."""
    generator = numpy.random.default_rng(seed)
    return numpy.stack([normalized(generator.integers(0, 256, (side, side, 3), numpy.uint8)) for _ in range(count)])


def ids(count: int, length: int = 77, seed: int = 0) -> numpy.ndarray:
    """Random sentences that fill the context, int64 [count, length]."""
    x = numpy.random.default_rng(seed).integers(1, START, (count, length), numpy.int64)
    x[:, 0], x[:, -1] = START, END
    return x


def captions() -> list[str]:
    return [json.loads(line) for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]


def caption_ids(tokenized: pathlib.Path) -> list[list[int]]:
    """The captions as ids from start to end of text: what `clip-gpu tokenize` wrote, without the padding."""
    rows = [json.loads(line) for line in tokenized.read_text().splitlines()]
    return [row[: row.index(END) + 1] for row in rows]


def padded(rows: list[list[int]], length: int | None = None) -> numpy.ndarray:
    """int64 [rows, length]; without a length, that of the longest."""
    result = numpy.zeros((len(rows), length or max(map(len, rows))), numpy.int64)
    for row, values in zip(result, rows):
        row[: len(values)] = values
    return result
