#!/usr/bin/env python3
"""Compares models opened by open_clip's names with open_clip itself, both fetching from a hub on this machine.

    python3 tools/compare_names.py BINARY [NAME...]      BINARY is what tools/build prints

For each name, open_clip makes the architecture with drawn weights, which a small web server offers as Hugging Face's hub
would. Then clip-gpu embeds a picture (and a sentence, where the tokenizer is CLIP's own) by the name alone, and open_clip
does, by the same name. They take turns in going first, so that each finds in the cache what the other has fetched: the
weights must cross the network once. Needs open_clip_torch, torch and Pillow, and a few gigabytes in $TMPDIR.
"""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.parse

NAMES = [
    "ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/metaclip_400m", "ViT-B-16-SigLIP/webli", "coca_ViT-B-32/laion2b_s13b_b90k",
    "ViT-L-14-CLIPA/datacomp1b",
]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SAMPLE = pathlib.Path(__file__).resolve().parent / "samples/chelsea.jpg"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as downloads need; large files lie under another address."""

    protocol_version = "HTTP/1.1"
    root, tags, transfers = None, {}, 0

    def log_message(self, *_):
        pass

    def answer(self, status, fields, body=b""):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "X-Repo-Commit": COMMIT, **fields}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def tag(self, path):
        if path not in Hub.tags:
            data = path.read_bytes()
            large = len(data) > 1 << 16
            Hub.tags[path] = (hashlib.sha256(data) if large else hashlib.sha1(b"blob %d\0" % len(data) + data)).hexdigest()
        return f'"{Hub.tags[path]}"'

    def do_GET(self):
        parts = urllib.parse.unquote(urllib.parse.urlparse(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"] and "revision" in parts:
            folder = Hub.root.joinpath(*parts[2 : parts.index("revision")])
            if folder.is_dir():
                siblings = [{"rfilename": file.name, "size": file.stat().st_size} for file in folder.iterdir()]
                body = json.dumps({"sha": COMMIT, "siblings": siblings}).encode()
                return self.answer(200, {"Content-Type": "application/json"}, body)
        elif parts[0] == "cdn":
            Hub.transfers += self.command == "GET"
            return self.answer(200, {}, Hub.root.joinpath(*parts[1:]).read_bytes())
        elif "resolve" in parts:
            at = parts.index("resolve")
            path = Hub.root.joinpath(*parts[:at], *parts[at + 2 :])
            if path.is_file() and path.stat().st_size > 1 << 16:
                place = f"http://{self.headers['Host']}/cdn/{path.relative_to(Hub.root)}"
                size = path.stat().st_size
                return self.answer(302, {"Location": place, "X-Linked-Etag": self.tag(path), "X-Linked-Size": size})
            if path.is_file():
                return self.answer(200, {"ETag": self.tag(path)}, path.read_bytes())
        self.answer(404, {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET


def publish(name, root):
    """Puts drawn weights of the architecture where the name leads."""
    import open_clip
    import safetensors.torch
    import torch

    architecture, tag = name.split("/")
    folder = root / open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].strip("/")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    state = open_clip.create_model(architecture).state_dict()
    state = {key: (value + 0.01 * torch.randn_like(value)).contiguous() for key, value in state.items() if key != "attn_mask"}
    safetensors.torch.save_file(state, folder / "open_clip_model.safetensors")
    tokenizer = open_clip.get_model_config(architecture)["text_cfg"].get("hf_tokenizer_name")
    if tokenizer:
        (root / tokenizer).mkdir(parents=True, exist_ok=True)
        (root / tokenizer / "tokenizer.json").write_text("{}")  # something to fetch; sentences are not compared
    return tokenizer is None


def reference(name, has_text):
    import open_clip
    import torch
    from PIL import Image

    architecture, tag = name.split("/")
    # With the plain name open_clip warns of the wrong activation, and uses it.
    quick = open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu")
    model, _, preprocess = open_clip.create_model_and_transforms(architecture + "-quickgelu" * bool(quick), pretrained=tag)
    model.eval()
    with torch.no_grad():
        rows = [model.encode_image(preprocess(Image.open(SAMPLE))[None])]
        if has_text:
            rows.append(model.encode_text(open_clip.get_tokenizer(architecture)(["a photo of a cat"])))
    return torch.nn.functional.normalize(torch.cat(rows), dim=-1).numpy()


def ours(binary, name, has_text):
    import numpy

    command = [binary, "embed", "--model", name, "--device", "cpu", str(SAMPLE)]
    run = subprocess.run(command + ["--text", "a photo of a cat"] * has_text, stdout=subprocess.PIPE, check=True, text=True)
    return numpy.array([json.loads(line)["embedding"] for line in run.stdout.splitlines()])


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        Hub.root = pathlib.Path(folder) / "hub"
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": folder + "/cache"}
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        worst = 0
        for turn, name in enumerate(sys.argv[2:] or NAMES):
            has_text = publish(name, Hub.root)
            before = Hub.transfers
            if turn % 2:
                expected, found = reference(name, has_text), ours(sys.argv[1], name, has_text)
            else:
                found, expected = ours(sys.argv[1], name, has_text), reference(name, has_text)
            error = abs(found - expected).max() / abs(expected).max()
            worst = max(worst, error)
            print(f"{name}: relative error {error:.1e}, {Hub.transfers - before} transfer of the weights", flush=True)
            if Hub.transfers - before != 1:
                sys.exit("the weights must be fetched once")
        if worst > 1e-4:
            sys.exit("relative error above 1e-4")


if __name__ == "__main__":
    main()
