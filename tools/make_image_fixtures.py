#!/usr/bin/env python3
"""Makes Tests/CLIPInputTests/Fixtures/pictures: small pictures over all formats and modes with the reference's pixels.

Beside each picture lie the RGB bytes, [size, size, 3], that the reference feeds its model before scaling them to
floats; `pictures.json` lists what was asked for. The reference is torchvision's Resize and CenterCrop with Pillow 13,
as openai-clip composes them, and open_clip's image_transform for the other resize modes. Pictures that Pillow refuses
are listed with "refused". Needs Pillow 13, numpy, torch, torchvision and open_clip.
"""

import io
import json
import random
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import open_clip
import PIL
import torchvision.transforms
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).parent))
import compare_pixels as drawing

FOLDER = Path(__file__).parent.parent / "Tests/CLIPInputTests/Fixtures/pictures"
SIZE = 20

cases = []


def reference(data, exif, resize_mode, interpolation, fill, size):
    """(RGB bytes before ToTensor, all of the transform's floats)"""
    transform = open_clip.transform.image_transform(
        size, is_train=False, resize_mode=resize_mode, interpolation=interpolation, fill_color=fill)
    steps = transform.transforms
    image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "GIF", "WEBP"))
    if exif:
        image = ImageOps.exif_transpose(image)
    before = torchvision.transforms.Compose(steps[:-2])(image)
    return np.asarray(before).tobytes(), torchvision.transforms.Compose(steps[-2:])(before).numpy()


def add(name, data, exif=False, resize_mode="shortest", interpolation="bicubic", fill=0, size=SIZE, file=None):
    """One case; `file` names a picture that an earlier case has written."""
    case = {"file": file or name, "size": size}
    if exif:
        case["exif"] = True
    if resize_mode != "shortest":
        case["resizeMode"] = resize_mode
    if interpolation != "bicubic":
        case["interpolation"] = interpolation
    if fill:
        case["fill"] = fill
    if not file:
        (FOLDER / name).write_bytes(data)
    try:
        pixels, floats = reference(data, exif, resize_mode, interpolation, fill, size)
        case["expected"] = f"{name}.rgb"
        (FOLDER / f"{name}.rgb").write_bytes(pixels)
        if name == "rgb-420.jpeg":
            case["normalized"] = f"{name}.f32"
            (FOLDER / f"{name}.f32").write_bytes(floats.astype("<f4").tobytes())
    except Exception as error:  # Pillow refuses damaged files with many kinds of errors
        case["refused"] = f"{type(error).__name__}: {error}".split(" <_io")[0]
    cases.append(case)


def main():
    assert PIL.__version__.startswith("13."), f"the pixels of Pillow 13 are wanted, this is {PIL.__version__}"
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    random_, numbers = random.Random(7), np.random.default_rng(7)

    def photo(mode, width, height):
        """Smooth with noise and a sharp edge, and for alpha all of transparent, half and opaque."""
        channels = {"1": 1, "L": 1, "P": 3, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
        y, x = np.mgrid[0:height, 0:width]
        planes = [
            np.clip(128 + 90 * np.sin(x / (3.0 + c) + c) * np.cos(y / 5.0) + numbers.normal(size=x.shape) * 15, 0, 255)
            for c in range(channels)]
        if mode in ("LA", "RGBA"):
            planes[-1] = np.where(x < width / 3, 0, np.where(y < height / 2, 255, planes[-1]))
        samples = np.stack(planes, -1).astype(np.uint8)
        samples[height // 2 :, : width // 4, : min(3, channels)] //= 4
        if mode == "1":
            return Image.fromarray(samples[..., 0], "L").convert("1")
        if mode == "P":
            return Image.fromarray(samples, "RGB").quantize(40)
        return Image.frombytes(mode, (width, height), samples.tobytes())

    def saved(image, format_, **options):
        out = io.BytesIO()
        image.save(out, format_, **options)
        return out.getvalue()

    # JPEG
    for name, subsampling in [("444", 0), ("422", 1), ("420", 2), ("411", "4:1:1")]:
        add(f"rgb-{name}.jpeg", saved(photo("RGB", 47, 33), "JPEG", quality=85, subsampling=subsampling))
    add("progressive.jpeg", saved(photo("RGB", 41, 50), "JPEG", progressive=True, quality=80))
    add("restarts.jpeg", saved(photo("RGB", 50, 41), "JPEG", restart_marker_blocks=2))
    add("grey.jpeg", saved(photo("L", 64, 39), "JPEG"))
    add("cmyk.jpeg", saved(photo("CMYK", 33, 47), "JPEG", quality=90))
    add("stored-rgb.jpeg", saved(photo("RGB", 33, 31), "JPEG", keep_rgb=True, subsampling=0, quality=90))
    for name in ["cmyk.jpeg", "stored-rgb.jpeg"]:  # Adobe's marker decides what the channels are
        for transform in [1, 2]:
            data = bytearray((FOLDER / name).read_bytes())
            data[data.index(b"Adobe") + 11] = transform
            add(f"adobe-{transform}-{name}", bytes(data))
        add(f"no-adobe-{name}", (FOLDER / name).read_bytes().replace(b"Adobe", b"Other"))
    # Shapes: the vertical pass comes first for tall pictures; long sides are cut; nothing to do for the exact size
    for width, height in [(30, 90), (90, 30), (20, 61), (61, 20), (1, 1), (1, 37), (37, 1), (2, 300), (300, 2), (20, 20)]:
        add(f"{width}x{height}.png", saved(photo("RGB", width, height), "PNG"))
        add(f"{width}x{height}-alpha.png", saved(photo("RGBA", width, height), "PNG"))
    # The cut in the middle: differences of 1, 3, 5, 7 are halved to the even number
    for difference in [1, 2, 3, 5, 7]:
        add(f"cut-{difference}.png", saved(photo("RGB", SIZE + difference, SIZE), "PNG"))
    # PNG modes
    for mode in ["1", "L", "LA", "P", "RGB", "RGBA"]:
        image = photo(mode, 45, 37)
        add(f"mode-{mode}.png", saved(image, "PNG"))
        if mode != "1":
            add(f"interlaced-{mode}.png", drawing.interlaced_png(image))
    add("interlaced-1.png", drawing.interlaced_png(photo("1", 45, 37)))
    for channels, mode in [(1, "I16"), (2, "LA"), (3, "RGB"), (4, "RGBA")]:
        samples = numbers.integers(0, 400 if channels == 1 else 65536, (29, 44, channels)).astype(np.uint16)
        add(f"16-bit-{mode}.png", drawing.write_png16(samples))
    for bits in [1, 2, 4]:
        add(f"palette-{bits}-bit.png", saved(photo("RGB", 40, 26).quantize(2**bits), "PNG", bits=bits))
    add("transparent-grey.png", saved(photo("L", 30, 40), "PNG", transparency=100))
    add("transparent-rgb.png", saved(photo("RGB", 30, 40), "PNG", transparency=(1, 2, 3)))
    add("transparent-palette.png", saved(photo("P", 30, 40), "PNG", transparency=bytes(range(40))))
    # GIF
    palette = photo("P", 45, 37)
    add("palette.gif", saved(palette, "GIF", interlace=0))
    add("interlaced.gif", saved(palette, "GIF", interlace=1))
    add("transparent.gif", saved(palette, "GIF", transparency=3))
    add("grey.gif", saved(photo("L", 45, 37), "GIF"))
    add("animated.gif", saved(
        palette, "GIF", save_all=True, append_images=[photo("P", 45, 37)], disposal=2, transparency=5))
    for name, transparent in [("beside.gif", {}), ("beside-transparent.gif", {"transparency": 6})]:
        data = bytearray(saved(palette, "GIF", **transparent))
        data[6:10] = struct.pack("<HH", 60, 50)  # a screen larger than its picture
        at = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
        data[at + 1 : at + 5] = struct.pack("<HH", 7, 5)
        add(name, bytes(data))
        data[6:10] = struct.pack("<HH", 20, 10)  # and one that the picture juts out of
        add("out-of-" + name, bytes(data))
    # WebP
    add("lossy.webp", saved(photo("RGB", 45, 37), "WEBP", quality=70))
    add("lossy-alpha.webp", saved(photo("RGBA", 45, 37), "WEBP", quality=70))
    add("lossless.webp", saved(photo("RGB", 45, 37), "WEBP", lossless=True))
    add("lossless-alpha.webp", saved(photo("RGBA", 45, 37), "WEBP", lossless=True, exact=True))
    add("animated.webp", saved(
        photo("RGBA", 45, 37), "WEBP", save_all=True, append_images=[photo("RGB", 45, 37)]))
    # The other ways of scaling, in every mode
    others = ["mode-1.png", "mode-P.png", "mode-LA.png", "mode-RGBA.png", "16-bit-I16.png", "cmyk.jpeg", "rgb-444.jpeg",
              "grey.jpeg", "30x90.png", "1x37.png"]
    for name in others:
        data = (FOLDER / name).read_bytes()
        add(f"{name}.squash", data, resize_mode="squash", file=name)
        add(f"{name}.longest", data, resize_mode="longest", file=name)
        add(f"{name}.longest-fill", data, resize_mode="longest", fill=77, file=name)
        add(f"{name}.bilinear", data, interpolation="bilinear", file=name)
        add(f"{name}.bilinear-squash", data, resize_mode="squash", interpolation="bilinear", file=name)
        add(f"{name}.larger", data, size=45, file=name)
    # Orientation
    for orientation in range(1, 10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        name = f"orientation-{orientation}.jpeg"
        data = saved(photo("RGB", 31, 22), "JPEG", exif=exif)
        add(name, data)
        add(f"{name}.exif", data, exif=True, file=name)
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    for name, data in [
        ("orientation.png", saved(photo("RGBA", 31, 22), "PNG", exif=exif)),
        ("orientation.webp", saved(photo("RGB", 31, 22), "WEBP", exif=exif)),
        ("orientation-xmp.jpeg", saved(photo("RGB", 31, 22), "JPEG", xmp=xmp)),
        ("orientation-xmp.webp", saved(photo("RGB", 31, 22), "WEBP", xmp=xmp)),
        ("orientation-16-bit.png", saved(Image.fromarray(
            numbers.integers(0, 300, (22, 31)).astype(np.uint16)), "PNG", exif=exif)),
    ]:
        add(name, data)
        add(f"{name}.exif", data, exif=True, file=name)
    # What Pillow refuses, and what it reads although it is not whole
    sources = {name: (FOLDER / name).read_bytes() for name in
               ["rgb-420.jpeg", "progressive.jpeg", "mode-RGB.png", "interlaced-RGB.png", "palette.gif", "lossy.webp"]}
    for name, data in sources.items():
        stem, ending = name.split(".")
        for share in [0.02, 0.3, 0.7]:
            add(f"{stem}-cut-{int(share * 100)}.{ending}", data[: max(4, int(len(data) * share))])
        for missing in [1, 2, 3, 8, 14, 18]:
            add(f"{stem}-without-last-{missing}.{ending}", data[:-missing])
    png = bytearray(sources["mode-RGB.png"])
    png[20] ^= 1
    add("wrong-header-checksum.png", bytes(png))
    png = bytearray(sources["mode-RGB.png"])
    png[png.index(b"IEND") - 5] ^= 1
    add("wrong-data-checksum.png", bytes(png))
    for name in ["rgb-420.jpeg", "mode-RGB.png", "palette.gif", "lossy.webp"]:
        stem, ending = name.split(".")
        data = bytearray(sources[name])
        for _ in range(3):
            data[random_.randrange(len(data) // 3, len(data) - 8)] ^= 1 << random_.randrange(8)
        add(f"{stem}-flipped.{ending}", bytes(data))
    add("text.png", b"This is not a picture, whatever it is called.\n")
    add("wrong-ending.jpeg", sources["mode-RGB.png"])

    (FOLDER / "pictures.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    total = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{len(cases)} cases, {sum('refused' in case for case in cases)} refused, {total / 1000:.0f} kB")


if __name__ == "__main__":
    main()
