"""Compares full-size embeddings of `clip-gpu` with transformers' or open_clip's, on each device, and their bytes at each
batch size.

    python tools/make_checkpoints.py FOLDER --models ViT-B-32
    python tools/compare_full_size.py FOLDER/ViT-B-32 [--devices cpu opencl:0] [--batches 1 3 16]
    python tools/compare_full_size.py --model RN50-quickgelu [--scratch FOLDER]

The first form takes a folder of transformers' `CLIPModel`. --model takes the name of one of open_clip's configurations,
whose weights it draws and writes as open_clip would, into a folder that is deleted afterwards. In the place of another
tokenizer than CLIP's stands a small one of the same kind, trained on the spot, whose ids are a few of the vocabulary's.

Pictures are normalised noise and smooth gradients, texts are of many lengths; token ids are `clip-gpu tokenize`'s where
the tokenizer is CLIP's, so that only the model is compared. The reference computes in float64, one tower after the
other; that takes twice the memory of the greater tower, beside all weights. For each device the worst relative error of an
embedding is printed, the least cosine after the mean of the set is subtracted (embeddings of one model point the same
way, which hides differences), whether all batch sizes gave the same bytes, and each tower's time from start to end and
peak memory for one input beside its weights', and what a process without weights takes. Exits with 1 where bytes differ or the
error is above the limit and, with --model, above twice that of the reference's own float32.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import CLIPModel

TEXTS = ["", "a", "a photo of a cat", "a diagram", "two dogs run after a red ball on the beach at dusk",
         "1234567890 !!! ???", "日本語の文章", "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 2,
         "the quick brown fox jumps over the lazy dog"]


def run(binary: str, *arguments: str) -> bytes:
    finished = subprocess.run([binary, *arguments], capture_output=True)
    if finished.returncode != 0:
        sys.exit(f"{binary} {' '.join(arguments)} failed:\n{finished.stderr.decode()}")
    return finished.stdout


def measured(binary: str, *arguments: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of a run."""
    start, peak = time.monotonic(), 0
    child = subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Not `ru_maxrss`, which counts what this process had when it forked.
    while child.poll() is None:
        try:
            status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
        except OSError:
            break
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(0.005)
    if child.wait() != 0:
        sys.exit(f"{binary} {' '.join(arguments)} failed")
    return time.monotonic() - start, peak


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


def open_clip_model(name: str, folder: pathlib.Path):
    """A model of open_clip's with drawn weights, written as open_clip does; and its configuration."""
    import open_clip
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    from compare_open_clip_configs import copy_tokenizer, make_tokenizers, tokenizer_kind, with_local_text_model
    from make_open_clip_fixtures import draw

    config = open_clip.get_model_config(name) or sys.exit(f"open_clip has no configuration {name}")
    full = json.loads(json.dumps(config))
    text = config.pop("text_cfg")
    kind = CustomTextCLIP if config.pop("custom_text", False) or "hf_model_name" in text else CLIP
    tokenizer = tokenizer_kind(text)
    if tokenizer:
        with tempfile.TemporaryDirectory() as tokenizers:
            make_tokenizers(pathlib.Path(tokenizers))
            copy_tokenizer(pathlib.Path(tokenizers) / tokenizer, folder)
    if "hf_model_name" in text:
        text = with_local_text_model(text, folder)
    vision, text = CLIPVisionCfg(**config.pop("vision_cfg")), CLIPTextCfg(**text)
    model = draw(kind(**config, vision_cfg=vision, text_cfg=text), 1)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": full, "preprocess_cfg": {}}))
    return model, full


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path, nargs="?")
    parser.add_argument("--model", help="one of open_clip's configurations, such as RN50-quickgelu")
    parser.add_argument("--scratch", help="where the weights of --model are written")
    parser.add_argument("--binary", default=str(pathlib.Path(__file__).parent.parent / ".build/release/clip-gpu"))
    parser.add_argument("--devices", nargs="+", help="default: all that `clip-gpu devices` lists")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 3, 16])
    parser.add_argument("--images", type=int, default=9)
    parser.add_argument("--limit", type=float, default=1e-4, help="worst relative error of an embedding")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) == (arguments.model is None):
        parser.error("name a checkpoint or a --model")
    if not arguments.devices:
        listed = run(arguments.binary, "devices", "--json").decode()
        arguments.devices = [json.loads(line)["device"] for line in listed.splitlines()]
    if arguments.checkpoint is not None:
        config = json.loads((arguments.checkpoint / "config.json").read_text())
        pixels = pictures(arguments.images, config["vision_config"].get("image_size", 224))
        ids = tokens(arguments.binary)
        reference = expected(arguments.checkpoint, pixels, ids)
        sys.exit(compare(arguments, arguments.checkpoint, pixels, TEXTS, reference, {}))
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
        folder = pathlib.Path(name) / arguments.model
        folder.mkdir()
        model, config = open_clip_model(arguments.model, folder)
        weights = {"image": sum(p.numel() for p in model.visual.parameters()) * 4}
        weights["text"] = sum(p.numel() for p in model.parameters()) * 4 - weights["image"]
        pixels = pictures(arguments.images, config["vision_cfg"]["image_size"])
        if config["text_cfg"].get("hf_tokenizer_name"):
            import open_clip

            ids = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
        else:
            ids = torch.tensor(tokens(arguments.binary))
        model.eval()
        with torch.inference_mode():
            visual, model.visual = model.visual, None
            own = [model.encode_text(row[None]) for row in ids]
            model.double()
            texts = [model.encode_text(row[None]) for row in ids]
            del model
            own = [visual(torch.from_numpy(p[None])) for p in pixels] + own
            visual.double()
            rows = [visual(torch.from_numpy(p[None]).double()) for p in pixels] + texts
        reference, own = torch.cat(rows).numpy(), torch.cat(own).numpy()
        del visual, rows, texts
        sys.exit(compare(arguments, folder, pixels, TEXTS, reference, weights, own))


def tokens(binary: str) -> list[list[int]]:
    """None of the texts holds a special token, so both flavours of CLIP's tokenizer agree."""
    return [json.loads(line) for line in run(binary, "tokenize", "--truncate", "--", *TEXTS).splitlines()]


def worst(found: np.ndarray, wanted: np.ndarray) -> float:
    return (np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max()


def compare(arguments, checkpoint: pathlib.Path, pixels, texts: list[str], reference, weights: dict[str, int],
            own: np.ndarray | None = None) -> int:
    failed = False
    parts = {"image": slice(0, len(pixels)), "text": slice(len(pixels), None)}
    model = ["--model", str(checkpoint), "--precision", arguments.precision]
    with tempfile.TemporaryDirectory() as folder:
        source, one, output = (str(pathlib.Path(folder) / name) for name in ("pixels.npy", "one.npy", "out.npy"))
        np.save(source, pixels)
        np.save(one, pixels[:1])
        sentences = ["--truncate", *(part for text in texts for part in ("--text", text))]
        for device in arguments.devices:
            about = f"{checkpoint.name} {device} {arguments.precision}"
            results = []
            for batch in arguments.batches:
                run(arguments.binary, "embed", *model, "--device", device, "--batch-size", str(batch), "--raw", "--format",
                    "npy", "--output", output, source, *sentences)
                results.append(np.load(output))
            same = all(r.tobytes() == results[0].tobytes() for r in results)
            failed |= not same
            for name, part in parts.items():
                found, wanted = results[0][part].astype(np.float64), reference[part]
                error = worst(found, wanted)
                limit, beside = arguments.limit, ""
                if own is not None:
                    # Drawn weights can be such that a hair in the pixels decides: then nobody's float32 is near.
                    theirs = worst(own[part].astype(np.float64), wanted)
                    limit, beside = max(limit, 2 * theirs), f" (the reference's own in float32: {theirs:.2e})"
                found, wanted = found - wanted.mean(0), wanted - wanted.mean(0)
                cosine = ((found * wanted).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)).min()
                failed |= not error <= limit
                print(f"{about} {name}: relative error {error:.2e}{beside}, least centred cosine 1 - {1 - cosine:.1e}, "
                      f"{len(wanted)} embeddings", flush=True)
            print(f"{about}: batches {arguments.batches} {'give the same bytes' if same else 'DIFFER'}", flush=True)
            for name in parts:
                inputs = [one] if name == "image" else ["--truncate", "--text", texts[-1]]
                seconds, peak = measured(arguments.binary, "embed", *model, "--device", device, "--batch-size", "1",
                                         "--format", "npy", "--output", output, *inputs)
                beside = f", {peak / weights[name]:.2f} times its weights in float32" if name in weights else ""
                print(f"{about} one {name}: {seconds:.1f} s from start to end, peak {peak / 2**20:.0f} MiB{beside}",
                      flush=True)
    print(f"without weights: {measured(arguments.binary, 'inspect', str(checkpoint))[1] / 2**20:.0f} MiB")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
