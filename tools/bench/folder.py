"""The best script with a peer that turns a list of files into vectors: python folder.py PEER WAY CACHE THREADS OUTPUT < LIST

Ways, of which the benchmark takes the one that is fastest on the machine:

    pool     a pool of THREADS threads decodes and scales ahead (Pillow lets go of Python's lock in both), and the peer
             computes batches with THREADS threads of its own meanwhile
    shards   THREADS processes, each of which decodes and computes its share of the list with one thread
"""

import concurrent.futures
import multiprocessing
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy

import inputs

BATCH = 16


def batches(files: list[str], pool: concurrent.futures.Executor | None) -> Iterator[numpy.ndarray]:
    """Batches of pictures, those to come being prepared meanwhile where there is a pool."""
    waiting: list = []
    for start in range(0, len(files), BATCH):
        part = files[start:start + BATCH]
        if pool is None:
            yield numpy.stack([inputs.preprocessed(file) for file in part])
            continue
        waiting.append([pool.submit(inputs.preprocessed, file) for file in part])
        if len(waiting) > 2:
            yield numpy.stack([picture.result() for picture in waiting.pop(0)])
    for rest in waiting:
        yield numpy.stack([picture.result() for picture in rest])


def onnxruntime_rows(cache: pathlib.Path, threads: int) -> Callable[[Iterable[numpy.ndarray]], list[numpy.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin for work take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        str(cache / "onnx" / "ViT-B-32-image.onnx"), options, ["CPUExecutionProvider"])
    return lambda parts: [session.run(None, {"x": x})[0] for x in parts]


def openvino_rows(cache: pathlib.Path, threads: int) -> Callable[[Iterable[numpy.ndarray]], list[numpy.ndarray]]:
    """Asynchronous requests, as many streams as threads: the next batch begins before the last one has ended."""
    import openvino

    graph = openvino.Core().read_model(cache / "openvino" / "ViT-B-32-image.xml")
    compiled = openvino.compile_model(graph, "CPU", {
        "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(threads), "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32"})

    def run(parts: Iterable[numpy.ndarray]) -> list[numpy.ndarray]:
        rows: dict[int, numpy.ndarray] = {}
        queue = openvino.AsyncInferQueue(compiled, threads)
        queue.set_callback(lambda request, index: rows.__setitem__(index, request.get_output_tensor().data.copy()))
        for index, x in enumerate(parts):
            queue.start_async({0: x}, userdata=index)
        queue.wait_all()
        return [rows[index] for index in sorted(rows)]

    return run


PEERS = {"onnxruntime": onnxruntime_rows, "openvino": openvino_rows}


def share(work: tuple[str, pathlib.Path, list[str]]) -> numpy.ndarray:
    name, cache, files = work
    return numpy.concatenate(PEERS[name](cache, 1)(batches(files, None)))


def main() -> None:
    name, way, folder, count, output = sys.argv[1:]
    cache, threads = pathlib.Path(folder), int(count)
    files = sys.stdin.read().splitlines()
    if way == "shards":
        size = (len(files) + threads - 1) // threads
        work = [(name, cache, files[start:start + size]) for start in range(0, len(files), size)]
        with multiprocessing.get_context("spawn").Pool(threads) as processes:
            rows = processes.map(share, work, chunksize=1)
    else:
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            rows = PEERS[name](cache, threads)(batches(files, pool))
    result = numpy.concatenate(rows)
    result /= numpy.linalg.norm(result, axis=1, keepdims=True)
    numpy.save(output, result)


if __name__ == "__main__":
    main()
