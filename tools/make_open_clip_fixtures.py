"""Makes the parity fixtures of OpenAI's and open_clip's checkpoints: their own model classes, shrunk, in their own files.

    python tools/make_open_clip_fixtures.py          writes Tests/CLIPModelTests/Fixtures/openai-*, open-clip-*

Every tensor is drawn, batch norms' statistics and layer scales included. The expected features are computed in double
from the weights as stored.
"""

import argparse
import copy
import json
import shutil
import zipfile
from pathlib import Path

import clip.model
import open_clip.model
import torch
from safetensors.torch import save_file
from torch import nn

FIXTURES = Path(__file__).resolve().parent.parent / "Tests" / "CLIPModelTests" / "Fixtures"
PICTURES, SENTENCES = 3, 5

VISION = {"image_size": 28, "layers": 2, "width": 48, "patch_size": 7, "head_width": 16, "mlp_ratio": 1.5}
TEXT = {"context_length": 13, "vocab_size": 130, "width": 40, "heads": 5, "layers": 2, "mlp_ratio": 1.8}
FOLDERS = {
    "plain": {
        "model": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
        "preprocess": {}, "file": "open_clip_model.safetensors"},
    "scaled": {
        "model": {"embed_dim": 24, "quick_gelu": True, "nonscalar_logit_scale": True,
                  "vision_cfg": {**VISION, "ls_init_value": 0.1, "norm_kwargs": {"eps": 1e-3}, "patch_dropout": 0.5},
                  "text_cfg": {**TEXT, "ls_init_value": 0.1, "norm_kwargs": {"eps": 1e-2}}},
        "preprocess": {"size": 28, "mode": "RGB", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4],
                       "interpolation": "bilinear", "resize_mode": "squash", "fill_color": 0},
        "file": "open_clip_pytorch_model.bin"},
    "mean-after": {
        "model": {"embed_dim": 24, "custom_text": True,
                  "vision_cfg": {**VISION, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True,
                                 "pos_embed_type": "sin_cos_2d", "act_kwargs": {"approximate": "tanh"}},
                  "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True,
                               "act_kwargs": {"approximate": "tanh"}}},
        "preprocess": {"resize_mode": "longest"}, "file": "open_clip_pytorch_model.safetensors"},
    "mean-before": {
        "model": {"embed_dim": 40, "custom_text": True, "vision_cfg": {**VISION, "pool_type": "avg"},
                  "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "first", "proj_type": "none"}},
        "preprocess": {}, "file": "model.pth"},
    "eos": {
        "model": {"embed_dim": 24, "custom_text": True, "vision_cfg": VISION,
                  "text_cfg": {**TEXT, "pool_type": "eos", "eos_id": 2, "hf_tokenizer_name": "some/tokenizer"}},
        "preprocess": {}, "file": "open_clip_pytorch_model.pth"},
    "causal-last": {
        "model": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": {**TEXT, "pool_type": "last"}},
        "preprocess": {}, "file": "open_clip_model.safetensors"},
    "resnet": {
        "model": {"embed_dim": 24, "quick_gelu": True,
                  "vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "patch_size": None,
                                 "head_width": 32}, "text_cfg": TEXT},
        "preprocess": {}, "file": "open_clip_model.safetensors"},
}


@torch.no_grad()
def draw(model, seed):
    """Matrices with deviation 1.4/sqrt(inputs), gains 1 ± 0.1, everything else about 0.1; embeddings 0.3."""
    generator = torch.Generator().manual_seed(seed)
    norms = {id(p) for m in model.modules() if isinstance(m, (nn.LayerNorm, nn.BatchNorm2d)) for p in m.parameters()}
    for name, value in sorted(model.state_dict(keep_vars=True).items()):
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name == "logit_scale":
            value.fill_(3.1)
        elif name.endswith("running_var"):
            value.copy_(0.5 + noise.abs())
        elif name.endswith("gamma"):
            value.copy_(0.8 + 0.2 * noise)
        elif id(value) in norms and name.endswith("weight"):
            value.copy_(1 + 0.1 * noise)
        elif "embedding" in name:
            value.copy_(0.3 * noise)
        elif value.dim() < 2:
            value.copy_(0.1 * noise)
        else:
            inputs = value.shape[0] if name.endswith(("proj", "text_projection")) else value[0].numel()
            value.copy_(1.4 * noise / inputs ** 0.5)
    return model.eval()


def inputs(seed, size, context, vocabulary, end=None, padded=False):
    """Pixels, and sentences of every length; noise behind the end token, or zeros where the model reads those."""
    generator = torch.Generator().manual_seed(seed + 1000)
    # Noise alone averages out in a ResNet, and pictures that hardly differ show nothing but rounding.
    broad = torch.randn(PICTURES, 3, 2, 2, generator=generator) + torch.randn(PICTURES, 3, 1, 1, generator=generator)
    pixels = 2 * nn.functional.interpolate(broad, size, mode="nearest") + 0.5 * torch.randn(
        PICTURES, 3, size, size, generator=generator)
    lengths = torch.tensor([2, 3, context // 2, context - 1, context])
    ids = torch.randint(3, vocabulary - 2, (SENTENCES, context), generator=generator)
    for row, length in zip(ids, lengths.tolist()):
        row[0], row[length - 1] = vocabulary - 2, vocabulary - 1 if end is None else end
        if padded:
            row[length:] = 0
    return pixels, ids, lengths


@torch.no_grad()
def features(model, pixels, ids):
    model = copy.deepcopy(model).double()
    return {"vision.features": model.encode_image(pixels.double()).float().contiguous(),
            "text.features": model.encode_text(ids).float().contiguous()}


def save(folder, model, pixels, ids, lengths):
    given = {"inputs.pixel_values": pixels, "inputs.input_ids": ids, "inputs.lengths": lengths}
    values = features(model, pixels, ids)
    for name, value in values.items():
        share = ((value - value.mean(0)).norm(dim=1) / value.norm(dim=1)).min().item()
        print(f"{folder.name} {name}: {share:.2f} of a row is its distance from the mean")
    save_file({**given, **values}, folder / "fixtures.safetensors")


def fresh(name):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def drop_source_positions(path):
    """Positions in the source name folders of the machine that traced it."""
    with zipfile.ZipFile(path) as source:
        members = [(member, source.read(member)) for member in source.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for member, content in members:
            if not member.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(member.filename), content, member.compress_type)


def openai(name, seed, **vision):
    model = clip.model.CLIP(embed_dim=32, context_length=12, vocab_size=99, transformer_width=64, transformer_heads=1,
                            transformer_layers=2, **vision)
    for key, value in (("context_length", 12), ("vocab_size", 99)):
        delattr(model, key)
        model.register_buffer(key, torch.tensor(value))
    model.register_buffer("input_resolution", torch.tensor(vision["image_resolution"]))
    draw(model, seed)
    clip.model.convert_weights(model)
    folder = fresh(name)
    pixels, ids, lengths = inputs(seed, vision["image_resolution"], 12, 99)
    with torch.no_grad():
        traced = torch.jit.trace(model, (pixels.half(), ids), check_trace=False)
    torch.jit.save(traced, folder / "archive.pt")
    drop_source_positions(folder / "archive.pt")
    # OpenAI's LayerNorm computes in float32 whatever it is given.
    forward, clip.model.LayerNorm.forward = clip.model.LayerNorm.forward, nn.LayerNorm.forward
    save(folder, model, pixels, ids, lengths)
    clip.model.LayerNorm.forward = forward
    return folder, model


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    folder, model = openai("openai-vit", 30, image_resolution=32, vision_layers=2, vision_width=64, vision_patch_size=8)
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, folder / "training.pt", _use_new_zipfile_serialization=False)
    openai("openai-resnet", 31, image_resolution=64, vision_layers=(1, 2, 1, 1), vision_width=8, vision_patch_size=None)

    for seed, (name, spec) in enumerate(FOLDERS.items(), 40):
        config = copy.deepcopy(spec["model"])
        kind = open_clip.model.CustomTextCLIP if config.pop("custom_text", False) else open_clip.model.CLIP
        vision, text = config.pop("vision_cfg"), config.pop("text_cfg")
        model = draw(kind(**config, vision_cfg=open_clip.model.CLIPVisionCfg(**vision),
                          text_cfg=open_clip.model.CLIPTextCfg(**text)), seed)
        if name == "resnet":
            model = model.half()
        folder = fresh(f"open-clip-{name}")
        (folder / "open_clip_config.json").write_text(json.dumps(
            {"model_cfg": spec["model"], "preprocess_cfg": spec["preprocess"]}, indent=2) + "\n")
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        if spec["file"].endswith(".safetensors"):
            save_file(state, folder / spec["file"])
        else:
            torch.save(state, folder / spec["file"])
        padded = text.get("no_causal_mask", False) or text.get("pool_type") == "last"
        save(folder, model, *inputs(seed, vision["image_size"], text["context_length"], text["vocab_size"],
                                    text.get("eos_id"), padded))


if __name__ == "__main__":
    main()
