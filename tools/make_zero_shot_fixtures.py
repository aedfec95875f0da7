"""Makes the fixture of zero-shot classification: what open_clip's own functions make of the demonstration model.

    python tools/make_zero_shot_fixtures.py       writes Tests/CLIPGPUTests/Fixtures/zero-shot

transformers computes in double, `build_zero_shot_classifier` of open_clip makes the labels' vectors, and scikit-learn
counts: accuracies, and `balanced_accuracy_score` as CLIP_benchmark does. The pictures are those of tools/samples and of
the demonstration model's evaluation set. The model knows that set, so one picture in seven is said to be of the next
class; and classes keep one to eight, so that the mean of their recalls is not the accuracy.
"""

import json
import sys
from pathlib import Path

import torch
from open_clip import build_zero_shot_classifier
from safetensors.torch import save_file
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

sys.path.insert(0, str(Path(__file__).resolve().parent / "demo"))
import evaluate as demo
import scenes

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "Tests" / "CLIPGPUTests" / "Fixtures" / "zero-shot"
SAMPLES = ["red-circle.png", "blue-heart.png", "white-star.png", "chelsea.jpg"]
TEMPLATES = ["a {}", "a small {} before something brown", "two of them: {}", "{} left of a purple ring"]


class Adapter:
    """A model as open_clip's functions call it."""

    def __init__(self, reference, normalized=True):
        self.reference, self.normalized = reference, normalized

    def encode_text(self, ids, normalize):
        assert normalize
        features = self.reference.model.get_text_features(input_ids=ids).pooler_output
        return demo.unit(features) if self.normalized else features

    def tokenizer(self, texts):
        ids = [self.reference.words.encode(text) for text in texts]
        length = max(map(len, ids))
        return torch.tensor([row + [demo.demo.END] * (length - len(row)) for row in ids])


def main():
    reference = demo.Reference(demo.MODEL)
    colours, shapes = scenes.COLOURS, scenes.SHAPES
    names = [f"{colour} {shape}" for colour in colours for shape in shapes]
    labels = sorted(names)

    def vectors(model):
        return build_zero_shot_classifier(model, model.tokenizer, labels, TEMPLATES).T

    expected = vectors(Adapter(reference))
    wrong = vectors(Adapter(reference, normalized=False))
    print(f"without unit length before the mean: {(expected - wrong).abs().max():.1e}")

    files, records = demo.read()
    chosen = [i for i, record in enumerate(records) if record["kind"] == "class" and i // 64 <= record["label"] % 8]
    targets = torch.tensor([labels.index(names[records[i]["label"]]) for i in chosen])
    targets[::7] = (targets[::7] + 1) % len(labels)
    images = demo.unit(reference.images([files[i] for i in chosen]).double())
    logits = 100 * images @ expected.T
    figures = {
        "acc1": top_k_accuracy_score(targets, logits, k=1, labels=range(len(labels))),
        "acc5": top_k_accuracy_score(targets, logits, k=5, labels=range(len(labels))),
        "mean_per_class_recall": balanced_accuracy_score(targets, logits.argmax(1)),
    }
    best = logits.topk(6, 1).values
    print(figures, f"least distance of ranks that matter: {(best[:, 0] - best[:, 1]).min() / 100:.1e}, "
          f"{(best[:, 4] - best[:, 5]).min() / 100:.1e}")

    samples = demo.unit(reference.images([(ROOT / "tools/samples" / name).read_bytes() for name in SAMPLES]).double())
    cosines = samples @ expected.T
    probabilities = (reference.model.logit_scale.exp() * cosines).softmax(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file({"vectors": expected.float().contiguous(), "cosines": cosines.float(), "probabilities": probabilities.float()},
              FOLDER / "reference.safetensors")
    (FOLDER / "reference.json").write_text(json.dumps({
        "labels": labels, "templates": TEMPLATES, "samples": SAMPLES, **figures, "scenes": chosen,
        "targets": targets.tolist()}) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main()
