"""Trains the demonstration model on fresh scenes, batch after batch; no scene is seen twice.

    python tools/demo/train.py --output FOLDER

The loss has three parts. Two are CLIP's own, over a batch: pictures against captions that say everything, and
pictures against captions that say a little ("a red circle"); a caption that happens to hold of another picture too is
left out of that picture's negatives. The third reads each attribute off picture and text embeddings with one linear
map for both, thrown away afterwards: it puts "red" in the same direction wherever it comes from, which is what lets
the model name pairs it has never seen.
"""

import argparse
import math
import os
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import distributed, multiprocessing, nn

import model as demo
import scenes


def occurring_tokens(words):
    """Every id that a caption can hold, from enough captions that none can be missing."""
    generator = torch.Generator().manual_seed(0)
    tokens = set()
    batch = scenes.draw(20000, generator, held_out=True)
    for full in (True, False):
        for text in scenes.captions(batch, full, seed=0)[0]:
            tokens.update(words.encode(text))
    for text in scenes.class_prompts():
        tokens.update(words.encode(text))
    return tokens


class Readout(nn.Module):
    """Attributes read off an embedding, by one linear map shared by pictures and texts."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(demo.PROJECTION, sum(scenes.ATTRIBUTES.values()))
        self.scale = nn.Parameter(torch.tensor(3.0))

    def loss(self, unit, facts):
        """unit [n, projection], facts [n, attributes] with -1 where unknown."""
        parts = (self.map(unit) * self.scale.exp()).split(list(scenes.ATTRIBUTES.values()), 1)
        return 0.3 * sum(
            (2 if name.startswith("shape") else 1)  # colours come by themselves, shapes take work
            * F.cross_entropy(part, facts[:, k], ignore_index=-1, reduction="sum") / len(unit)
            for k, (name, part) in enumerate(zip(scenes.ATTRIBUTES, parts)))


def contrast(images, texts, scale, fits):
    """Both directions of CLIP's loss; [i, j] with i != j is no negative where caption j holds of picture i."""
    logits = scale * images @ texts.T
    own = torch.eye(len(images), dtype=torch.bool)
    logits = logits.masked_fill(fits & ~own, -1e4)
    target = torch.arange(len(images))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def accuracy(net, words, pictures, facts, prompts):
    """Zero-shot over the 64 classes: (seen pairs, held-out pairs)."""
    net.eval()
    unit = F.normalize(net.encode_image(pictures), dim=1)
    texts = F.normalize(net.encode_text(*words.batch(prompts, net.tokens)), dim=1)
    label = facts["colour1"] * 8 + facts["shape1"]
    right = (unit @ texts.T).argmax(1) == label
    held = scenes.HELD_OUT_TABLE[facts["colour1"], facts["shape1"]]
    net.train()
    return right[~held].float().mean().item(), right[held].float().mean().item()


@torch.no_grad()
def recall(net, words, pictures, texts):
    net.eval()
    similarity = F.normalize(net.encode_image(pictures), dim=1) @ F.normalize(
        net.encode_text(*words.batch(texts, net.tokens)), dim=1).T
    net.train()
    target = torch.arange(len(texts))
    return tuple((s.argmax(1) == target).float().mean().item() for s in (similarity, similarity.T))


def average_gradients(parameters, workers):
    """Leaves in every worker the mean of the workers' gradients."""
    flat = torch.cat([p.grad.flatten() for p in parameters])
    distributed.all_reduce(flat)
    flat /= workers
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad.copy_(part.view_as(p))


def work(rank, options, meeting):
    """One worker of several: its own batches, everybody's mean gradient."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=options.workers)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    words = demo.Words()
    net, readout = demo.DemoCLIP(occurring_tokens(words)), Readout()
    generator = torch.Generator().manual_seed(options.seed)
    net.whiten(scenes.render(scenes.draw(1024, generator), demo.IMAGE_SIZE, generator))
    parameters = [*net.parameters(), *readout.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.05},
         {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}],
        lr=options.rate, betas=(0.9, 0.98), eps=1e-6)
    start = 0
    if options.resume:
        saved = torch.load(options.resume)
        net.load_state_dict(saved["net"])
        readout.load_state_dict(saved["readout"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    end = start + options.steps
    if rank == 0:
        print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters, {len(net.tokens)} tokens, "
              f"steps {start} to {end}", flush=True)

    # For watching only; the figures of the model card come from evaluate.py and other seeds.
    watch = torch.Generator().manual_seed(10_000_019)
    singles = scenes.draw(512, watch, held_out=True, double=0)
    single_pictures = scenes.render(singles, demo.IMAGE_SIZE, watch)
    pairs = scenes.draw(256, watch, held_out=True)
    pair_pictures = scenes.render(pairs, demo.IMAGE_SIZE, watch)
    pair_texts = scenes.captions(pairs, True, 0)[0]

    begun, total = time.time(), 0.0
    for step in range(start, end):
        left = (end - step) / options.cooldown if options.cooldown else 1
        rate = options.rate * min(1, (step + 1) / 200, left)
        for group in optimizer.param_groups:
            group["lr"] = rate
        seed = (options.seed * 1_000_003 + step) * options.workers + rank
        generator = torch.Generator().manual_seed(seed)
        batch = scenes.with_twins(scenes.draw(options.batch // 2, generator), generator)
        pictures = scenes.render(batch, demo.IMAGE_SIZE, generator)
        facts = torch.stack([batch[name] for name in scenes.ATTRIBUTES], 1)

        images = F.normalize(net.encode_image(pictures, torch.bfloat16), dim=1)
        loss = readout.loss(images, facts)
        said = [scenes.captions(batch, full, 2 * seed + full) for full in (True, False)]
        ids, ends = words.batch(said[0][0] + said[1][0], net.tokens)
        texts = F.normalize(net.encode_text(ids, ends, torch.bfloat16), dim=1)
        for part, (_, stated, ordered) in zip(texts.split(options.batch), said):
            fits = scenes.fits(batch, stated, ordered)
            loss = loss + contrast(images, part, net.logit_scale.exp(), fits) / 2
            # Two shapes in no order: which is the first is not said
            known = stated.clone()
            known[((stated[:, 3] >= 0) | (stated[:, 4] >= 0)) & ~ordered & (facts[:, 6] > 0), :6] = -1
            loss = loss + readout.loss(part, known) / 2

        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(parameters, options.workers)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            net.logit_scale.clamp_(max=math.log(100))
        total += loss.item()
        if rank or not ((step + 1) % 100 == 0 or step + 1 == end):
            continue
        seen, held = accuracy(net, words, single_pictures, singles, scenes.class_prompts())
        r1 = recall(net, words, pair_pictures, pair_texts)
        print(f"step {step + 1}  {time.time() - begun:.0f} s  rate {rate:.1e}  loss {total / 100:.3f}  "
              f"scale {net.logit_scale.exp().item():.1f}  seen {seen:.3f}  held out {held:.3f}  "
              f"R@1 {r1[0]:.3f} {r1[1]:.3f}", flush=True)
        total = 0.0
        torch.save({"net": net.state_dict(), "readout": readout.state_dict(),
                    "optimizer": optimizer.state_dict(), "step": step + 1}, options.output / "checkpoint.pt")
    if rank == 0:
        demo.save(net, options.output)
        print(f"{time.time() - begun:.0f} s of training", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4600)
    parser.add_argument("--batch", type=int, default=64, help="of each worker; half of it are twins of the other half")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--cooldown", type=int, default=1400, help="last steps, of falling rate; 0: none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="a checkpoint.pt; --steps then counts from its step")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    # The workers' C library keeps freed memory: giving it back and faulting it in again took a third of their time
    os.environ.update(MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_="4000000000", MALLOC_TOP_PAD_="268435456")
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (options, f"{folder}/meeting"), nprocs=options.workers)


if __name__ == "__main__":
    main()
