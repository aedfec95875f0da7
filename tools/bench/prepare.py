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
import shutil
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


def halves(cache: pathlib.Path, name: str) -> None:
    """The checkpoint as many are saved: every tensor in fp16."""
    from safetensors.torch import load_file, save_file

    folder, target = checkpoint(cache, name), cache / "checkpoints" / f"{name}-fp16"
    target.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        shutil.copy(file, target)
    with new(target / "model.safetensors") as draft:
        if draft:
            tensors = load_file(folder / "model.safetensors")
            save_file({key: value.half() if value.is_floating_point() else value for key, value in tensors.items()},
                      draft, metadata={"format": "pt"})


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


def resnet(cache: pathlib.Path, name: str) -> pathlib.Path:
    """A ResNet of OpenAI's as open_clip's folder, every tensor drawn; batch norms keep what comes out of a layer near
    what goes in."""
    import json

    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = cache / "checkpoints" / name
    if (folder / "open_clip_model.safetensors").exists():
        return folder
    say("drawing", name)
    model = open_clip.create_model(name + "-quickgelu")
    generator = torch.Generator().manual_seed(0)
    values = model.state_dict()
    for key, value in values.items():
        drawn = torch.randn(value.shape, generator=generator)
        if key == "logit_scale" or not value.is_floating_point():
            continue
        if key.endswith("running_var"):
            drawn = 0.5 + drawn.abs() / 2
        elif value.dim() >= 2:
            drawn = drawn / value[0].numel() ** 0.5 * (1.4 if value.dim() == 4 else 1)
        elif key.endswith("weight"):
            drawn = (0.3 if ".bn3." in key else 1) * (1 + 0.1 * drawn)
        else:
            drawn = 0.1 * drawn
        value.copy_(drawn)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": open_clip.get_model_config(name + "-quickgelu"), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
    save_file({key: value.contiguous() for key, value in values.items()}, folder / "open_clip_model.safetensors")
    return folder


def export_resnet(name: str, weights: pathlib.Path, target: pathlib.Path) -> None:
    """The ONNX graph of the image tower, batch norms folded into the convolutions."""
    import open_clip
    import torch

    model = open_clip.create_model(name + "-quickgelu", pretrained=str(weights)).eval()
    side = model.visual.image_size
    side = side[0] if isinstance(side, tuple) else side
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.visual, (torch.randn(2, 3, side, side),), target, dynamo=False, input_names=["x"],
                          output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, opset_version=17)


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


def quantize_onnx(source: pathlib.Path, target: pathlib.Path, convolutions: bool = False) -> None:
    """int8 as ONNX Runtime's documentation recommends: for transformers on a CPU dynamic, weights per channel; for
    convolutions static, calibrated on 64 inputs like those measured."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

    from inputs import pixels

    if convolutions:
        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.left = iter(range(64))

            def get_next(self) -> dict | None:
                seed = next(self.left, None)
                return None if seed is None else {"x": pixels(1, 224, seed)}

        quantize_static(source, target, Reader(), per_channel=True, weight_type=QuantType.QInt8)
        return

    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8,
                     op_types_to_quantize=["MatMul", "Gemm"])


def to_openvino(source: pathlib.Path, target: pathlib.Path) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(source), target, compress_to_fp16=False)


def quantize_openvino(source: pathlib.Path, target: pathlib.Path, convolutions: bool = False) -> None:
    """int8 by NNCF's post-training quantisation (for transformers its own form), calibrated on 64 inputs like those measured."""
    import nncf
    import openvino

    from inputs import pixels

    model = openvino.Core().read_model(source)
    data = nncf.Dataset([pixels(1, 224, seed) for seed in range(64)])
    quantized = nncf.quantize(model, data, model_type=None if convolutions else nncf.ModelType.TRANSFORMER,
                              subset_size=64)
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
    convolutions = name.startswith("RN")
    folder = resnet(cache, name) if convolutions else checkpoint(cache, name)
    with new(cache / "open_clip" / f"{name}.safetensors") as draft:
        if draft and convolutions:
            draft.hardlink_to(folder / "open_clip_model.safetensors")
        elif draft:
            open_clip_weights(folder, draft)
    for tower in towers:
        onnx = cache / "onnx" / f"{name}-{tower}.onnx"
        with new(onnx) as draft:
            if draft and convolutions:
                export_resnet(name, cache / "open_clip" / f"{name}.safetensors", draft)
            elif draft:
                export(folder, tower, draft)
        if not convolutions:
            optionally(cache, f"onnx/{name}-{tower}-fused.onnx", lambda draft: fuse(onnx, folder, tower, draft))
        with new(cache / "openvino" / f"{name}-{tower}.xml") as draft:
            if draft:
                to_openvino(onnx, draft)
        if int8:
            optionally(cache, f"onnx/{name}-{tower}-int8.onnx", lambda draft: quantize_onnx(onnx, draft, convolutions))
        if int8 and tower == "image":
            optionally(cache, f"openvino/{name}-{tower}-int8.xml", lambda draft: quantize_openvino(onnx, draft, convolutions))


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
    parser.add_argument("--halves", action="store_true", help="only the checkpoints, and the same in fp16")
    arguments = parser.parse_args()
    for name in arguments.models:
        if arguments.halves:
            halves(arguments.cache, name)
        else:
            model(arguments.cache, name, arguments.towers, arguments.int8)
    if arguments.pictures:
        pictures(arguments.cache)


if __name__ == "__main__":
    main()
