"""What a script that embeds one picture does, from its first line: python start.py PEER CACHE PICTURE."""

import sys

peer, cache, picture = sys.argv[1:]
if peer == "open_clip":
    import open_clip
    import torch
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(
        "ViT-B-32-quickgelu", pretrained=f"{cache}/open_clip/ViT-B-32.safetensors")
    with torch.inference_mode():
        print(model.eval().encode_image(preprocess(Image.open(picture)).unsqueeze(0)).tolist())
elif peer == "transformers":
    import torch
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    model = CLIPVisionModelWithProjection.from_pretrained(f"{cache}/checkpoints/ViT-B-32")
    processor = CLIPImageProcessor.from_pretrained(f"{cache}/checkpoints/ViT-B-32")
    with torch.inference_mode():
        print(model(**processor(Image.open(picture), return_tensors="pt")).image_embeds.tolist())
else:
    import numpy
    from PIL import Image

    from inputs import normalized

    image = Image.open(picture)
    scale = 224 / min(image.size)
    width, height = (max(224, int(side * scale)) for side in image.size)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    x = normalized(numpy.asarray(image.convert("RGB")))[None]
    if peer == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(f"{cache}/onnx/ViT-B-32-image.onnx", providers=["CPUExecutionProvider"])
        print(session.run(None, {"x": x})[0].tolist())
    else:
        import openvino

        model = openvino.Core().compile_model(
            f"{cache}/openvino/ViT-B-32-image.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        print(model(x)[0].tolist())
