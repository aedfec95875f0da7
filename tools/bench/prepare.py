"""Makes what the benchmark measures with: models in every peer's form, and pictures. Skips what is there.

All forms of a model hold the same numbers, so that every contender can be checked against ours: the Hugging Face
folder that tools/make_checkpoints.py draws, the same weights under open_clip's names, ONNX graphs of each tower
(exported from transformers with dynamic batch, and dynamic length for text), their fused and int8 forms, and
OpenVINO's.

    python prepare.py CACHE MODEL…        e.g. ViT-B-32
"""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import warnings

import numpy

HERE = pathlib.Path(__file__).parent


def say(*words: object) -> None:
    print("prepare:", *words, file=sys.stderr, flush=True)


def checkpoint(cache: pathlib.Path, name: str) -> pathlib.Path:
    folder = cache / "checkpoints" / name
    if not (folder / "model.safetensors").exists():
        say("drawing", name)
        subprocess.run([sys.executable, HERE.parent / "make_checkpoints.py", folder.parent, "--models", name],
                       check=True, stdout=sys.stderr)
    return folder


def open_clip_weights(folder: pathlib.Path, target: pathlib.Path) -> None:
    """The same weights under the names of OpenAI's release, which open_clip reads."""
    import torch
    from safetensors.torch import load_file, save_file

    source = load_file(folder / "model.safetensors")
    result = {"logit_scale": source["logit_scale"]}

    def copy(name: str, to: str) -> None:
        for part in ("weight", "bias"):
            result[f"{to}.{part}"] = source[f"{name}.{part}"]

    for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
        layers = 1 + max(int(name.split(".")[3]) for name in source if name.startswith(f"{tower}.encoder.layers."))
        for layer in range(layers):
            block, to = f"{tower}.encoder.layers.{layer}", f"{prefix}transformer.resblocks.{layer}"
            for part in ("weight", "bias"):
                result[f"{to}.attn.in_proj_{part}"] = torch.cat(
                    [source[f"{block}.self_attn.{which}_proj.{part}"] for which in "qkv"])
            copy(f"{block}.self_attn.out_proj", f"{to}.attn.out_proj")
            copy(f"{block}.layer_norm1", f"{to}.ln_1")
            copy(f"{block}.layer_norm2", f"{to}.ln_2")
            copy(f"{block}.mlp.fc1", f"{to}.mlp.c_fc")
            copy(f"{block}.mlp.fc2", f"{to}.mlp.c_proj")
    vision, text = "vision_model.embeddings", "text_model.embeddings"
    result["visual.conv1.weight"] = source[f"{vision}.patch_embedding.weight"]
    result["visual.class_embedding"] = source[f"{vision}.class_embedding"]
    result["visual.positional_embedding"] = source[f"{vision}.position_embedding.weight"]
    copy("vision_model.pre_layrnorm", "visual.ln_pre")
    copy("vision_model.post_layernorm", "visual.ln_post")
    result["visual.proj"] = source["visual_projection.weight"].T.contiguous()
    result["token_embedding.weight"] = source[f"{text}.token_embedding.weight"]
    result["positional_embedding"] = source[f"{text}.position_embedding.weight"]
    copy("text_model.final_layer_norm", "ln_final")
    result["text_projection"] = source["text_projection.weight"].T.contiguous()
    save_file(result, target)


def export(folder: pathlib.Path, tower: str, target: pathlib.Path) -> None:
    """The ONNX graph of one tower: pixels [n, 3, H, W] or ids [n, length] to embeddings [n, dimension]."""
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder, attn_implementation="sdpa").eval()

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            image = tower == "image"
            self.tower = model.vision_model if image else model.text_model
            self.projection = model.visual_projection if image else model.text_projection

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.projection(self.tower(x).pooler_output)

    side = model.config.vision_config.image_size
    example = torch.randn(2, 3, side, side) if tower == "image" else torch.randint(1, 49000, (2, 20))
    axes = {0: "n"} if tower == "image" else {0: "n", 1: "length"}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Tower().eval(), (example,), target, dynamo=False, input_names=["x"], output_names=["y"],
                          dynamic_axes={"x": axes, "y": {0: "n"}}, opset_version=17)


def fuse(source: pathlib.Path, folder: pathlib.Path, tower: str, target: pathlib.Path) -> None:
    """ONNX Runtime's own optimiser for transformers: attention, norms and activations as single nodes."""
    import json

    from onnxruntime.transformers.optimizer import optimize_model

    config = json.loads((folder / "config.json").read_text())
    part = config["vision_config" if tower == "image" else "text_config"]
    optimize_model(str(source), model_type="clip", num_heads=part["num_attention_heads"],
                   hidden_size=part["hidden_size"]).save_model_to_file(str(target))


def quantize_onnx(source: pathlib.Path, target: pathlib.Path) -> None:
    """int8 as ONNX Runtime's documentation recommends for transformers on a CPU: dynamic, weights per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8,
                     op_types_to_quantize=["MatMul", "Gemm"])


def to_openvino(source: pathlib.Path, target: pathlib.Path) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(source), target, compress_to_fp16=False)


def quantize_openvino(source: pathlib.Path, target: pathlib.Path) -> None:
    """int8 by NNCF's post-training quantisation for transformers, calibrated on 64 inputs like those measured."""
    import nncf
    import openvino

    from inputs import pixels

    model = openvino.Core().read_model(source)
    data = nncf.Dataset([pixels(1, 224, seed) for seed in range(64)])
    quantized = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=64)
    openvino.save_model(quantized, target, compress_to_fp16=False)


def picture(width: int, height: int, seed: int, target: pathlib.Path) -> None:
    """A JPEG with a photograph's statistics: noise whose amplitude falls with its frequency, at quality 90."""
    from PIL import Image

    generator = numpy.random.default_rng(seed)
    total = numpy.zeros((height, width, 3), numpy.float32)
    cell = 2
    while cell < width:
        small = generator.standard_normal((height // cell + 2, width // cell + 2, 3)).astype(numpy.float32)
        for channel in range(3):
            layer = Image.fromarray(small[..., channel])
            total[..., channel] += cell**0.75 * numpy.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
        cell *= 2
    total = (total - total.mean()) / total.std()
    Image.fromarray(numpy.clip(total * 60 + 120, 0, 255).astype(numpy.uint8)).save(target, quality=90)


@contextlib.contextmanager
def new(target: pathlib.Path):
    """Yields a name to write to, which takes its place only when complete; yields nothing where it is there."""
    if target.exists():
        yield None
        return
    say("making", target.parent.name + "/" + target.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name("new-" + target.name)
    yield draft
    if target.suffix == ".xml":
        os.replace(draft.with_suffix(".bin"), target.with_suffix(".bin"))
    os.replace(draft, target)


def optionally(cache: pathlib.Path, target: str, make) -> None:
    """A form that a peer may be unable to make; its absence is said."""
    try:
        with new(cache / target) as draft:
            if draft:
                make(draft)
    except Exception as error:  # whatever a peer's converter throws
        say(f"{target} cannot be made: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def model(cache: pathlib.Path, name: str, towers: list[str], int8: bool) -> None:
    folder = checkpoint(cache, name)
    with new(cache / "open_clip" / f"{name}.safetensors") as draft:
        if draft:
            open_clip_weights(folder, draft)
    for tower in towers:
        onnx = cache / "onnx" / f"{name}-{tower}.onnx"
        with new(onnx) as draft:
            if draft:
                export(folder, tower, draft)
        optionally(cache, f"onnx/{name}-{tower}-fused.onnx", lambda draft: fuse(onnx, folder, tower, draft))
        with new(cache / "openvino" / f"{name}-{tower}.xml") as draft:
            if draft:
                to_openvino(onnx, draft)
        if int8:
            optionally(cache, f"onnx/{name}-{tower}-int8.onnx", lambda draft: quantize_onnx(onnx, draft))
        if int8 and tower == "image":
            optionally(cache, f"openvino/{name}-{tower}-int8.xml", lambda draft: quantize_openvino(onnx, draft))


def pictures(cache: pathlib.Path) -> None:
    for width, height, count in ((1600, 1200, 10), (500, 375, 50)):
        for index in range(count):
            with new(cache / "pictures" / f"{width}x{height}" / f"{index:03}.jpg") as draft:
                if draft:
                    picture(width, height, 1000 * width + index, draft)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=pathlib.Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--towers", nargs="+", default=["image"], choices=["image", "text"])
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--pictures", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.models:
        model(arguments.cache, name, arguments.towers, arguments.int8)
    if arguments.pictures:
        pictures(arguments.cache)


if __name__ == "__main__":
    main()
