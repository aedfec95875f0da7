"""Compares `clip-gpu` with open_clip on every architecture of open_clip's own model_configs, shrunk to two layers.

    python tools/compare_open_clip_configs.py [--binary PATH] [--only WORD]… [--device cpu]

Widths, heads and patches are the configurations' own, and so is the vocabulary where the tokenizer is CLIP's; in the place
of others stands a small one of the same kind, trained on the spot. Every tensor is drawn. Of timm's image towers those of SigLIP are
made; all others, and text towers that cannot be had without the hub, must be refused by name. Prints the worst relative
error of an embedding after the mean of its set is subtracted, and exits with 1 where one is above the limit; an
architecture that is refused is listed with the reason and counts as neither.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import timm
import tokenizer_folders
import torch
import transformers
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from safetensors.torch import save_file

from make_open_clip_fixtures import draw

TEXTS = ["a photo of a cat", "", "two dogs run <|endoftext|> after a ball", "an end <end_of_text> and more"]
LIMIT = 1e-4
TOKENIZERS = [("SigLIP2", "gemma-json"), ("SigLIP", "siglip-unigram"), ("xlm", "xlm-roberta"), ("mt5", "t5"),
              ("bert", "bert-uncased")]  # by what stands in hf_tokenizer_name
XLM = {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
MT5 = {"vocab_size": 250112, "d_kv": 64, "num_decoder_layers": 1}  # open_clip drops the decoder
# As the hub's config.json says; ours knows them by name.
TEXT_MODELS = {
    "xlm-roberta-base": transformers.XLMRobertaConfig(**XLM),
    "xlm-roberta-large": transformers.XLMRobertaConfig(
        num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, intermediate_size=4096, **XLM),
    "google/mt5-base": transformers.MT5Config(num_layers=12, d_model=768, d_ff=2048, num_heads=12, **MT5),
    "google/mt5-xl": transformers.MT5Config(num_layers=24, d_model=2048, d_ff=5120, num_heads=32, **MT5),
}


def build(config, folder, vocabulary):
    """The reference's model; none where it cannot be made, which must then be refused."""
    full = json.loads(json.dumps(config))
    vision, text = full["vision_cfg"], full["text_cfg"]
    is_timm, name = "timm_model_name" in vision, text.get("hf_model_name")
    if is_timm and "_siglip_" not in vision["timm_model_name"] or name is not None and name not in TEXT_MODELS:
        return None
    kind = CustomTextCLIP if full.get("custom_text") or name else CLIP
    given = {key: value for key, value in full.items() if key in ("embed_dim", "quick_gelu", "init_logit_bias")}
    if "multimodal_cfg" in full:
        kind = CoCa
        given["multimodal_cfg"] = {**full["multimodal_cfg"], "layers": 1}
    if name:
        TEXT_MODELS[name].vocab_size = vocabulary
        TEXT_MODELS[name].num_hidden_layers = 2
        text = with_local_text_model(text, folder)
    create = timm.create_model
    if is_timm:
        timm.create_model = lambda *names, **options: create(*names, **options, depth=2)
    model = kind(**given, vision_cfg=CLIPVisionCfg(**vision), text_cfg=CLIPTextCfg(**text))
    timm.create_model = create
    return draw(model, 3)


def with_local_text_model(text, folder):
    """A `text_cfg` whose transformers' tower is built from a configuration in this folder, without weights."""
    TEXT_MODELS[text["hf_model_name"]].save_pretrained(folder / "text")
    return {**text, "hf_model_name": str(folder / "text"), "hf_model_pretrained": False}


def tokenizer_kind(text):
    """The folder of `make_tokenizers` that stands for a `text_cfg`'s tokenizer; none for CLIP's own."""
    name = text.get("hf_tokenizer_name") or ""
    return next((folder for word, folder in TOKENIZERS if word in name), None)


def make_tokenizers(root):
    lines = tokenizer_folders.corpus()
    tokenizer_folders.class_folders(lines, root)
    name, files, model_type, config = next(tokenizer_folders.sig_lip_folders(lines))
    tokenizer_folders.write(root / name, files, model_type, **config)


def copy_tokenizer(source, folder):
    for path in source.iterdir():
        if path.name != "config.json":  # it would say that the model is transformers'
            shutil.copy(path, folder)


def compare(config, binary, device, folder, tokenizers):
    full = json.loads(json.dumps(config))
    vision, text = full["vision_cfg"], full["text_cfg"]
    if "timm_model_name" not in vision:
        vision["layers"] = [1, 1, 1, 1] if isinstance(vision["layers"], list) else 2
    if "hf_model_name" not in text:
        text["layers"] = 2
    vocabulary, kind = text.get("vocab_size", 49408), tokenizer_kind(text)
    if kind:
        vocabulary = len(transformers.AutoTokenizer.from_pretrained(tokenizers / kind))
        copy_tokenizer(tokenizers / kind, folder)
        if "vocab_size" in text:
            text["vocab_size"] = vocabulary
    model = build(full, folder, vocabulary)
    state = {"logit_scale": torch.zeros(())} if model is None else model.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": full, "preprocess_cfg": {}}))

    size = vision["image_size"]
    generator = torch.Generator().manual_seed(4)
    pixels = torch.nn.functional.interpolate(2 * torch.randn(3, 3, 2, 2, generator=generator), size)
    pixels = pixels + 0.5 * torch.randn(pixels.shape, generator=generator)
    np.save(folder / "pixels.npy", pixels.numpy())
    texts = TEXTS if kind or vocabulary == 49408 else []
    command = [binary, "embed", str(folder / "pixels.npy"), "--model", str(folder), "--device", device, "--raw",
               "--precision", "fp32", "--truncate", "--output", str(folder / "out.npy")]
    for sentence in texts:
        command += ["--text", sentence]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode == 4:
        return finished.stderr.strip().splitlines()[-1]
    if finished.returncode != 0:
        sys.exit(finished.stderr)
    found = torch.from_numpy(np.load(folder / "out.npy")).double()
    options = {"normalize": False} if isinstance(model, CoCa) else {}
    with torch.inference_mode():
        sets = [(found[:3], model.encode_image(pixels, **options))]
        if texts:
            ids = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
            sets.append((found[3:], model.encode_text(ids, **options)))
    errors = []
    for ours, theirs in sets:
        theirs = theirs.double()
        centred = theirs - theirs.mean(0)
        errors.append(((ours - theirs).norm(dim=1) / centred.norm(dim=1)).max().item())
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(Path(__file__).resolve().parent.parent / ".build/release/clip-gpu"))
    parser.add_argument("--only", action="append", default=[], help="names that hold this")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    worst, agreed, refused = 0, 0, 0
    tokenizers = tempfile.TemporaryDirectory()
    make_tokenizers(Path(tokenizers.name))
    for path in sorted((Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        if options.only and not any(word in path.stem for word in options.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = compare(json.loads(path.read_text()), options.binary, options.device, Path(folder),
                             Path(tokenizers.name))
        if isinstance(result, str):
            refused += 1
            print(f"{path.stem:32} refused: {result}", flush=True)
            continue
        agreed += max(result) <= LIMIT
        worst = max(worst, *result)
        print(f"{path.stem:32} " + "  ".join(f"{error:.1e}" for error in result)
              + ("" if max(result) <= LIMIT else "   ABOVE THE LIMIT"), flush=True)
        if max(result) > LIMIT:
            worst = float("inf")
    print(f"{agreed} agree, {refused} refused, worst {worst:.1e}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
