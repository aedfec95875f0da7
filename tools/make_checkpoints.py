"""Makes full-size CLIP checkpoints in Hugging Face form, every tensor drawn anew.

The real weights are not needed to compare numbers with transformers, and a freshly initialised model would hide bugs:
its biases are zero and its gains one. So every tensor is drawn: matrices and convolutions with deviation 1/sqrt(inputs),
norm gains 1 + 0.1 n, biases 0.1 n, tables of tokens and positions with deviation 1.

    python tools/make_checkpoints.py FOLDER [--models ViT-B-32 ViT-L-14 …] [--dtype float16]
"""

import argparse
import json
import math
import pathlib

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

TEXT = {"B": dict(hidden_size=512, intermediate_size=2048, num_attention_heads=8, num_hidden_layers=12),
        "L": dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12)}
VISION = {"B": dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12),
          "L": dict(hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=24)}
MODELS = {"ViT-B-32": ("B", 32, 224, 512), "ViT-B-16": ("B", 16, 224, 512), "ViT-L-14": ("L", 14, 224, 768),
          "ViT-L-14-336": ("L", 14, 336, 768)}


def draw(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Replaces every parameter by a drawn one."""
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        if name == "logit_scale":
            drawn = math.log(1 / 0.07) + 0.1 * drawn
        elif "embedding.weight" in name and parameter.dim() == 2 or name.endswith("class_embedding"):
            pass  # tokens, positions and the class token: deviation 1
        elif parameter.dim() >= 2:
            drawn = drawn / math.sqrt(parameter[0].numel())
        elif name.endswith("weight"):
            drawn = 1 + 0.1 * drawn
        else:
            drawn = 0.1 * drawn
        parameter.data.copy_(drawn)


def make(name: str, folder: pathlib.Path, dtype: torch.dtype, seed: int) -> None:
    size, patch, pixels, dimension = MODELS[name]
    config = CLIPConfig(
        text_config=dict(TEXT[size], projection_dim=dimension),
        vision_config=dict(VISION[size], patch_size=patch, image_size=pixels, projection_dim=dimension),
        projection_dim=dimension)
    with torch.device("meta"):
        model = CLIPModel(config)
    model = model.to_empty(device="cpu")
    draw(model, torch.Generator().manual_seed(seed))
    model.to(dtype).save_pretrained(folder, max_shard_size="100GB")
    preprocessor = {
        "crop_size": pixels, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": list(CLIPImageProcessor.image_mean),
        "image_std": list(CLIPImageProcessor.image_std), "resample": 3, "size": pixels}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    print(folder, f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters, {dtype}, seed {seed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--models", nargs="+", default=["ViT-B-32", "ViT-B-16", "ViT-L-14"], choices=list(MODELS))
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.models:
        suffix = "" if arguments.dtype == "float32" else "-" + arguments.dtype
        make(name, arguments.folder / (name + suffix), getattr(torch, arguments.dtype), arguments.seed)


if __name__ == "__main__":
    main()
