"""Makes the parity fixtures of transformers' models: tiny CLIPs with everything they compute on the way, and a tiny SigLIP and
MetaCLIP 2 with their features.

    python tools/make_model_fixtures.py          writes Tests/CLIPModelTests/Fixtures

Every tensor is drawn: matrices with deviation 1/sqrt(inputs), norm gains 1 ± 0.1, biases 0.1. A fresh CLIPModel has
zero biases and unit gains, and a graph that drops one of them would pass. The expected values are computed in double
from the weights as stored, so they carry no rounding of their own. `broken.*` is what the reference gives with one
thing wrong: a parity check that accepts those proves nothing.
"""

import argparse
import copy
import hashlib
import json
import shutil
from pathlib import Path

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, MetaClip2Config, MetaClip2Model, SiglipConfig, SiglipModel
from transformers.models.clip import modeling_clip

FIXTURES = Path(__file__).resolve().parent.parent / "Tests" / "CLIPModelTests" / "Fixtures"

# Awkward on purpose: head widths 16, 8, 88 and 12; 17 and 10 tokens a picture; MLPs that are not four times as wide.
MODELS = {
    "tiny-quick-gelu": {
        "seed": 20, "projection": 24, "eos": "last",
        "vision": {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 72,
                   "image_size": 28, "patch_size": 7, "hidden_act": "quick_gelu"},
        "text": {"hidden_size": 40, "num_attention_heads": 5, "num_hidden_layers": 2, "intermediate_size": 72,
                 "vocab_size": 260, "max_position_embeddings": 19, "hidden_act": "quick_gelu"},
    },
    # As most files on the Hub, its config names 2 as the end token although it is the highest id.
    "tiny-gelu": {
        "seed": 21, "projection": 20, "eos": 2,
        "vision": {"hidden_size": 88, "num_attention_heads": 1, "num_hidden_layers": 2, "intermediate_size": 72,
                   "image_size": 15, "patch_size": 5, "hidden_act": "gelu"},
        "text": {"hidden_size": 36, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 64,
                 "vocab_size": 201, "max_position_embeddings": 11, "hidden_act": "gelu"},
    },
}
# 30 pixels are no whole number of patches, and the widths of the two towers differ. As in SigLIP 2, the tokenizer fills up
# with another id than the configuration says.
SIGLIP = {
    "vision": {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 72,
               "image_size": 30, "patch_size": 7},
    "text": {"hidden_size": 40, "num_attention_heads": 5, "num_hidden_layers": 2, "intermediate_size": 64,
             "vocab_size": 130, "max_position_embeddings": 13, "projection_size": 48},
}
# Its end token is 2, and is meant.
METACLIP2 = {
    "vision": {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 72,
               "image_size": 28, "patch_size": 7, "hidden_act": "gelu"},
    "text": {"hidden_size": 40, "num_attention_heads": 5, "num_hidden_layers": 2, "intermediate_size": 64,
             "vocab_size": 130, "max_position_embeddings": 13, "hidden_act": "gelu", "eos_token_id": 2},
}
PICTURES, SENTENCES = 3, 5


@torch.no_grad()
def draw(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(model.named_parameters()):
        noise = torch.randn(value.shape, generator=generator)
        if name.startswith("logit"):
            value.fill_(3.1 if "scale" in name else -4.2)
        elif "norm" in name and name.endswith("weight"):
            value.copy_(1 + 0.1 * noise)
        elif name.endswith("bias"):
            value.copy_(0.1 * noise)
        elif "position_embedding" in name or "class_embedding" in name or "token_embedding" in name:
            value.copy_(0.5 * noise)
        else:
            value.copy_(1.4 * noise / value.flatten(1)[0].numel() ** 0.5)
    return model.eval()


@torch.no_grad()
def resized(name, model, size, context):
    """Features of pictures of another size than the model's, with `interpolate_pos_encoding`."""
    generator = torch.Generator().manual_seed(size)
    pixels = 1.2 * torch.randn(PICTURES, 3, size, size, generator=generator)
    ids = torch.randint(3, model.config.text_config.vocab_size, (SENTENCES, context), generator=generator)
    double = copy.deepcopy(model).double()
    images = double.get_image_features(pixels.double(), interpolate_pos_encoding=True).pooler_output
    texts = double.get_text_features(ids).pooler_output
    folder = FIXTURES / f"{name}-{size}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_fixture(folder, {"inputs.pixel_values": pixels, "inputs.input_ids": ids,
                          "inputs.lengths": torch.full((SENTENCES,), context),
                          "vision.features": images.float(), "text.features": texts.float()},
                 {"seed": size}, f"{name} with pictures of {size} pixels")


def family(name, model, seed, tokenizer=None):
    """Features and logits of a model in double; texts end with 2 and are filled up with 0."""
    spec, folder = model.config, FIXTURES / name
    draw(model, seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    size, context = spec.vision_config.image_size, spec.text_config.max_position_embeddings
    pixels = 1.2 * torch.randn(PICTURES, 3, size, size, generator=generator)
    lengths = torch.tensor([2, 3, context // 2, context - 1, context])
    ids = torch.randint(3, spec.text_config.vocab_size, (SENTENCES, context), generator=generator)
    for row, length in zip(ids, lengths.tolist()):
        row[length - 1], row[length:] = 2, 0
    with torch.no_grad():
        double = copy.deepcopy(model).double()
        output = double(input_ids=ids, pixel_values=pixels.double())
        images = double.get_image_features(pixels.double()).pooler_output
        texts = double.get_text_features(ids).pooler_output
    save_model(model, folder)
    if tokenizer is not None:
        processor = transformers.SiglipImageProcessor(size={"height": size, "width": size}, resample=2)
        transformers.SiglipProcessor(processor, tokenizer).save_pretrained(folder)
    values = {"vision.features": images, "text.features": texts, "logits_per_image": output.logits_per_image}
    for key, value in values.items():
        share = ((value - value.mean(0)).norm(dim=1) / value.norm(dim=1)).min().item()
        print(f"{name} {key}: {share:.2f} of a row is its distance from the mean")
    save_fixture(folder, {"inputs.pixel_values": pixels, "inputs.input_ids": ids, "inputs.lengths": lengths,
                          **{key: value.float().contiguous() for key, value in values.items()}},
                 {"seed": seed}, "features in double")


def tiny_tokenizer():
    words = ["<pad>", "<eos>", "</s>"] + [f"w{i}" for i in range(127)]
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "w0"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>")


def build(spec):
    vocabulary = spec["text"]["vocab_size"]
    common = {"layer_norm_eps": 1e-5, "projection_dim": spec["projection"]}
    eos = vocabulary - 1 if spec["eos"] == "last" else spec["eos"]
    model = CLIPModel(CLIPConfig(
        text_config={**spec["text"], **common, "bos_token_id": vocabulary - 2, "eos_token_id": eos, "pad_token_id": 0},
        vision_config={**spec["vision"], **common}, projection_dim=spec["projection"]))
    generator = torch.Generator().manual_seed(spec["seed"])
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            noise = torch.randn(value.shape, generator=generator)
            if name == "logit_scale":
                value.fill_(3.1)
            elif "norm" in name and name.endswith("weight"):
                value.copy_(1 + 0.1 * noise)
            elif name.endswith("bias"):
                value.copy_(0.1 * noise)
            elif "position_embedding" in name or "class_embedding" in name or "token_embedding" in name:
                value.copy_(0.5 * noise)
            else:
                value.copy_(noise / value[0].numel() ** 0.5)
    return model.eval()


def inputs(spec):
    """Pixels, and sentences of every length from none to full; what stands after the end token must not matter."""
    generator = torch.Generator().manual_seed(spec["seed"] + 1000)
    size, vocabulary = spec["vision"]["image_size"], spec["text"]["vocab_size"]
    context = spec["text"]["max_position_embeddings"]
    pixels = 1.2 * torch.randn(PICTURES, 3, size, size, generator=generator)
    lengths = torch.tensor([2, 3, context // 2, context - 1, context])
    ids = torch.randint(3, vocabulary - 2, (SENTENCES, context), generator=generator)
    for row, length in zip(ids, lengths.tolist()):
        row[0], row[length - 1] = vocabulary - 2, vocabulary - 1
    return pixels, ids, lengths


@torch.no_grad()
def run(model, pixels, ids, lengths=None):
    """Everything on the way, in double; text rows packed: sentence after sentence, each up to its end token."""
    model = copy.deepcopy(model).double()
    seen = {}

    def keep(name, module):
        def hook(_, __, output):
            seen[name] = output[0] if isinstance(output, tuple) else output

        module.register_forward_hook(hook)

    for tower in ("vision", "text"):
        part = getattr(model, f"{tower}_model")
        keep(f"{tower}.embeddings", part.embeddings)
        for i, layer in enumerate(part.encoder.layers):
            keep(f"{tower}.block.{i}", layer)
    keep("vision.pre_layrnorm", model.vision_model.pre_layrnorm)
    keep("vision.pooled", model.vision_model.post_layernorm)
    normed = []
    model.text_model.final_layer_norm.register_forward_hook(lambda _, __, output: normed.append(output))
    output = model(input_ids=ids, pixel_values=pixels.double())
    if lengths is None:
        lengths = torch.full((len(ids),), ids.shape[1])
    for name in list(seen):
        if name.startswith("text."):
            seen[name] = torch.cat([row[:length] for row, length in zip(seen[name], lengths.tolist())])
    seen["text.pooled"] = normed[0][torch.arange(len(ids)), ids.argmax(1)]  # the end token is the highest id
    seen["vision.features"] = model.visual_projection(seen["vision.pooled"])
    seen["text.features"] = model.text_projection(seen["text.pooled"])
    if not torch.equal(seen["text.features"], output.text_model_output.pooler_output):
        raise ValueError("transformers pools another row than the end token's")
    seen["logits_per_image"] = output.logits_per_image
    return {name: value.float().contiguous() for name, value in seen.items()}


def broken(model, spec, pixels, ids):
    """The reference with one thing wrong at a time: final features only, of those towers that it touches."""
    found = {}

    def record(name, wrong, towers=("vision", "text")):
        values = run(wrong, pixels, ids)
        for tower in towers:
            found[f"broken.{name}.{tower}_features"] = values[f"{tower}.features"]

    towers = ("vision", "text")
    with torch.no_grad():
        wrong = copy.deepcopy(model)
        for tower in towers:
            getattr(wrong, f"{tower}_model").encoder.layers[1].mlp.fc2.bias.zero_()
        record("bias_dropped", wrong)

        wrong = copy.deepcopy(model)
        for tower in towers:
            layer = getattr(wrong, f"{tower}_model").encoder.layers[0]
            layer.layer_norm1, layer.layer_norm2 = layer.layer_norm2, layer.layer_norm1
        record("norms_swapped", wrong)

        wrong = copy.deepcopy(model)
        for tower in towers:
            for layer in getattr(wrong, f"{tower}_model").encoder.layers:
                name = "gelu" if spec[tower]["hidden_act"] == "quick_gelu" else "quick_gelu"
                layer.mlp.activation_fn = transformers.activations.ACT2FN[name]
        record("activation_changed", wrong)

        wrong = copy.deepcopy(model)
        wrong.set_attn_implementation("eager")  # which has no mask of its own
        causal_mask = modeling_clip.create_causal_mask
        modeling_clip.create_causal_mask = lambda **_: None
        record("mask_off", wrong, ("text",))
        modeling_clip.create_causal_mask = causal_mask
    return found


def save_model(model, folder, **options):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)


def save_fixture(folder, tensors, spec, note):
    about = {  # one entry: safetensors writes several in no fixed order, and a second run must give the same bytes
        "note": note, "seed": spec["seed"], "torch": torch.__version__, "transformers": transformers.__version__,
        "script_sha256": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
    }
    save_file(tensors, folder / "fixtures.safetensors", metadata={"about": json.dumps(about)})


def check(values, wrong):
    """A broken reference must differ clearly, else it proves nothing."""
    for name, value in wrong.items():
        tower = "vision" if "vision" in name else "text"
        right = values[f"{tower}.features"]
        centred = right - right.mean(0)
        error = ((value - right).norm(dim=1) / centred.norm(dim=1)).max().item()
        print(f"    {name}: {error:.3f} of the deviation from the mean")
        if error < 0.005:
            raise ValueError(f"{name} hardly differs from the right features")


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, spec in MODELS.items():
        model, (pixels, ids, lengths) = build(spec), inputs(spec)
        given = {"inputs.pixel_values": pixels, "inputs.input_ids": ids, "inputs.lengths": lengths}
        values, wrong = run(model, pixels, ids, lengths), broken(model, spec, pixels, ids)
        print(name)
        check(values, wrong)
        save_model(model, FIXTURES / name)
        save_fixture(FIXTURES / name, {**given, **values, **wrong}, spec, "every activation")
        if name != "tiny-quick-gelu":
            continue

        # The same weights in several files, and rounded to half the width
        folder = FIXTURES / f"{name}-sharded"
        save_model(model, folder, max_shard_size="150KB")
        if len(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]) != len(
                model.state_dict()):
            raise ValueError("the index does not name every tensor")
        for short, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
            rounded, folder = copy.deepcopy(model).to(dtype), FIXTURES / f"{name}-{short}"
            save_model(rounded, folder)
            values = run(rounded, pixels, ids, lengths)
            few = {key: values[key] for key in ("vision.features", "text.features", "logits_per_image")}
            save_fixture(folder, few, spec, f"features of the weights rounded to {short}, computed in double")

    siglip = SiglipModel(SiglipConfig(text_config=SIGLIP["text"], vision_config=SIGLIP["vision"]))
    family("siglip", siglip, 22, tiny_tokenizer())
    for size in (42, 21):
        resized("tiny-quick-gelu", build(MODELS["tiny-quick-gelu"]), size, 19)
        resized("siglip", siglip, size, 13)
    family("metaclip2", MetaClip2Model(MetaClip2Config(
        text_config=METACLIP2["text"], vision_config=METACLIP2["vision"], projection_dim=24)), 23)


if __name__ == "__main__":
    main()
