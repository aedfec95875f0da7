"""Measures clip-gpu beside its peers; tools/bench/run calls it, README.md says how to read what it prints.

Contenders take turns in rounds, so that what disturbs the machine disturbs all of them; a row is the median of its
turns, with the quartiles beside it. Every contender is a process of its own that sleeps while others have their turn.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError, version

import chart

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results"
OURS = "clip-gpu"
TORCH = ["open_clip", "transformers"]
COMPILED = ["compiled"]
ENGINES = ["onnxruntime", "openvino"]


def say(*words: object) -> None:
    print("bench:", *words, file=sys.stderr, flush=True)


class Failed(Exception):
    pass


class Ours:
    """A fresh process each turn: it loads, warms itself up and measures."""

    name = OURS

    def __init__(self, bench: "Bench", model: str, *arguments: str) -> None:
        self.command = [bench.binary, "bench", "--json", "--model", str(bench.cache / "checkpoints" / model),
                        "--threads", str(bench.threads), *arguments]

    def measure(self, batch: int, seconds: float, _: object) -> dict:
        done = subprocess.run([*self.command, "--batch", str(batch), "--seconds", str(seconds)],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
        return {"rate": json.loads(done.stdout)["items_per_second"], "note": ""}

    def close(self) -> None:
        pass


class Worker:
    """A peer, in peer.py."""

    def __init__(self, bench: "Bench", contender: str, tower: str = "image", model: str = "", int8: bool = False,
                 cpus: set[int] | None = None) -> None:
        settings = {"contender": contender, "tower": tower, "model": model, "int8": int8, "threads": bench.threads,
                    "cache": str(bench.cache)}
        environment = dict(os.environ, OMP_NUM_THREADS=str(bench.threads), HF_HUB_OFFLINE="1", TQDM_DISABLE="1",
                           TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")
        self.process = subprocess.Popen(
            [sys.executable, "-B", HERE / "peer.py", json.dumps(settings)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=open(bench.cache / f"{contender}.log", "w"), text=True, env=environment,
            preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None)
        self.name = contender
        try:
            self.name = self.ask(do="load")["name"] + (" int8" if int8 else "")
        except Failed:
            self.close()
            raise

    def ask(self, **request: object) -> dict:
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"{self.name} ended by itself, {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer

    def measure(self, batch: int, seconds: float, work: object) -> dict:
        return self.ask(do="measure", batch=batch, seconds=seconds, input=work)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Row:
    """One contender at one batch size: a figure per turn."""

    def __init__(self, contender: str, batch: int) -> None:
        self.contender, self.batch = contender, batch
        self.values: list[float] = []
        self.note = ""

    def json(self, ours: "Row | None", unit: str) -> dict:
        values = sorted(self.values)
        quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        result = {"contender": self.contender, "batch": self.batch, "unit": unit, "values": self.values,
                  "median": statistics.median(values), "quartiles": [quartiles[0], quartiles[2]], "note": self.note}
        if ours and ours.values:
            ratio = statistics.median(ours.values) / result["median"]
            # Above 1 is in our favour, for rates and for times alike.
            result["ours_to_this"] = ratio if unit.endswith("/s") else 1 / ratio
        return result


class Bench:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.binary = os.path.abspath(arguments.binary)
        self.cache: pathlib.Path = arguments.cache.absolute()
        self.command: str = arguments.command
        allowed = sorted(os.sched_getaffinity(0))
        self.threads: int = min(arguments.threads or len(allowed), len(allowed))
        self.cpus = set(allowed[: self.threads])
        os.sched_setaffinity(0, self.cpus)  # every contender inherits it
        self.rounds: int = arguments.rounds
        self.seconds: float = arguments.seconds
        self.file = RESULTS / f"{datetime.date.today()}-{slug(cpu_name())}.json"
        self.results = json.loads(self.file.read_text()) if self.file.exists() else {"sections": {}}
        self.results["machine"] = machine(self.threads)
        self.results["versions"] = versions(self.binary)

    def prepare(self, *arguments: str) -> None:
        environment = dict(os.environ, HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
        with open(self.cache / "prepare.log", "w") as log:
            done = subprocess.run([sys.executable, "-B", HERE / "prepare.py", self.cache, *arguments], stdout=log,
                                  stderr=log, env=environment)
        for line in (self.cache / "prepare.log").read_text().splitlines():
            if line.startswith("prepare:"):
                say(line)
        if done.returncode != 0:
            sys.exit(f"bench: prepare.py failed; {self.cache / 'prepare.log'} says why")

    def tokenize_captions(self) -> None:
        ids = subprocess.run([self.binary, "tokenize", "--json-lines", HERE / "captions.jsonl"], check=True,
                             capture_output=True, text=True).stdout
        (self.cache / "captions.tokens").write_text(ids)

    def record(self, name: str, title: str, rows: list[Row], unit: str, **facts: object) -> None:
        ours = {row.batch: row for row in rows if row.contender == OURS}
        section = {"title": title, "date": datetime.datetime.now().isoformat(timespec="minutes"),
                   "command": self.command, "threads": self.threads,
                   "load_average_before": self.load, **facts,
                   "rows": [row.json(ours.get(row.batch) if row.contender != OURS else None, unit)
                            for row in rows if row.values]}
        self.results["sections"][name] = section
        RESULTS.mkdir(exist_ok=True)
        self.file.write_text(json.dumps(self.results, indent=1) + "\n")
        self.file.with_suffix(".md").write_text(report(self.results))
        self.file.with_suffix(".svg").write_text(chart.draw(self.results))
        print(table(section), flush=True)

    def begin(self, name: str) -> None:
        self.load = os.getloadavg()[0]
        say(f"{name}: started {datetime.datetime.now():%H:%M:%S}, load average {self.load:.1f}")

    def interleave(self, contenders: list, batches: list[int], work: object = "random",
                   rounds: int | None = None, works: dict | None = None) -> list[Row]:
        """Turns of all contenders at all batch sizes, in rounds; who goes first changes with the round."""
        rows = {(contender, batch): Row(contender.name, batch) for batch in batches for contender in contenders}
        broken = set()
        rounds = rounds or self.rounds
        for turn in range(rounds):
            for batch in batches:
                for index in range(len(contenders)):
                    contender = contenders[(index + turn) % len(contenders)]
                    if contender in broken:
                        continue
                    try:
                        answer = contender.measure(batch, self.seconds, (works or {}).get(contender, work))
                    except Failed as failure:
                        say(f"left out: {contender.name}: {failure}")
                        broken.add(contender)
                        continue
                    row = rows[contender, batch]
                    row.values.append(answer["rate"])
                    row.note = answer.get("note", "")
                    say(f"round {turn + 1} of {rounds}, batch {batch}, {contender.name}: {figure(answer['rate'])}/s")
                    time.sleep(0.2)  # until the last contender's threads have stopped spinning
        return list(rows.values())

    def workers(self, contenders: list[str], tower: str, model: str, int8: bool = False) -> list[Worker]:
        result = []
        for contender in contenders:
            try:
                result.append(Worker(self, contender, tower, model, int8))
            except Failed as failure:
                say(f"left out: {failure}")
        return result

    def agreement(self, ours: list[list[float]], workers: list[Worker]) -> dict[str, float]:
        """The least cosine of a peer's embeddings to ours: the same function, or the race means nothing."""
        result = {}
        for worker in workers:
            try:
                theirs = worker.ask(do="embed")["embeddings"]
                result[worker.name] = min(cosine(a, b) for a, b in zip(ours, theirs))
            except Failed as failure:
                say(failure)
        return result

    def our_embeddings(self, tower: str, model: str, precision: str = "fp32") -> list[list[float]]:
        command = [self.binary, "embed", "--model", str(self.cache / "checkpoints" / model), "--device", "cpu",
                   "--precision", precision]
        if tower == "image":
            import numpy

            import inputs

            numpy.save(self.cache / "check.npy", inputs.pixels(2, inputs.side(self.cache / "checkpoints" / model)))
            command.append(str(self.cache / "check.npy"))
        else:
            import inputs

            for text in inputs.captions()[:2]:
                command += ["--text", text]
        done = subprocess.run(command, capture_output=True, text=True)
        return [json.loads(line)["embedding"] for line in done.stdout.splitlines()]

    # Sections

    def tower(self, name: str, title: str, tower: str, model: str, contenders: list[str], batches: list[int],
              precision: str = "fp32", rounds: int | None = None) -> None:
        self.begin(name)
        self.prepare(model, "--towers", tower, *(["--int8"] if precision == "int8" else []))
        self.tokenize_captions()
        workers = self.workers(contenders, tower, model, precision == "int8")
        exact = self.our_embeddings(tower, model)
        cosines = self.agreement(exact, workers)
        if precision != "fp32":
            found = self.our_embeddings(tower, model, precision)
            cosines[f"{OURS} {precision}"] = min(cosine(a, b) for a, b in zip(exact, found))
        ours = Ours(self, model, "--device", "cpu", "--tower", tower, "--precision", precision)
        rows = self.interleave([ours, *workers], batches, rounds=rounds)
        for worker in workers:
            worker.close()
        self.record(name, title, rows, "items/s", least_cosine_to_ours_fp32=cosines)

    def text_captions(self, name: str) -> None:
        self.begin(name)
        self.prepare("ViT-B-32", "--towers", "text")
        self.tokenize_captions()
        import inputs

        lengths = sorted(map(len, inputs.caption_ids(self.cache / "captions.tokens")))
        ours = Ours(self, "ViT-B-32", "--device", "cpu", "--captions", str(HERE / "captions.jsonl"))
        full = self.workers([*TORCH, *ENGINES], "text", "ViT-B-32")
        cut = self.workers(["transformers", *ENGINES], "text", "ViT-B-32")
        for worker in full:
            worker.name += ", 77 positions"
        for worker in cut:
            worker.name += ", sorted, padded to the longest"
        cosines = self.agreement(self.our_embeddings("text", "ViT-B-32"), full)
        works = {worker: "captions-77" for worker in full} | {worker: "captions" for worker in cut}
        rows = self.interleave([ours, *full, *cut], [1, 32], rounds=min(3, self.rounds), works=works)
        for worker in full + cut:
            worker.close()
        facts = {"captions": len(lengths), "mean": statistics.mean(lengths), "shortest": lengths[0],
                 "quartiles": statistics.quantiles(lengths, n=4), "longest": lengths[-1]}
        self.record(name, "ViT-B/32 captions, fp32", rows, "items/s", tokens_with_both_ends=facts,
                    least_cosine_to_ours_fp32=cosines)

    def start(self, name: str) -> None:
        self.begin(name)
        self.prepare("ViT-B-32", "--towers", "image", "--pictures")
        picture = str(self.cache / "pictures" / "500x375" / "000.jpg")
        folder = str(self.cache / "checkpoints" / "ViT-B-32")
        commands = {OURS: [self.binary, "embed", picture, "--model", folder, "--device", "cpu"]}
        for peer in [*TORCH, *ENGINES]:
            commands[peer] = [sys.executable, str(HERE / "start.py"), peer, str(self.cache), picture]
        rows = {peer: Row(peer, 1) for peer in commands}
        for turn in range(1 + self.rounds):  # the first brings files into the page cache, and is not counted
            for peer, command in commands.items():
                seconds, _, code = timed(command, OMP_NUM_THREADS=str(self.threads), HF_HUB_OFFLINE="1")
                if code == 0 and turn > 0:
                    rows[peer].values.append(seconds)
                elif code != 0:
                    say(f"left out: {peer}: exit {code}")
        self.record(name, "Whole process: load ViT-B/32, embed one JPEG of 500x375; files in the page cache",
                    list(rows.values()), "s")

    def preprocess(self, name: str) -> None:
        self.begin(name)
        self.prepare("--pictures")
        one = {min(self.cpus)}
        worker = Worker(self, "pillow", cpus=one)
        rows = []
        for size, copies in (("1600x1200", 200), ("500x375", 1000)):
            files = sorted(map(str, (self.cache / "pictures" / size).iterdir()))
            files = (files * (copies // len(files)))[:copies]
            ours, theirs = Row(OURS, 1), Row(worker.name, 1)
            ours.note = theirs.note = size
            ours.batch = theirs.batch = size
            for _ in range(self.rounds):
                output = self.cache / "pixels.npy"
                seconds, _, code = timed([self.binary, "preprocess", "-", "--output", str(output)], cpus=one,
                                         input="".join(file + "\n" for file in files))
                if code != 0:
                    sys.exit(f"bench: clip-gpu preprocess ended with {code}")
                output.unlink()
                ours.values.append(len(files) / seconds)
                theirs.values.append(worker.measure(1, 0, files)["rate"])
            rows += [ours, theirs]
        worker.close()
        self.record(name, "JPEG files to model input, one core; ours with its start and the writing of the .npy", rows,
                    "items/s")

    def tokenize(self, name: str) -> None:
        self.begin(name)
        one = {min(self.cpus)}
        worker = Worker(self, "tokenizer", cpus=one)
        repeats = 200
        lines = (HERE / "captions.jsonl").read_text() * repeats
        ours, theirs = Row(OURS, 1), Row(worker.name, 1)
        for _ in range(self.rounds):
            seconds, _, code = timed([self.binary, "tokenize", "--json-lines", "-"], cpus=one, input=lines)
            if code != 0:
                sys.exit(f"bench: clip-gpu tokenize ended with {code}")
            ours.values.append(lines.count("\n") / seconds)
            theirs.values.append(worker.measure(1, 0, repeats // 10)["rate"])
        worker.close()
        self.record(name, "Captions to ids, one core; ours with its start, reading and writing JSON", [ours, theirs],
                    "items/s")

    def opencl(self, name: str) -> None:
        self.begin(name)
        self.prepare("ViT-B-32", "--towers", "image")
        lines = subprocess.run([self.binary, "devices", "--json"], capture_output=True, text=True).stdout.splitlines()
        contenders = [Ours(self, "ViT-B-32", "--device", "cpu", "--tower", "image", "--precision", "fp32")]
        for line in lines:
            device = json.loads(line)
            if device["device"].startswith("opencl"):
                ours = Ours(self, "ViT-B-32", "--device", device["device"], "--tower", "image", "--precision", "fp32")
                ours.name = f"clip-gpu on {device['name']}"
                contenders.append(ours)
        rows = self.interleave(contenders, [8], rounds=min(self.rounds, 3))
        self.record(name, "Our OpenCL devices beside our CPU device, ViT-B/32 pictures, fp32", rows, "items/s")

    def halves(self, name: str, title: str, batches: list[int], *arguments: str) -> None:
        """Ours with a file of halves, which are held as halves, beside ours with one of floats."""
        self.begin(name)
        self.prepare("ViT-B-32", "--halves")
        ours = Ours(self, "ViT-B-32-fp16", "--device", "cpu", *arguments)
        floats = Ours(self, "ViT-B-32", "--device", "cpu", *arguments)
        floats.name = f"{OURS}, a file of floats"
        self.record(name, title, self.interleave([ours, floats], batches), "items/s")

    def folder(self, name: str) -> None:
        """A folder of JPEGs to vectors, whole processes: ours, and a script with a peer and a pool that decodes."""
        self.begin(name)
        self.prepare("ViT-B-32", "--towers", "image", "--pictures")
        pictures = sorted(map(str, (self.cache / "pictures" / "500x375").iterdir()))
        output = self.cache / "folder.npy"

        def run(contender: str, way: str, count: int) -> float:
            if contender == OURS:
                command = [self.binary, "embed", "-", "--model", str(self.cache / "checkpoints" / "ViT-B-32"), "--device",
                           "cpu", "--threads", str(self.threads), "--output", str(output)]
            else:
                command = [sys.executable, "-B", str(HERE / "folder.py"), contender, way, str(self.cache),
                           str(self.threads), str(output)]
            seconds, _, code = timed(
                command, input="".join(f"{pictures[i % len(pictures)]}\n" for i in range(count)),
                # OpenVINO with a pool was seen to wait for ever.
                limit=60 + count / 4, OMP_NUM_THREADS=str(self.threads))
            if code != 0:
                raise Failed(f"{contender} {way}: exit {code}")
            return count / seconds

        import numpy

        rows, vectors = {OURS: Row(OURS, 1)}, {}
        for peer in ENGINES:
            ways = {}
            for way in ("pool", "shards"):
                try:
                    ways[way] = run(peer, way, 300)
                except Failed as failure:
                    say(f"left out: {failure}")
            if not ways:
                continue
            rows[peer] = Row(peer, 1)
            rows[peer].note = max(ways, key=ways.get)
        for turn in range(min(3, self.rounds)):
            for contender, row in rows.items():
                try:
                    row.values.append(run(contender, row.note, 2000))
                except Failed as failure:
                    say(f"round {turn + 1}: no turn of {failure}")
                    continue
                say(f"round {turn + 1}, {contender}: {figure(row.values[-1])}/s")
                vectors[contender] = numpy.load(output)
        ours = vectors[OURS]
        cosines = {peer: float((ours * vectors[peer]).sum(1).min()) for peer in vectors if peer != OURS}
        self.record(name, "2,000 JPEGs of 500x375 to vectors with ViT-B/32, fp32, whole processes", list(rows.values()),
                    "items/s", least_cosine_to_ours_fp32=cosines)

    def serve(self, name: str) -> None:
        """Servers: requests of one input each, from one client and from many at once."""
        self.begin(name)
        self.prepare("ViT-B-32", "--towers", "image", "--pictures")
        import inputs
        import serve

        work = {"captions": inputs.captions(), "pictures": serve.pictures(self.cache)}
        servers = serve.servers(self.cache, self.binary, self.threads, say)
        rows = {(kind, clients, server): Row(server.name, f"{kind}, {clients} client{'s' if clients > 1 else ''}")
                for kind in work for clients in (1, 8, 32) for server in servers}
        waits: dict[Row, list[float]] = {row: [] for row in rows.values()}
        for turn in range(min(3, self.rounds)):
            for (kind, clients, server), row in sorted(rows.items(), key=lambda item: item[0][:2], reverse=turn % 2 == 1):
                rate, wait = server.measure(clients, max(4, self.seconds), work[kind])
                row.values.append(rate)
                waits[row].append(wait)
                row.note = f"{statistics.median(waits[row]):.0f} ms"
                say(f"round {turn + 1}, {row.batch}, {server.name}: {figure(rate)}/s")
        vectors = {server.name: server.embed(work["captions"][:2]) + server.embed(work["pictures"][:2])
                   for server in servers}
        cosines = {name: min(map(cosine, vectors[OURS], rows_)) for name, rows_ in vectors.items() if name != OURS}
        for server in servers:
            server.close()
        self.record(name, "Servers over HTTP with ViT-B/32, fp32: one input a request; in brackets the median wait",
                    list(rows.values()), "items/s", least_cosine_to_ours_fp32=cosines)

    def growth(self, name: str) -> None:
        """Peak memory and rate as the work grows."""
        self.begin(name)
        self.prepare("ViT-B-32", "--towers", "image", "--pictures")
        files = sorted(map(str, (self.cache / "pictures" / "500x375").iterdir()))
        command = [self.binary, "embed", "-", "--model", str(self.cache / "checkpoints" / "ViT-B-32"),
                   "--device", "cpu", "--threads", str(self.threads), "--output", str(self.cache / "growth.npy")]
        rates, peaks, first = [], [], 0.0
        rows: dict[int, tuple[Row, Row]] = {}
        # The smaller ones on both sides of the largest, so that a machine that slows down is seen.
        for count in (1, 500, 2000, 10000, 2000, 500):
            seconds, kilobytes, code = timed(command, input="".join(f"{files[i % len(files)]}\n" for i in range(count)))
            if code != 0:
                sys.exit(f"bench: clip-gpu embed ended with {code}")
            if count not in rows:
                rows[count] = (Row(OURS, count), Row(OURS, count))
                peaks.append(rows[count][1])
                if count > 1:
                    rates.append(rows[count][0])
            rows[count][1].values.append(kilobytes / 1024)
            if count == 1:
                first = seconds
            else:
                rows[count][0].values.append((count - 1) / (seconds - first))
        weights = vision_bytes(self.cache / "checkpoints" / "ViT-B-32" / "model.safetensors") / 1e6
        self.record("growth", "Folder to vectors as it grows: pictures of 500x375, ViT-B/32, start not counted", rates,
                    "items/s")
        self.record("memory", f"Peak memory of the same runs; the image tower's weights are {weights:.0f} MB", peaks,
                    "MiB")


def timed(command: list[str], cpus: set[int] | None = None, input: str = "", limit: float = 3600,
          **environment: str) -> tuple[float, int, int]:
    """Wall seconds, peak resident kilobytes and exit code of a process, which is killed after `limit` seconds."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=dict(os.environ, **environment),
                               preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None)
    watch = threading.Timer(limit, process.kill)
    watch.start()
    try:
        process.stdin.write(input.encode())
        process.stdin.close()
    except BrokenPipeError:
        pass
    _, status, usage = os.wait4(process.pid, 0)
    watch.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - begun, usage.ru_maxrss, process.returncode


def vision_bytes(file: pathlib.Path) -> int:
    with open(file, "rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items()
               if name.startswith("vis"))


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def cpu_name() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(.*?\)|CPU|@.*", "", text).lower()).strip("-")


def machine(threads: int) -> dict:
    text = pathlib.Path("/proc/cpuinfo").read_text()
    flags = set(re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.M).group(1).split())
    interesting = ["avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
                   "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "sve"]
    family, model = (re.search(rf"^{key}\s*:\s*(\d+)", text, re.M) for key in ("cpu family", "model"))
    memory = re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)
    release = re.search(r'PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())
    return {"cpu": cpu_name() + (f", family {family.group(1)} model {model.group(1)}" if family and model else ""),
            "cores": os.cpu_count(), "threads_used": threads, "virtual": "hypervisor" in flags,
            "instruction_sets": [flag for flag in interesting if flag in flags],
            "memory_gib": round(int(memory) / 2**20), "system": release.group(1) if release else platform.system()}


def versions(binary: str) -> dict:
    done = subprocess.run([binary, "--version"], capture_output=True, text=True)
    commit = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    result = {"clip-gpu": done.stdout.strip() + (f" ({commit.stdout.strip()})" if commit.returncode == 0 else ""),
              "python": platform.python_version()}
    for package in ("torch", "transformers", "open_clip_torch", "onnxruntime", "openvino", "nncf", "pillow",
                    "openai-clip"):
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            pass
    return result


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(section: dict) -> str:
    """Markdown: a line a contender, a column a batch size; in brackets the quartiles, then ours over theirs."""
    rows = section["rows"]
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    unit = rows[0]["unit"] if rows else ""
    # A section has batch sizes, or kinds or numbers of pictures, or one column.
    column = unit if batches == [1] else "batch {}" if batches[0] in (1, 8) else "{}"
    lines = [f"### {section['title']}", "",
             f"{unit}, median [quartiles] of {max((len(row['values']) for row in rows), default=0)} turns; "
             f"×: ours over theirs, above 1 is in our favour. {section['date']}, "
             f"load average before {section['load_average_before']:.1f}.", "",
             "| contender | " + " | ".join(column.format(batch) for batch in batches) + " |",
             "|---|" + "---|" * len(batches)]
    for contender in contenders:
        cells = []
        for batch in batches:
            row = next((row for row in rows if (row["contender"], row["batch"]) == (contender, batch)), None)
            if row is None:
                cells.append("–")
                continue
            low, high = row["quartiles"]
            cell = figure(row["median"])
            if len(row["values"]) > 1:
                cell += f" [{figure(low)}–{figure(high)}]"
            if "ours_to_this" in row:
                cell += f" **{row['ours_to_this']:.2f}×**"
            if row["note"] and row["note"] != batch:
                cell += f" ({row['note']})"
            cells.append(cell)
        lines.append(f"| {contender} | " + " | ".join(cells) + " |")
    for key, words in (("tokens_with_both_ends", "Tokens of a caption, both ends included"),
                       ("least_cosine_to_ours_fp32", "Least cosine to our fp32 embeddings")):
        if section.get(key):
            lines += ["", f"{words}: " + ", ".join(
                f"{name} {value if not isinstance(value, float) else f'{value:.7g}'}"
                for name, value in section[key].items()) + "."]
    return "\n".join(lines) + "\n"


def report(results: dict) -> str:
    machine, versions = results["machine"], results["versions"]
    lines = ["# Measurements", "",
             f"{machine['cpu']}; {machine['cores']} cores{' of a virtual machine' if machine['virtual'] else ''}, "
             f"{machine['threads_used']} threads used; {', '.join(machine['instruction_sets'])}; "
             f"{machine['memory_gib']} GiB; {machine['system']}.", "",
             "Versions: " + ", ".join(f"{name} {value}" for name, value in versions.items()) + ".", ""]
    commands = dict.fromkeys(section["command"] for section in results["sections"].values())
    lines += ["Commands: " + "; ".join(f"`{command}`" for command in commands) + ".", ""]
    return "\n".join(lines) + "\n" + "\n".join(table(section) for section in results["sections"].values())


SECTIONS = {
    "image-b32": lambda bench, name: bench.tower(
        name, "ViT-B/32 pictures, fp32", "image", "ViT-B-32", [*TORCH, *COMPILED, *ENGINES], [1, 8, 32]),
    "image-b16": lambda bench, name: bench.tower(
        name, "ViT-B/16 pictures, fp32", "image", "ViT-B-16", [*TORCH, *ENGINES], [1, 8], rounds=3),
    "image-l14": lambda bench, name: bench.tower(
        name, "ViT-L/14 pictures, fp32", "image", "ViT-L-14", [*TORCH, *ENGINES], [1, 8], rounds=3),
    "image-int8": lambda bench, name: bench.tower(
        name, "ViT-B/32 pictures, int8", "image", "ViT-B-32", ENGINES, [1, 8, 32], precision="int8"),
    "image-rn50": lambda bench, name: bench.tower(
        name, "RN50 pictures, fp32", "image", "RN50", ["open_clip", *ENGINES], [1, 8], rounds=3),
    "image-rn50-int8": lambda bench, name: bench.tower(
        name, "RN50 pictures, int8", "image", "RN50", ENGINES, [1, 8], precision="int8", rounds=3),
    "text-77": lambda bench, name: bench.tower(
        name, "ViT-B/32 sentences of 77 tokens, fp32", "text", "ViT-B-32", [*TORCH, *ENGINES], [1, 8, 32]),
    "text-captions": lambda bench, name: bench.text_captions(name),
    "halves-image": lambda bench, name: bench.halves(
        name, "ViT-B/32 pictures, weights held as halves, computed in fp32", [1, 8, 32], "--tower", "image"),
    "halves-captions": lambda bench, name: bench.halves(
        name, "ViT-B/32 captions, weights held as halves, computed in fp32", [1, 32], "--captions",
        str(HERE / "captions.jsonl")),
    "halves-short": lambda bench, name: bench.halves(
        name, "ViT-B/32 sentences of 6 tokens, weights held as halves, computed in fp32", [1], "--tower", "text",
        "--length", "6"),
    "start": lambda bench, name: bench.start(name),
    "preprocess": lambda bench, name: bench.preprocess(name),
    "tokenize": lambda bench, name: bench.tokenize(name),
    "opencl": lambda bench, name: bench.opencl(name),
    "folder": lambda bench, name: bench.folder(name),
    "serve": lambda bench, name: bench.serve(name),
    "growth": lambda bench, name: bench.growth(name),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS) + "; default: all")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--command", default="")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--peers", help="only these, with commas between: " + ", ".join([*TORCH, *COMPILED, *ENGINES]))
    arguments = parser.parse_args()
    for section in arguments.sections:
        if section not in SECTIONS:
            parser.error(f"there is no section {section}: {', '.join(SECTIONS)} are here")
    if arguments.peers:
        wanted = arguments.peers.split(",")
        if unknown := set(wanted) - {*TORCH, *COMPILED, *ENGINES}:
            parser.error(f"there is no peer {', '.join(sorted(unknown))}")
        for peers in (TORCH, COMPILED, ENGINES):
            peers[:] = [peer for peer in peers if peer in wanted]
    bench = Bench(arguments)
    for section in arguments.sections or SECTIONS:
        SECTIONS[section](bench, section)
    say(f"written: {bench.file.relative_to(HERE.parent.parent)}, and .md and .svg beside it")


if __name__ == "__main__":
    main()
