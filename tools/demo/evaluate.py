"""Prints the demonstration model's figures, computed by transformers from picture files and sentences.

    python tools/demo/evaluate.py                     the fixed set that the Swift tests use
    python tools/demo/evaluate.py --fresh 20 --seed 5 twenty sets of other scenes: mean and spread
    python tools/demo/evaluate.py --make              draws the fixed set and writes the reference's embeddings

A set is 512 scenes of one shape (eight of each class) and 256 of any kind whose captions all differ.
"""

import argparse
import io
import json
from pathlib import Path

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file

import model as demo
import scenes

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "Sources" / "CDemoModel" / "Model"
FIXTURES = ROOT / "Tests" / "CLIPGPUTests" / "Fixtures" / "demo-evaluation"
SEED, DRAWN_AT = 20_000_003, 96  # no training seed reaches this one


def draw_set(seed, size=DRAWN_AT, gradient=0.0):
    """picture files (lossless WebP), and a dictionary for each: kind, label, caption, whether a held-out pair is in it.

    The fixed set is drawn without a gradient, which would make its files twice as large.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    single = scenes.draw(512, generator, held_out=True, double=0)
    classes = torch.arange(512) % 64
    single["colour1"], single["shape1"] = classes // 8, classes % 8
    texts = scenes.captions(single, True, seed)[0]

    # Scenes that differ in what a full caption says; the rest are drawn again
    many = scenes.draw(400, generator, held_out=True)
    wording = scenes.captions(many, True, seed + 1)[0]
    facts = [tuple(row.values()) for row in scenes.rows(many)]
    chosen = [i for i in range(400) if facts.index(facts[i]) == i and wording.index(wording[i]) == i][:256]
    several = {name: values[chosen] for name, values in many.items()}
    texts += [wording[i] for i in chosen]

    pictures = torch.cat([scenes.render(part, size, generator, (1, 1), gradient) for part in (single, several)])
    files, records = [], []
    for i, (scene, text) in enumerate(zip(scenes.rows(single) + scenes.rows(several), texts)):
        file = io.BytesIO()
        Image.fromarray(pictures[i].numpy()).save(file, "WEBP", lossless=True)
        files.append(file.getvalue())
        held = (scene["colour1"], scene["shape1"]) in scenes.HELD_OUT or (
            scene["colour2"], scene["shape2"]) in scenes.HELD_OUT
        records.append({"kind": "class" if i < 512 else "caption", "caption": text, "held_out": held,
                        "label": scene["colour1"] * 8 + scene["shape1"] if i < 512 else None})
    return files, records


def pixels(file):
    """CLIP's preprocessing with Pillow: shorter side by bicubic, centre crop, RGB, mean and deviation."""
    size = demo.IMAGE_SIZE
    image = Image.open(io.BytesIO(file))
    width, height = image.size
    short = min(width, height)
    image = image.resize((int(size * width / short), int(size * height / short)), Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    image = image.crop((left, top, left + size, top + size)).convert("RGB")
    x = numpy.asarray(image, dtype=numpy.float32) / 255
    x = (x - numpy.array(demo.MEAN, dtype=numpy.float32)) / numpy.array(demo.DEVIATION, dtype=numpy.float32)
    return torch.from_numpy(x.transpose(2, 0, 1))


class Reference:
    """transformers' CLIPModel from the files that are embedded, computing in double."""

    def __init__(self, folder):
        from transformers import CLIPModel

        self.model = CLIPModel.from_pretrained(folder).double().eval()
        self.words = demo.Words()

    @torch.no_grad()
    def images(self, files):
        batch = torch.stack([pixels(file) for file in files]).double()
        return self.model.get_image_features(pixel_values=batch).pooler_output.float()

    @torch.no_grad()
    def texts(self, texts):
        ids = [self.words.encode(text) for text in texts]
        length = max(map(len, ids))
        batch = torch.tensor([row + [demo.END] * (length - len(row)) for row in ids])
        return self.model.get_text_features(input_ids=batch).pooler_output.float()


def unit(x):
    return torch.nn.functional.normalize(x, dim=1)


def figures(reference, files, records):
    images, captions = reference.images(files), reference.texts([r["caption"] for r in records[512:]])
    prompts = reference.texts(scenes.class_prompts())
    right = (unit(images[:512]) @ unit(prompts).T).argmax(1) == torch.tensor([r["label"] for r in records[:512]])
    held = torch.tensor([r["held_out"] for r in records[:512]])
    similarity, own = unit(images[512:]) @ unit(captions).T, torch.arange(256)
    result = {
        "zero-shot, seen pairs": right[~held], "zero-shot, held-out pairs": right[held],
        "R@1, picture to caption": similarity.argmax(1) == own, "R@1, caption to picture": similarity.argmax(0) == own,
    }
    embeddings = {"images": images, "captions": captions, "prompts": prompts}
    return {name: values.float().mean().item() for name, values in result.items()}, embeddings


def write(files, records, embeddings):
    FIXTURES.mkdir(parents=True, exist_ok=True)
    offset = 0
    with open(FIXTURES / "pictures.bin", "wb") as pictures, open(FIXTURES / "scenes.jsonl", "w") as lines:
        for file, record in zip(files, records):
            pictures.write(file)
            lines.write(json.dumps({"offset": offset, "length": len(file), **record}) + "\n")
            offset += len(file)
    (FIXTURES / "classes.json").write_text(json.dumps({
        "prompts": scenes.class_prompts(), "held_out": [c * 8 + s for c, s in scenes.HELD_OUT]}, indent=1) + "\n")
    save_file(embeddings, FIXTURES / "reference.safetensors")


def read():
    records = [json.loads(line) for line in open(FIXTURES / "scenes.jsonl")]
    data = (FIXTURES / "pictures.bin").read_bytes()
    return [data[r["offset"]: r["offset"] + r["length"]] for r in records], records


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--fresh", type=int, default=0, metavar="SETS")
    parser.add_argument("--size", type=int, default=256, help="at which fresh scenes are drawn")
    parser.add_argument("--seed", type=int, default=30_000_001)
    options = parser.parse_args()
    reference = Reference(options.model)
    if options.fresh:
        runs = [figures(reference, *draw_set(options.seed + i, options.size, 0.05))[0] for i in range(options.fresh)]
        for name in runs[0]:
            values = torch.tensor([run[name] for run in runs])
            print(f"{name}: {100 * values.mean():.1f} %, from {100 * values.min():.1f} to {100 * values.max():.1f} "
                  f"in {options.fresh} sets")
        return
    files, records = draw_set(SEED) if options.make else read()
    result, embeddings = figures(reference, files, records)
    if options.make:
        write(files, records, embeddings)
    for name, value in result.items():
        print(f"{name}: {100 * value:.1f} %")


if __name__ == "__main__":
    main()
