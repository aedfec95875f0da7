"""Compares full-size embeddings of `clip-gpu` with transformers', on each device, and their bytes at each batch size.

    python tools/make_checkpoints.py FOLDER --models ViT-B-32
    python tools/compare_full_size.py FOLDER/ViT-B-32 [--devices cpu opencl:0] [--batches 1 3 16]

Pictures are normalised noise and smooth gradients, texts are of many lengths; token ids are `clip-gpu tokenize`'s, so
that only the model is compared. transformers computes in float64. For each device the worst relative error of an
embedding is printed, the least cosine after the mean of the set is subtracted (embeddings of one model point the same
way, which hides differences), and whether all batch sizes gave the same bytes. Exits with 1 where the error is above
the limit or bytes differ.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import CLIPModel

TEXTS = ["", "a", "a photo of a cat", "a diagram", "two dogs run after a red ball on the beach at dusk",
         "1234567890 !!! ???", "日本語の文章", "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 2,
         "the quick brown fox jumps over the lazy dog"]


def run(binary: str, *arguments: str) -> bytes:
    finished = subprocess.run([binary, *arguments], capture_output=True)
    if finished.returncode != 0:
        sys.exit(f"{binary} {' '.join(arguments)} failed:\n{finished.stderr.decode()}")
    return finished.stdout


def pictures(count: int, size: int) -> np.ndarray:
    """Normalised pixels [count, 3, size, size]: noise of several strengths, and gradients."""
    generator = np.random.default_rng(1)
    noise = generator.standard_normal((count, 3, size, size)) * generator.uniform(0.1, 1, (count, 1, 1, 1))
    ramp = np.linspace(-1.8, 2.1, size)
    slopes = generator.uniform(-1, 1, (count, 3, 2))
    gradient = slopes[:, :, :1, None] * ramp[None, None, :, None] + slopes[:, :, 1:, None] * ramp[None, None, None, :]
    return (noise + gradient).astype(np.float32)


def expected(folder: pathlib.Path, pixels: np.ndarray, ids: list[list[int]]) -> np.ndarray:
    """transformers' features in float64, pictures before texts."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    with torch.inference_mode():
        images = [model.get_image_features(torch.from_numpy(p[None]).double()) for p in pixels]
        texts = [model.get_text_features(torch.tensor([row])) for row in ids]
    rows = [getattr(r, "pooler_output", r) for r in images + texts]
    return torch.cat(rows).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--binary", default=str(pathlib.Path(__file__).parent.parent / ".build/release/clip-gpu"))
    parser.add_argument("--devices", nargs="+", help="default: all that `clip-gpu devices` lists")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 3, 16])
    parser.add_argument("--images", type=int, default=9)
    parser.add_argument("--limit", type=float, default=1e-4, help="worst relative error of an embedding")
    arguments = parser.parse_args()

    devices = arguments.devices
    if not devices:
        listed = run(arguments.binary, "devices", "--json").decode()
        devices = [json.loads(line)["device"] for line in listed.splitlines()]
    config = json.loads((arguments.checkpoint / "config.json").read_text())
    pixels = pictures(arguments.images, config["vision_config"].get("image_size", 224))
    ids = [json.loads(line) for line in run(arguments.binary, "tokenize", "--truncate", "--", *TEXTS).splitlines()]
    reference = expected(arguments.checkpoint, pixels, ids)
    parts = {"image": slice(0, len(pixels)), "text": slice(len(pixels), None)}

    failed = False
    with tempfile.TemporaryDirectory() as folder:
        source = str(pathlib.Path(folder) / "pixels.npy")
        np.save(source, pixels)
        for device in devices:
            results = []
            for batch in arguments.batches:
                output = str(pathlib.Path(folder) / "out.npy")
                texts = [part for text in TEXTS for part in ("--text", text)]
                run(arguments.binary, "embed", "--model", str(arguments.checkpoint), "--device", device, "--precision",
                    arguments.precision, "--batch-size", str(batch), "--raw", "--format", "npy", "--output", output,
                    source, *texts)
                results.append(np.load(output))
            same = all(r.tobytes() == results[0].tobytes() for r in results)
            failed |= not same
            for name, part in parts.items():
                found, wanted = results[0][part].astype(np.float64), reference[part]
                error = (np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max()
                found, wanted = found - wanted.mean(0), wanted - wanted.mean(0)
                cosine = ((found * wanted).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)).min()
                failed |= not error <= arguments.limit
                print(f"{arguments.checkpoint.name} {device} {arguments.precision} {name}: relative error {error:.2e}, "
                      f"least centred cosine 1 - {1 - cosine:.1e}, {len(wanted)} embeddings")
            print(f"{arguments.checkpoint.name} {device} {arguments.precision}: batches {arguments.batches} "
                  f"{'give the same bytes' if same else 'DIFFER'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
