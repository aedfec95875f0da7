"""The demonstration model while it is trained: CLIP's graph in plain PyTorch, and its way into Hugging Face format.

The parameters are those of `transformers.CLIPModel`, arranged for speed on a CPU: queries, keys and values in one
matrix, QuickGELU as SiLU (x·σ(1.702x) = silu(1.702x) / 1.702, the factors live in the neighbouring matrices), patches
cut by a reshape, and a token table of only the tokens that occur. `to_transformers` undoes all of that.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

IMAGE_SIZE, PATCH = 48, 8
VISION = {"width": 128, "layers": 4, "heads": 4}
TEXT = {"width": 64, "layers": 3, "heads": 2}
PROJECTION = 96
VOCABULARY, CONTEXT, START, END = 49408, 77, 49406, 49407
EPSILON = 1e-5
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
QUICK = 1.702


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.bias.to(x.dtype), EPSILON)


class Linear(nn.Module):
    def __init__(self, inputs, outputs, bias=True, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * gain / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class Block(nn.Module):
    def __init__(self, width, heads, layers):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width, gain=0.5 / math.sqrt(layers))
        self.expand = Linear(width, 4 * width, gain=QUICK)
        self.contract = Linear(4 * width, width, gain=1 / math.sqrt(layers))

    def forward(self, x, causal):
        n, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # Spelt out: the fused operation's backward pass takes more than half of a step on a CPU
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if causal:
            scores = scores + torch.full((length, length), -1e4, dtype=x.dtype).triu(1)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width)
        x = x + self.out(y)
        return x + self.contract(F.silu(self.expand(self.norm2(x))))


def patches(pictures):
    """uint8 [n, size, size, 3] -> normalised float32 [n, patches, 3 * patch * patch], channel by channel."""
    n, side = len(pictures), IMAGE_SIZE // PATCH
    x = (pictures.float() / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return x.view(n, side, PATCH, side, PATCH, 3).permute(0, 1, 3, 5, 2, 4).reshape(n, side * side, -1)


def grid_positions(side, width):
    """Where learnt positions start: sines of row and column, so that neighbours are alike from the first step."""
    wave = torch.arange(side)[:, None] * math.pi / side * torch.arange(1, width // 4 + 1) / (width / 4) * side / 2
    one = torch.cat([wave.sin(), wave.cos()], 1)
    grid = torch.cat([one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)], 2)
    return 0.5 * torch.cat([torch.zeros(1, width), grid.reshape(side * side, width)])


class DemoCLIP(nn.Module):
    def __init__(self, tokens):
        """`tokens`: the ids that occur in captions; only these have a trained row."""
        super().__init__()
        wide, narrow = VISION["width"], TEXT["width"]
        self.register_buffer("tokens", torch.tensor(sorted(tokens)))
        self.patch = Linear(3 * PATCH * PATCH, wide, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(wide) * 0.2)
        self.vision_positions = nn.Parameter(grid_positions(IMAGE_SIZE // PATCH, wide))
        self.norm_before, self.norm_after = Norm(wide), Norm(wide)
        self.vision = nn.ModuleList(Block(wide, VISION["heads"], VISION["layers"]) for _ in range(VISION["layers"]))
        self.token_table = nn.Parameter(torch.randn(len(tokens), narrow) * 0.5)
        self.text_positions = nn.Parameter(torch.randn(CONTEXT, narrow) * 0.1)
        self.text = nn.ModuleList(Block(narrow, TEXT["heads"], TEXT["layers"]) for _ in range(TEXT["layers"]))
        self.norm_final = Norm(narrow)
        self.vision_projection = Linear(wide, PROJECTION, bias=False)
        self.text_projection = Linear(narrow, PROJECTION, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @torch.no_grad()
    def whiten(self, pictures):
        """Starts the patch embedding as the whitened principal components of patches, so that edges count at once."""
        x = patches(pictures).flatten(0, 1)
        values, vectors = torch.linalg.eigh(torch.cov(x.T))
        top = slice(-VISION["width"], None)
        self.patch.weight.copy_((vectors[:, top] / (values[top] + 0.01 * values.mean()).sqrt()).T)

    def encode_image(self, pictures, dtype=torch.float32):
        """uint8 [n, size, size, 3] -> float32 [n, projection], not normalised."""
        n = len(pictures)
        x = patches(pictures).to(dtype)
        x = torch.cat([self.class_embedding.to(dtype).expand(n, 1, -1), self.patch(x)], 1)
        x = self.norm_before(x + self.vision_positions.to(dtype))
        for block in self.vision:
            x = block(x, causal=False)
        return self.vision_projection(self.norm_after(x[:, 0].float()))

    def encode_text(self, ids, ends, dtype=torch.float32):
        """Positions in the trained table [n, length] and those of the end token [n] -> float32 [n, projection]."""
        x = F.embedding(ids, self.token_table.to(dtype)) + self.text_positions[: ids.shape[1]].to(dtype)
        for block in self.text:
            x = block(x, causal=True)
        x = x[torch.arange(len(x)), ends].float()
        return self.text_projection(self.norm_final(x))


class Words:
    """Captions to ids, by the tokenizer of CLIP with a cache of words (its pre-tokenizer never joins two words)."""

    def __init__(self):
        from open_clip.tokenizer import SimpleTokenizer

        self.encode_word, self.cache = SimpleTokenizer().encode, {}

    def encode(self, text):
        ids = [START]
        for word in text.split():
            if word not in self.cache:
                self.cache[word] = self.encode_word(word)
            ids += self.cache[word]
        return ids + [END]

    def batch(self, texts, tokens):
        """Positions of the ids in the sorted `tokens`, padded with the end token, and where each text ends."""
        ids = [self.encode(text) for text in texts]
        length = max(map(len, ids))
        ends = torch.tensor([len(row) - 1 for row in ids])
        table = torch.tensor([row + [END] * (length - len(row)) for row in ids])
        places = torch.searchsorted(tokens, table)
        if not torch.equal(tokens[places.clamp(max=len(tokens) - 1)], table):
            raise ValueError("a caption holds a token that was not among those counted beforehand")
        return places, ends


def to_transformers(model):
    """The same model as a `transformers.CLIPModel` in float32, tokens that never occurred given small random rows."""
    from transformers import CLIPConfig, CLIPModel

    def tower(sizes):
        return {"hidden_size": sizes["width"], "intermediate_size": 4 * sizes["width"],
                "num_hidden_layers": sizes["layers"], "num_attention_heads": sizes["heads"],
                "hidden_act": "quick_gelu", "layer_norm_eps": EPSILON, "projection_dim": PROJECTION}

    config = CLIPConfig(
        text_config={**tower(TEXT), "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT,
                     "bos_token_id": START, "eos_token_id": END, "pad_token_id": END},
        vision_config={**tower(VISION), "image_size": IMAGE_SIZE, "patch_size": PATCH},
        projection_dim=PROJECTION)
    target = CLIPModel(config).eval()
    source = {name: value.detach() for name, value in model.state_dict().items()}
    state = {}

    def copy(name, to):
        for end in ("weight", "bias"):
            if f"{name}.{end}" in source:
                state[f"{to}.{end}"] = source[f"{name}.{end}"]

    for tower_name, blocks in (("vision", model.vision), ("text", model.text)):
        for i in range(len(blocks)):
            here, there = f"{tower_name}.{i}", f"{tower_name}_model.encoder.layers.{i}"
            for end in ("weight", "bias"):
                for part, rows in zip("qkv", source[f"{here}.qkv.{end}"].chunk(3)):
                    state[f"{there}.self_attn.{part}_proj.{end}"] = rows.clone()
                state[f"{there}.mlp.fc1.{end}"] = source[f"{here}.expand.{end}"] / QUICK
            state[f"{there}.mlp.fc2.weight"] = source[f"{here}.contract.weight"] * QUICK
            state[f"{there}.mlp.fc2.bias"] = source[f"{here}.contract.bias"]
            copy(f"{here}.out", f"{there}.self_attn.out_proj")
            copy(f"{here}.norm1", f"{there}.layer_norm1")
            copy(f"{here}.norm2", f"{there}.layer_norm2")
    copy("norm_before", "vision_model.pre_layrnorm")
    copy("norm_after", "vision_model.post_layernorm")
    copy("norm_final", "text_model.final_layer_norm")
    copy("vision_projection", "visual_projection")
    copy("text_projection", "text_projection")
    state["vision_model.embeddings.patch_embedding.weight"] = source["patch.weight"].view(-1, 3, PATCH, PATCH)
    state["vision_model.embeddings.class_embedding"] = source["class_embedding"]
    state["vision_model.embeddings.position_embedding.weight"] = source["vision_positions"]
    state["text_model.embeddings.position_embedding.weight"] = source["text_positions"]
    trained = source["token_table"]
    table = torch.randn(VOCABULARY, TEXT["width"], generator=torch.Generator().manual_seed(0)) * trained.std()
    table[source["tokens"]] = trained
    state["text_model.embeddings.token_embedding.weight"] = table
    state["logit_scale"] = source["logit_scale"]
    missing, unexpected = target.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("position_ids")]
    if missing or unexpected:
        raise ValueError(f"the model does not fit transformers: missing {missing}, unexpected {unexpected}")
    return target


def save(model, folder):
    """Writes config.json, model.safetensors (fp16) and preprocessor_config.json."""
    folder = Path(folder)
    to_transformers(model).half().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"shortest_edge": IMAGE_SIZE}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(MEAN), "image_std": list(DEVIATION),
    }, indent=2) + "\n")
