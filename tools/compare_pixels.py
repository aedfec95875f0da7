#!/usr/bin/env python3
"""Compares `clip-gpu preprocess` with openai-clip's own preprocessing, byte for byte.

Draws pictures over all formats, Pillow modes, sizes and shapes (one pixel wide ones included), writes them into a
temporary folder, runs `BINARY preprocess FILES --output X.npy` and compares the numbers with those of openai-clip's
`_transform(n)`. Not a bit may differ. With --damage it also cuts and flips bytes: what Pillow refuses must be refused,
and what both read must give the same bytes; what we alone refuse is listed. With --preprocess, a `preprocess_cfg` of
open_clip's, the reference is open_clip's `image_transform`, and ours that of a model folder which says so.

    tools/compare_pixels.py .build/release/clip-gpu [--count 1000] [--size 224] [--seed 0] [--damage]
    tools/compare_pixels.py .build/release/clip-gpu --preprocess '{"resize_mode": "longest", "fill_color": 77}'

Needs Pillow 13, numpy, torch, torchvision, openai-clip and open_clip.
"""

import argparse
import collections
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

warnings.simplefilter("ignore")


def reference_transform(size):
    """openai-clip's; the same steps are spelt out for environments in which its old imports fail."""
    try:
        from clip.clip import _transform

        return _transform(size)
    except ImportError:
        return Compose([
            Resize(size, interpolation=InterpolationMode.BICUBIC),
            CenterCrop(size),
            lambda image: image.convert("RGB"),
            ToTensor(),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ])


def model_folder(folder, preprocess, size):
    """A model whose pictures are of this size and made this way: a fixture's weights."""
    fixture = Path(__file__).resolve().parent.parent / "Tests/CLIPModelTests/Fixtures/open-clip-plain"
    config = json.loads((fixture / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = size
    config["preprocess_cfg"] = preprocess
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "open_clip_model.safetensors").write_bytes((fixture / "open_clip_model.safetensors").read_bytes())
    return folder


def open_clip_transform(preprocess, size):
    from open_clip.transform import image_transform

    return image_transform(size, is_train=False, **preprocess)


def draw_size(random_):
    """Mostly ordinary shapes; a fifth extreme ones; some of the size the model wants."""
    kind = random_.random()
    if kind < 0.1:
        sides = random_.choice([1, 2, 3]), random_.randint(1, 400)
    elif kind < 0.2:
        sides = random_.randint(1, 16), random_.randint(1, 2000)
    elif kind < 0.3:
        sides = 224, random_.randint(200, 500)
    elif kind < 0.35:
        sides = 224, 224
    elif kind < 0.7:
        sides = random_.randint(16, 300), random_.randint(16, 300)
    else:
        sides = random_.randint(200, 1600), random_.randint(200, 1200)
    return sides if random_.random() < 0.5 else sides[::-1]


def draw_samples(random_, numbers, width, height, channels, limit):
    """Gradients, stripes, noise or flat colour: smooth and sharp content in every mode."""
    kind = random_.randrange(4)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(channels):
        if kind == 0:
            plane = numbers.integers(0, limit + 1, (height, width))
        elif kind == 1:
            a, b = numbers.normal(size=2) * 3 * limit / max(width, height)
            plane = (a * x + b * y + numbers.integers(0, limit + 1)) % (limit + 1)
        elif kind == 2:
            period = random_.randint(1, 9)
            plane = ((x // period + y // period) % 2) * limit
        else:
            plane = np.clip(
                limit / 2 + limit / 2 * np.sin(x / 17 + numbers.random() * 6) * np.cos(y / 23)
                + numbers.normal(size=(height, width)) * limit / 20, 0, limit)
        planes.append(plane)
    return np.stack(planes, -1).astype(np.uint16 if limit > 255 else np.uint8)


def write_png16(samples, interlace=False):
    """A PNG of 16-bit samples, which Pillow cannot write for RGB, RGBA and LA."""
    import struct
    import zlib

    height, width, channels = samples.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def interlaced_png(image):
    """Adam7 interlacing, which Pillow reads but does not write. For 1, 8 and 16 bits a sample."""
    import struct
    import zlib

    array = np.asarray(image)
    if image.mode == "1":
        depth, color = 1, 0
    else:
        depth = 16 if array.dtype == np.uint16 else 8
        color = {"L": 0, "I;16": 0, "LA": 4, "RGB": 2, "RGBA": 6, "P": 3}[image.mode]
    if array.ndim == 2:
        array = array[..., None]
    raw = b""
    for x0, y0, dx, dy in ADAM7:
        part = array[y0::dy, x0::dx]
        if part.shape[0] == 0 or part.shape[1] == 0:
            continue
        for row in part:
            if depth == 1:
                raw += b"\0" + np.packbits(row[:, 0]).tobytes()
            else:
                raw += b"\0" + row.astype(">u2" if depth == 16 else np.uint8).tobytes()

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    out = b"\x89PNG\r\n\x1a\n"
    out += chunk(b"IHDR", struct.pack(">IIBBBBB", image.width, image.height, depth, color, 0, 0, 1))
    if image.mode == "P":
        out += chunk(b"PLTE", bytes(image.getpalette()))
    return out + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def draw_palette_image(random_, numbers, width, height, colors):
    image = Image.fromarray(draw_samples(random_, numbers, width, height, 1, colors - 1)[..., 0], "L")
    indices = Image.new("P", image.size)
    indices.putdata(list(image.tobytes()))
    palette = numbers.integers(0, 256, colors * 3).tolist()
    if random_.random() < 0.1:
        palette = [value for index in range(colors) for value in (index, index, index)]
    indices.putpalette(palette)
    return indices


def draw_picture(random_, numbers):
    """(kind, file ending, bytes)"""
    width, height = draw_size(random_)
    kind = random_.choice([
        "jpeg RGB", "jpeg RGB", "jpeg RGB", "jpeg L", "jpeg CMYK", "jpeg progressive", "jpeg RGB keep",
        "png 1", "png L", "png LA", "png P", "png P", "png RGB", "png RGBA", "png I;16", "png 16-bit RGB",
        "png 16-bit RGBA", "png 16-bit LA", "png interlaced", "png tRNS", "png few bits",
        "gif", "gif", "gif animated", "webp lossy", "webp lossless", "webp alpha", "webp animated",
    ])
    out = io.BytesIO()

    def image(mode):
        channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
        samples = draw_samples(random_, numbers, width, height, channels, 255)
        if mode in ("LA", "RGBA") and random_.random() < 0.5:
            samples[..., -1] = np.where(numbers.random((height, width)) < 0.3, 0, samples[..., -1])
        return Image.frombytes(mode, (width, height), samples.tobytes())

    format_ = kind.split()[0]
    if format_ == "jpeg":
        options = {"quality": random_.randint(5, 98)}
        if random_.random() < 0.3:
            options["restart_marker_blocks"] = random_.randint(1, 9)
        if kind in ("jpeg L", "jpeg CMYK"):
            image(kind.split()[1]).save(out, "JPEG", progressive=random_.random() < 0.3, **options)
        else:
            image("RGB").save(
                out, "JPEG", subsampling=0 if kind.endswith("keep") else random_.choice([0, 1, 2, "4:1:1"]), progressive=kind == "jpeg progressive",
                keep_rgb=kind == "jpeg RGB keep", optimize=random_.random() < 0.3, **options)
    elif kind == "png 1":
        image("L").convert("1").save(out, "PNG")
    elif kind in ("png L", "png LA", "png RGB", "png RGBA"):
        image(kind.split()[1]).save(out, "PNG")
    elif kind == "png I;16":
        samples = draw_samples(random_, numbers, width, height, 1, random_.choice([300, 65535]))
        out.write(write_png16(samples.astype(np.uint16)))
    elif kind.startswith("png 16-bit"):
        channels = {"RGB": 3, "RGBA": 4, "LA": 2}[kind.split()[2]]
        out.write(write_png16(draw_samples(random_, numbers, width, height, channels, 65535)))
    elif kind == "png P":
        draw_palette_image(random_, numbers, width, height, random_.randint(1, 256)).save(
            out, "PNG", **({"transparency": 0} if random_.random() < 0.3 else {}))
    elif kind == "png few bits":
        colors = random_.choice([2, 4, 16])
        if random_.random() < 0.5:
            draw_palette_image(random_, numbers, width, height, colors).save(
                out, "PNG", bits={2: 1, 4: 2, 16: 4}[colors])
        else:  # Pillow cannot write grey of 2 or 4 bits: turn the colour type of an indexed file
            draw_palette_image(random_, numbers, width, height, colors).save(
                out, "PNG", bits={2: 1, 4: 2, 16: 4}[colors])
            data = bytearray(out.getvalue())
            data[25] = 0
            import struct
            import zlib

            data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
            at = data.index(b"PLTE") - 4
            length = int.from_bytes(data[at : at + 4], "big")
            del data[at : at + 12 + length]
            out = io.BytesIO(bytes(data))
    elif kind == "png tRNS":
        mode = random_.choice(["L", "RGB", "P"])
        if mode == "P":
            draw_palette_image(random_, numbers, width, height, 64).save(
                out, "PNG", transparency=bytes(random_.randrange(256) for _ in range(64)))
        else:
            image(mode).save(out, "PNG", transparency=7 if mode == "L" else (1, 2, 3))
    elif kind == "png interlaced":
        mode = random_.choice(["1", "L", "LA", "RGB", "RGBA", "P"])
        if mode == "P":
            drawn = draw_palette_image(random_, numbers, width, height, 256)
        else:
            drawn = image("L").convert("1") if mode == "1" else image(mode)
        out.write(interlaced_png(drawn))
    elif kind == "gif":
        choice = random_.randrange(3)
        drawn = (
            image("L") if choice == 0 else draw_palette_image(random_, numbers, width, height, random_.randint(2, 256)))
        drawn.save(
            out, "GIF", interlace=random_.randrange(2), **({"transparency": 1} if random_.random() < 0.4 else {}))
    elif kind == "gif animated":
        frames = [draw_palette_image(random_, numbers, width, height, 32) for _ in range(3)]
        frames[0].save(
            out, "GIF", save_all=True, append_images=frames[1:], disposal=random_.randrange(4), duration=50,
            **({"transparency": 3} if random_.random() < 0.5 else {}))
        if random_.random() < 0.5:  # the first picture beside the corner of a larger screen
            data = bytearray(out.getvalue())
            data[6:8] = (width + 5).to_bytes(2, "little")
            at = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
            if data[at + 1 : at + 5] == b"\0\0\0\0":
                data[at + 1] = 3
            out = io.BytesIO(bytes(data))
    elif kind == "webp lossy":
        image("RGB").save(out, "WEBP", quality=random_.randint(5, 98), method=0)
    elif kind == "webp lossless":
        image(random_.choice(["RGB", "RGBA"])).save(out, "WEBP", lossless=True, method=0, exact=random_.random() < 0.5)
    elif kind == "webp alpha":
        image("RGBA").save(out, "WEBP", quality=random_.randint(5, 98), method=0)
    elif kind == "webp animated":
        frames = [image(random_.choice(["RGB", "RGBA"])) for _ in range(2)]
        frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], duration=50, method=0)
    return kind, format_, out.getvalue()


def draw_writable_picture(random_, numbers):
    """Pillow's JPEG encoder runs out of its buffer with some small pictures of pure noise; those are drawn again."""
    while True:
        try:
            return draw_picture(random_, numbers)
        except OSError:
            continue


def damage(random_, data):
    data = bytearray(data)
    kind = random_.randrange(4)
    if kind == 0:
        return "cut", bytes(data[: random_.randint(0, len(data) - 1)])
    if kind == 1:
        return "cut near the end", bytes(data[: max(0, len(data) - random_.randint(1, 24))])
    for _ in range(random_.choice([1, 1, 2, 8])):
        at = random_.randrange(len(data)) if kind == 2 else random_.randrange(min(len(data), 200))
        data[at] = random_.randrange(256)
    return "flipped" if kind == 2 else "flipped near the start", bytes(data)


def reference(transform, path, formats=("JPEG", "PNG", "GIF", "WEBP")):
    """The reference's numbers and the picture's mode, or None and the error."""
    try:
        with Image.open(path, formats=formats) as image:
            mode = image.mode
            return transform(image).numpy(), mode
    except Exception as error:  # Pillow refuses damaged files with many kinds of errors
        return None, f"{type(error).__name__}: {error}"


def ours(binary, paths, how_made, folder):
    """Rows by path, and messages by path."""
    output = folder / "ours.npy"
    command = [*binary, "preprocess", *map(str, paths), *how_made, "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command[:3])} … ended with {done.returncode}:\n{done.stderr[-2000:]}")
    listing = Path(f"{output}.inputs.jsonl")
    if listing.exists():
        kept = [json.loads(line)["input"] for line in listing.read_text().splitlines()]
    else:
        failed = {path for path in map(str, paths) if re.search(re.escape(path) + r"\b", done.stderr)}
        kept = [path for path in map(str, paths) if path not in failed]
    rows = np.load(output) if kept else []
    if len(rows) != len(kept):
        sys.exit(f"{len(rows)} rows for {len(kept)} pictures")
    return dict(zip(kept, rows)), done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="+", help="clip-gpu, with options if any")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damage", action="store_true")
    parser.add_argument("--preprocess", type=json.loads, help="a preprocess_cfg of open_clip's, without a size")
    parser.add_argument("--keep", help="a folder to copy differing pictures to")
    options = parser.parse_args()
    random_ = random.Random(options.seed)
    numbers = np.random.default_rng(options.seed)
    transform = reference_transform(options.size)
    counts, wrong, stricter, refused = collections.Counter(), [], [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        how_made = ["--size", str(options.size)]
        if options.preprocess is not None:
            how_made = ["--model", str(model_folder(folder / "model", options.preprocess, options.size))]
            transform = open_clip_transform(options.preprocess, options.size)
        for start in range(0, options.count, 100):
            pictures = []
            for index in range(start, min(start + 100, options.count)):
                kind, ending, data = draw_writable_picture(random_, numbers)
                if options.damage:
                    how, data = damage(random_, data)
                    kind = f"{kind.split()[0]} {how}"
                path = folder / f"{index}.{ending}"
                path.write_bytes(data)
                pictures.append((kind, path))
            rows, messages = ours(options.binary, [path for _, path in pictures], how_made, folder)
            for kind, path in pictures:
                expected, mode = reference(transform, path)
                found = rows.get(str(path))
                if expected is None:
                    refused += 1
                    if found is not None:
                        wrong.append((kind, path.name, f"Pillow refuses it ({mode}), we read it"))
                counts[kind, "refused" if expected is None else mode] += 1
                if expected is None:
                    pass
                elif found is None:
                    said = next((line for line in messages.splitlines() if str(path) in line), "")
                    (stricter if options.damage else wrong).append(
                        (kind, path.name, f"Pillow reads it as {mode}, we refuse it: {said}"))
                elif found.tobytes() != expected.tobytes():
                    differing = int((found != expected).sum())
                    wrong.append((kind, path.name, f"{mode}: {differing} of {found.size} numbers differ"))
                if options.keep and wrong and wrong[-1][1] == path.name:
                    Path(options.keep, f"{options.seed}-{path.name}").write_bytes(path.read_bytes())
                path.unlink()
    for (kind, mode), count in sorted(counts.items()):
        print(f"{count:6d}  {kind} ({mode})")
    for kind, name, what in stricter[:100]:
        print(f"stricter: {kind} {name}: {what}")
    for kind, name, what in wrong[:100]:
        print(f"differs: {kind} {name}: {what}")
    print(
        f"{sum(counts.values())} pictures of size {options.size}: {refused} refused by Pillow, "
        f"{len(stricter)} refused by us alone, {len(wrong)} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
