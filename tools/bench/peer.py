"""One contender in a process of its own: reads a JSON request a line, answers with a JSON line, and sleeps in between.

    {"do": "load"}                                       → {"name": "ONNX Runtime 1.32.0"}
    {"do": "embed"}                                      → {"embeddings": [[…], […]]} of two fixed inputs
    {"do": "measure", "batch": 8, "seconds": 2, "input": "random"}   → {"rate": items per second, "note": "…"}

Inputs: "random" (pictures, or sentences that fill the context), "captions-77" (the captions, padded to the context),
"captions" (sorted by length, each batch padded to its longest), and for the two that are no models a list of files.
Where a peer has several ways to run, all are tried at warm-up, the fastest is measured, and the note names it.
"""

import json
import pathlib
import statistics
import sys
import time
from importlib.metadata import version

import numpy

import inputs


class Peer:
    """A tower as a peer runs it."""

    def __init__(self, settings: dict) -> None:
        self.tower: str = settings["tower"]
        self.model: str = settings["model"]
        self.int8: bool = settings["int8"]
        self.threads: int = settings["threads"]
        self.cache = pathlib.Path(settings["cache"])
        self.side: int = inputs.side(self.cache / "checkpoints" / self.model)
        self.chosen: dict[tuple[int, str], str] = {}

    def load(self) -> str:
        """Loads the model; the peer's name and release."""
        raise NotImplementedError

    def ways(self, batch: int, varying: bool) -> dict:
        """Name → function from an input array to an array of embeddings."""
        raise NotImplementedError

    def random(self, batch: int) -> numpy.ndarray:
        return inputs.pixels(batch, self.side) if self.tower == "image" else inputs.ids(batch)

    def batches(self, batch: int, kind: str) -> list[numpy.ndarray]:
        if kind == "random":
            return [self.random(batch)]
        rows = inputs.caption_ids(self.cache / "captions.tokens")
        if kind == "captions":
            rows.sort(key=len)
        length = 77 if kind == "captions-77" else None
        return [inputs.padded(rows[start:start + batch], length) for start in range(0, len(rows), batch)]

    def embed(self) -> list[list[float]]:
        x = self.random(2) if self.tower == "image" else \
            inputs.padded(inputs.caption_ids(self.cache / "captions.tokens")[:2], 77)
        run = next(iter(self.ways(1, False).values()))
        return [numpy.asarray(run(x[i:i + 1])[0], numpy.float64).tolist() for i in range(2)]

    def measure(self, batch: int, seconds: float, kind: str) -> dict:
        work = self.batches(batch, kind)
        ways = self.ways(batch, varying=kind == "captions")
        key = (batch, kind)

        def once(run) -> float:
            begun = time.perf_counter()
            for x in work:
                run(x)
            return time.perf_counter() - begun

        if key not in self.chosen:
            first = {name: once(run) for name, run in ways.items()}  # warm-up: kernels are chosen, memory is touched
            if len(ways) > 1:
                first = {name: min(once(run), once(run)) for name, run in ways.items()}
            self.chosen[key] = min(first, key=first.get)
        run = ways[self.chosen[key]]
        if sum(map(len, work)) < 64:
            once(run)
        times = []
        start = time.perf_counter()
        while not times or time.perf_counter() - start < seconds:
            times.append(once(run))
        return {"rate": sum(map(len, work)) / statistics.median(times), "runs": len(times), "note": self.chosen[key]}


class Torch(Peer):
    """What the peers on PyTorch share."""

    def load(self) -> str:
        import torch

        torch.set_num_threads(self.threads)
        torch.set_num_interop_threads(1)
        self.torch = torch
        self.function = self.tower_function()
        return f"{self.package()}, PyTorch {version('torch')}"

    def ways(self, batch: int, varying: bool) -> dict:
        def run(x: numpy.ndarray) -> numpy.ndarray:
            with self.torch.inference_mode():
                return self.function(self.torch.from_numpy(x)).numpy()

        return {"": run}


class OpenCLIP(Torch):
    def package(self) -> str:
        return f"open_clip {version('open_clip_torch')}"

    def tower_function(self):
        import open_clip

        model = open_clip.create_model(
            self.model + "-quickgelu", pretrained=str(self.cache / "open_clip" / f"{self.model}.safetensors")).eval()
        return model.encode_image if self.tower == "image" else model.encode_text


class Transformers(Torch):
    def package(self) -> str:
        return f"transformers {version('transformers')}"

    def tower_function(self):
        from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

        folder = self.cache / "checkpoints" / self.model
        if self.tower == "image":
            model = CLIPVisionModelWithProjection.from_pretrained(folder, attn_implementation="sdpa").eval()
            return lambda x: model(pixel_values=x).image_embeds
        model = CLIPTextModelWithProjection.from_pretrained(folder, attn_implementation="sdpa").eval()
        return lambda x: model(input_ids=x).text_embeds


class Compiled(Transformers):
    """torch.compile with frozen weights, which lets it lay them out once; shapes are fixed."""

    def package(self) -> str:
        return f"torch.compile of transformers {version('transformers')}"

    def tower_function(self):
        import torch._inductor.config

        torch._inductor.config.freezing = True
        return self.torch.compile(super().tower_function(), dynamic=False)

    def ways(self, batch: int, varying: bool) -> dict:
        def run(x: numpy.ndarray) -> numpy.ndarray:
            with self.torch.no_grad():  # freezing asks for it
                return self.function(self.torch.from_numpy(x)).numpy()

        return {"": run}


class ONNXRuntime(Peer):
    def load(self) -> str:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        names = {"int8": "-int8"} if self.int8 else {"as exported": "", "fused": "-fused"}
        self.sessions = {}
        for way, suffix in names.items():
            path = self.cache / "onnx" / f"{self.model}-{self.tower}{suffix}.onnx"
            if path.exists():
                self.sessions[way] = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        return f"ONNX Runtime {version('onnxruntime')}"

    def ways(self, batch: int, varying: bool) -> dict:
        return {way: lambda x, session=session: session.run(None, {"x": x})[0]
                for way, session in self.sessions.items()}


class OpenVINO(Peer):
    """Fixed shapes where inputs have them. For batches: one request of all, or one a thread with its share."""

    def load(self) -> str:
        import openvino

        self.openvino = openvino
        self.core = openvino.Core()
        suffix = "-int8" if self.int8 else ""
        self.path = self.cache / "openvino" / f"{self.model}-{self.tower}{suffix}.xml"
        self.requests: dict = {}
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path.name} was not made: nncf is missing or failed")
        return f"OpenVINO {version('openvino')}"

    def compiled(self, batch: int, varying: bool, streams: int) -> list:
        key = (batch, varying, streams)
        if key not in self.requests:
            graph = self.core.read_model(self.path)
            if not varying:
                graph.reshape([batch, 3, self.side, self.side] if self.tower == "image" else [batch, 77])
            compiled = self.core.compile_model(graph, "CPU", {
                "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT", "NUM_STREAMS": str(streams),
                "INFERENCE_NUM_THREADS": str(self.threads),
                "INFERENCE_PRECISION_HINT": "f32"})  # by itself it takes bf16 where the CPU has it
            self.requests[key] = [compiled.create_infer_request() for _ in range(streams)]
        return self.requests[key]

    def ways(self, batch: int, varying: bool) -> dict:
        def latency(x: numpy.ndarray) -> numpy.ndarray:
            request = self.compiled(batch, varying, 1)[0]
            request.infer({0: x}, share_inputs=True)
            return request.get_output_tensor().data

        def throughput(x: numpy.ndarray) -> numpy.ndarray:
            share = len(x) // self.threads
            requests = self.compiled(batch // self.threads, varying, self.threads)
            for index, request in enumerate(requests):
                request.start_async({0: x[index * share:(index + 1) * share]}, share_inputs=True)
            for request in requests:
                request.wait()
            return numpy.concatenate([request.get_output_tensor().data for request in requests])

        ways = {"latency": latency}
        if self.threads > 1 and batch % self.threads == 0:
            ways["throughput"] = throughput
        return ways


class Pillow:
    """The reference's preprocessing by Pillow and numpy: files to normalised float32."""

    def load(self) -> str:
        return f"Pillow {version('pillow')}"

    def measure(self, batch: int, seconds: float, files: list[str]) -> dict:
        begun = time.perf_counter()
        for file in files:
            inputs.preprocessed(file)
        return {"rate": len(files) / (time.perf_counter() - begun), "runs": 1, "note": ""}


class OpenAITokenizer:
    def load(self) -> str:
        import clip

        self.clip = clip
        clip.tokenize(inputs.captions())
        return f"openai-clip {version('openai-clip')}"

    def measure(self, batch: int, seconds: float, repeats: int) -> dict:
        texts = inputs.captions() * repeats
        begun = time.perf_counter()
        self.clip.tokenize(texts)
        return {"rate": len(texts) / (time.perf_counter() - begun), "runs": 1, "note": ""}


CONTENDERS = {
    "open_clip": OpenCLIP, "transformers": Transformers, "compiled": Compiled, "onnxruntime": ONNXRuntime,
    "openvino": OpenVINO}


def main() -> None:
    settings = json.loads(sys.argv[1])
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries that talk must not break the protocol
    kind = settings["contender"]
    peer = {"pillow": Pillow, "tokenizer": OpenAITokenizer}[kind]() if kind in ("pillow", "tokenizer") \
        else CONTENDERS[kind](settings)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            match request["do"]:
                case "load": answer = {"name": peer.load()}
                case "embed": answer = {"embeddings": peer.embed()}
                case _: answer = peer.measure(request["batch"], request["seconds"], request["input"])
        except Exception as error:  # a peer that fails loses its row, not the run
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
