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
import open_clip.coca_model
import open_clip.model
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
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
    # SigLIP's image tower is timm's, shrunk by arguments that open_clip does not have.
    "siglip": {
        "model": {"embed_dim": 48, "init_logit_bias": -10, "custom_text": True, "nonscalar_logit_scale": True,
                  "vision_cfg": {"image_size": 30, "timm_model_name": "vit_base_patch16_siglip_224",
                                 "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"},
                  "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True,
                               "norm_kwargs": {"eps": 1e-6}, "hf_tokenizer_name": "some/tokenizer",
                               "tokenizer_kwargs": {"clean": "canonicalize"}}},
        "timm": {"img_size": 30, "patch_size": 7, "embed_dim": 48, "depth": 2, "mlp_ratio": 1.5},
        "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic",
                       "resize_mode": "squash"}, "file": "open_clip_model.safetensors"},
    "siglip2": {
        "model": {"embed_dim": 64, "init_logit_bias": -10, "custom_text": True,
                  "vision_cfg": {"image_size": 28, "timm_model_name": "vit_giantopt_patch16_siglip_256",
                                 "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"},
                  "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True,
                               "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
                               "hf_tokenizer_name": "some/tokenizer", "tokenizer_kwargs": {"clean": "canonicalize"}}},
        "timm": {"img_size": 28, "patch_size": 7, "embed_dim": 64, "depth": 2, "mlp_ratio": 1.5},
        "preprocess": {}, "file": "open_clip_model.safetensors"},
    "coca": {
        "model": {"embed_dim": 24, "custom_text": True,
                  "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 3, "output_tokens": True,
                                 "attn_pooler_queries": 5, "norm_kwargs": {"eps": 1e-3}},
                  "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
                  "multimodal_cfg": {"context_length": 13, "vocab_size": 130, "width": 40, "heads": 5, "layers": 1}},
        "preprocess": {}, "file": "open_clip_pytorch_model.bin"},
    # As wide as its image tower, so that the pool's three projections are one tensor.
    "coca-wide": {
        "model": {"embed_dim": 48, "custom_text": True,
                  "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True,
                                 "attn_pooler_queries": 2},
                  "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True, "no_causal_mask": True},
                  "multimodal_cfg": {"context_length": 13, "vocab_size": 130, "width": 40, "heads": 5, "layers": 1}},
        "preprocess": {}, "file": "open_clip_model.safetensors"},
    "xlm-roberta": {
        "model": {"embed_dim": 24, "vision_cfg": VISION,
                  "text_cfg": {"hf_model_name": "text", "hf_tokenizer_name": "text", "context_length": 13,
                               "hf_pooler_type": "mean_pooler"}},
        "text": transformers.XLMRobertaConfig(
            vocab_size=130, hidden_size=40, num_hidden_layers=2, num_attention_heads=5, intermediate_size=72,
            max_position_embeddings=18, type_vocab_size=1, layer_norm_eps=1e-5),
        "preprocess": {}, "file": "open_clip_model.safetensors"},
    "xlm-roberta-cls": {
        "model": {"embed_dim": 24, "vision_cfg": VISION,
                  "text_cfg": {"hf_model_name": "text", "hf_tokenizer_name": "text", "context_length": 13,
                               "hf_pooler_type": "cls_last_hidden_state_pooler", "hf_proj_type": "linear"}},
        "text": transformers.XLMRobertaConfig(
            vocab_size=130, hidden_size=40, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=16, type_vocab_size=2),
        "preprocess": {}, "file": "open_clip_model.safetensors"},
    "mt5": {
        "model": {"embed_dim": 24, "vision_cfg": VISION,
                  "text_cfg": {"hf_model_name": "text", "hf_tokenizer_name": "text", "context_length": 77,
                               "hf_pooler_type": "mean_pooler"}},
        "text": transformers.MT5Config(vocab_size=130, d_model=40, d_kv=12, d_ff=56, num_layers=2, num_heads=3),
        "preprocess": {}, "file": "open_clip_model.safetensors"},
    "mt5-cls": {
        "model": {"embed_dim": 24, "vision_cfg": VISION,
                  "text_cfg": {"hf_model_name": "text", "hf_tokenizer_name": "text", "context_length": 13,
                               "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}},
        "text": transformers.MT5Config(
            vocab_size=130, d_model=40, d_kv=8, d_ff=56, num_layers=2, num_heads=4, relative_attention_num_buckets=16,
            relative_attention_max_distance=20, feed_forward_proj="relu", layer_norm_epsilon=1e-3),
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
    kinds = (nn.LayerNorm, nn.BatchNorm2d, transformers.models.mt5.modeling_mt5.MT5LayerNorm)
    norms = {id(p) for m in model.modules() if isinstance(m, kinds) for p in m.parameters()}
    for name, value in sorted(model.state_dict(keep_vars=True).items()):
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name == "logit_scale":
            value.fill_(3.1)
        elif name == "logit_bias":
            value.fill_(-4.2)
        elif name.endswith("running_var"):
            value.copy_(0.5 + noise.abs())
        elif name.endswith("gamma"):
            value.copy_(0.8 + 0.2 * noise)
        elif id(value) in norms and name.endswith("weight"):
            value.copy_(1 + 0.1 * noise)
        elif "word_embeddings" in name:
            value.copy_(noise)  # else positions and types outweigh them, and sentences hardly differ
        elif "embedding" in name or "pos_embed" in name:
            value.copy_(0.3 * noise)
        elif value.dim() < 2:
            value.copy_(0.1 * noise)
        else:
            if "SelfAttention.q" in name:
                noise = noise / 3  # T5 does not scale its scores
            inputs = value.shape[0] if name.endswith(("proj", "text_projection")) else value[0].numel()
            value.copy_(1.4 * noise / inputs ** 0.5)
    return model.eval()


def inputs(seed, size, context, vocabulary, end=None, padding=None):
    """Pixels, and sentences of every length; noise behind the end token, or padding where the model reads that."""
    generator = torch.Generator().manual_seed(seed + 1000)
    # Noise alone averages out in a ResNet, and pictures that hardly differ show nothing but rounding.
    broad = torch.randn(PICTURES, 3, 2, 2, generator=generator) + torch.randn(PICTURES, 3, 1, 1, generator=generator)
    pixels = 2 * nn.functional.interpolate(broad, size, mode="nearest") + 0.5 * torch.randn(
        PICTURES, 3, size, size, generator=generator)
    lengths = torch.tensor([2, 3, context // 2, context - 1, context])
    ids = torch.randint(3, vocabulary - 2, (SENTENCES, context), generator=generator)
    for row, length in zip(ids, lengths.tolist()):
        row[0], row[length - 1] = vocabulary - 2, vocabulary - 1 if end is None else end
        if padding is not None:
            row[length:] = padding
    return pixels, ids, lengths


@torch.no_grad()
def features(model, pixels, ids):
    model = copy.deepcopy(model).double()
    options = {"normalize": False} if isinstance(model, open_clip.coca_model.CoCa) else {}
    return {"vision.features": model.encode_image(pixels.double(), **options).float().contiguous(),
            "text.features": model.encode_text(ids, **options).float().contiguous()}


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

    # ResNet's seed stays what it was when it was the last.
    names = [name for name in FOLDERS if name != "resnet"][:6] + ["resnet"]
    names += [name for name in FOLDERS if name not in names]
    for seed, name in enumerate(names, 40):
        folder_model(name, FOLDERS[name], seed)
    for size, context in ((42, 9), (21, 20)):
        resized(size, context)


def resized(size, context):
    """Features of open-clip-plain's and open-clip-siglip's weights at other sizes, as open_clip resizes positions."""
    spec = FOLDERS["plain"]["model"]
    model = open_clip.model.CLIP(
        spec["embed_dim"], open_clip.model.CLIPVisionCfg(**{**spec["vision_cfg"], "image_size": size}),
        open_clip.model.CLIPTextCfg(**{**spec["text_cfg"], "context_length": context})).eval()
    state = load_file(FIXTURES / "open-clip-plain" / "open_clip_model.safetensors")
    open_clip.model.resize_pos_embed(state, model)
    open_clip.model.resize_text_pos_embed(state, model)
    model.load_state_dict(state)
    save(fresh(f"open-clip-plain-{size}"), model, *inputs(size, size, context, spec["text_cfg"]["vocab_size"]))

    model = siglip().eval()
    model.load_state_dict(load_file(FIXTURES / "open-clip-siglip" / "open_clip_model.safetensors"))
    model.visual.set_input_size(size)
    save(fresh(f"open-clip-siglip-{size}"), model, *inputs(size, size, 13, 130, padding=0))


def siglip():
    config = copy.deepcopy(FOLDERS["siglip"]["model"])
    config.pop("custom_text")
    create = timm.create_model
    timm.create_model = lambda *names, **options: create(*names, **options, **FOLDERS["siglip"]["timm"])
    model = open_clip.model.CustomTextCLIP(
        **{**config, "vision_cfg": open_clip.model.CLIPVisionCfg(**config["vision_cfg"]),
           "text_cfg": open_clip.model.CLIPTextCfg(**config["text_cfg"])})
    timm.create_model = create
    return model


def folder_model(name, spec, seed):
    config, folder = copy.deepcopy(spec["model"]), fresh(f"open-clip-{name}")
    is_custom = config.pop("custom_text", False) or "text" in spec
    kind = open_clip.model.CustomTextCLIP if is_custom else open_clip.model.CLIP
    if "multimodal_cfg" in config:
        kind = open_clip.coca_model.CoCa
    vision, text = config.pop("vision_cfg"), config.pop("text_cfg")
    vocabulary, padding = text.get("vocab_size"), 0
    if "text" in spec:
        spec["text"].save_pretrained(folder / "text")
        text["hf_model_name"], text["hf_model_pretrained"] = str(folder / "text"), False
        vocabulary, padding = spec["text"].vocab_size, spec["text"].pad_token_id
    create = timm.create_model
    timm.create_model = lambda *names, **options: create(*names, **options, **spec.get("timm", {}))
    model = draw(kind(**config, vision_cfg=open_clip.model.CLIPVisionCfg(**vision),
                      text_cfg=open_clip.model.CLIPTextCfg(**text)), seed)
    timm.create_model = create
    if name == "resnet":
        model = model.half()
    (folder / "open_clip_config.json").write_text(json.dumps(
        {"model_cfg": spec["model"], "preprocess_cfg": spec["preprocess"]}, indent=2) + "\n")
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    if spec["file"].endswith(".safetensors"):
        save_file(state, folder / spec["file"])
    else:
        torch.save(state, folder / spec["file"])
    is_padded = text.get("no_causal_mask") or text.get("pool_type") == "last" or "text" in spec or "coca" in name
    pixels, ids, lengths = inputs(seed, vision["image_size"], text["context_length"], vocabulary, text.get("eos_id"),
                                  padding if is_padded else None)
    if "coca" in name or "xlm" in name:
        ids[3, 4] = padding  # what a word in the middle may be, too
    save(folder, model, pixels, ids, lengths)


if __name__ == "__main__":
    main()
