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
    from inputs import preprocessed

    x = preprocessed(picture)[None]
    if peer == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(f"{cache}/onnx/ViT-B-32-image.onnx", providers=["CPUExecutionProvider"])
        print(session.run(None, {"x": x})[0].tolist())
    else:
        import openvino

        model = openvino.Core().compile_model(
            f"{cache}/openvino/ViT-B-32-image.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        print(model(x)[0].tolist())
