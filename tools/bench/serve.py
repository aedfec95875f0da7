"""Servers of embeddings and their clients, for the section `serve`: ours, and Infinity's with dynamic batching."""

import base64
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).parent


def infinity_python(cache: pathlib.Path, say) -> pathlib.Path:
    """An environment for Infinity: it needs transformers 4, beside the bench's torch and the rest."""
    folder = cache / "infinity"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        say("installing Infinity into", folder)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, stdout=sys.stderr)
        packages = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"], check=True,
                                  capture_output=True, text=True).stdout.strip()
        shared = next(path for path in sys.path if path.endswith("site-packages"))
        (pathlib.Path(packages) / "bench.pth").write_text(shared + "\n")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", HERE / "requirements-serve.txt"], check=True, stdout=sys.stderr)
        # Without their dependencies, which would bring torch along once more, with CUDA. Newer transformers return other
        # things than Infinity reads.
        subprocess.run([*pip, "--no-deps", "infinity_emb", "optimum", "transformers<5"], check=True, stdout=sys.stderr)
        (folder / "complete").touch()
    return python


def with_tokenizer(cache: pathlib.Path, model: str) -> pathlib.Path:
    """The model's folder with the tokenizer's files beside it, which Infinity asks for."""
    from clip.simple_tokenizer import SimpleTokenizer

    folder = cache / "served" / model
    folder.mkdir(parents=True, exist_ok=True)
    for file in (cache / "checkpoints" / model).iterdir():
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)
    tokenizer = SimpleTokenizer()
    (folder / "vocab.json").write_text(json.dumps(tokenizer.encoder, ensure_ascii=False))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in tokenizer.bpe_ranks))
    start, end = "<|startoftext|>", "<|endoftext|>"
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": start, "eos_token": end,
         "unk_token": end, "pad_token": end}))
    return folder


class Server:
    """A server on a free port, and as many clients at once as are asked for."""

    def __init__(self, name: str, command: list, path: str, model: str, log: pathlib.Path, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.name, self.path, self.model = name, path, model
        self.process = subprocess.Popen([*map(str, command), "--port", str(self.port)], stdout=open(log, "w"),
                                        stderr=subprocess.STDOUT, env=dict(os.environ, **environment))
        limit = time.monotonic() + 180
        while self.process.poll() is None and time.monotonic() < limit:
            try:
                self.embed(["ready"])
                return
            except (OSError, http.client.HTTPException, KeyError):
                time.sleep(0.5)
        self.close()
        raise RuntimeError(f"{name} does not answer; {log} says why")

    def request(self, connection: http.client.HTTPConnection, values: list[str]) -> dict:
        image = values[0].startswith("data:")
        body = {"model": self.model, "input": values, "encoding_format": "float",
                "modality": "image" if image else "text"}
        connection.request("POST", self.path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise KeyError(f"{self.name}: {response.status} {answer[:200]!r}")
        return json.loads(answer)

    def embed(self, values: list[str]) -> list[list[float]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        rows = self.request(connection, values)["data"]
        return [row["embedding"] for row in rows]

    def measure(self, clients: int, seconds: float, values: list[str]) -> tuple[float, float]:
        """Requests of one input each: how many a second, and the median milliseconds of one."""
        times: list[float] = []
        end = time.perf_counter() + seconds

        def ask(client: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            index = client
            while (begun := time.perf_counter()) < end:
                self.request(connection, [values[index % len(values)]])
                times.append(time.perf_counter() - begun)
                index += clients

        begun = time.perf_counter()
        threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(times) / (time.perf_counter() - begun), 1000 * statistics.median(times)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def pictures(cache: pathlib.Path) -> list[str]:
    files = sorted((cache / "pictures" / "500x375").iterdir())
    return ["data:image/jpeg;base64," + base64.b64encode(file.read_bytes()).decode() for file in files]


def servers(cache: pathlib.Path, binary: str, threads: int, say) -> list[Server]:
    model = "ViT-B-32"
    result = [Server("clip-gpu", [binary, "serve", "--device", "cpu", "--threads", threads, "--model",
                                  cache / "checkpoints" / model], "/v1/embeddings", model, cache / "serve.log")]
    try:
        folder, python = with_tokenizer(cache, model), infinity_python(cache, say)
        versions = subprocess.run(
            [python, "-c", "from importlib.metadata import version as v; print(v('infinity_emb'), v('transformers'))"],
            check=True, capture_output=True, text=True).stdout.split()
        command = [python, "-m", "infinity_emb.cli", "v2", "--model-id", folder,
                   "--served-model-name", model, "--engine", "torch", "--device", "cpu", "--dtype", "float32", "--host",
                   "127.0.0.1"]
        result.append(Server(f"Infinity {versions[0]}, transformers {versions[1]}", command, "/embeddings", model, cache / "infinity.log", HF_HUB_OFFLINE="1",
                             DO_NOT_TRACK="1", INFINITY_ANONYMOUS_USAGE_STATS="0", OMP_NUM_THREADS=str(threads)))
    except (RuntimeError, subprocess.CalledProcessError) as error:
        say("left out:", error)
    return result
