"""Makes the fixtures of PyTorch's file formats: small files of every form, and what is in them.

    python tools/make_archive_fixtures.py          writes Tests/CheckpointsTests/Fixtures
"""

import argparse
import pickle
import shutil
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from torch import nn

FIXTURES = Path(__file__).resolve().parent.parent / "Tests" / "CheckpointsTests" / "Fixtures"


def draw(shape, generator, dtype=torch.float32):
    return torch.randn(shape, generator=generator).to(dtype)


def tensors():
    """Every element type that weights have, every way in which a tensor may lie in its storage."""
    generator = torch.Generator().manual_seed(5)
    table = draw((5, 4), generator)
    return OrderedDict([
        ("half", draw((3, 2), generator, torch.float16)),
        ("brain", draw((7,), generator, torch.bfloat16)),
        ("double", draw((2, 2), generator, torch.float64)),
        ("long", torch.arange(-2, 4)),
        ("byte", torch.arange(5, dtype=torch.uint8)),
        ("flag", torch.tensor([True, False])),
        ("scalar", torch.tensor(2.5)),
        ("empty", torch.empty(0, 3)),
        ("parameter", nn.Parameter(draw((2, 3), generator))),
        ("shared.all", table),
        ("shared.rows", table[1:3]),
        ("shared.transposed", table.T),
        ("shared.columns", table[:, 1:3]),
        ("shared.alias", table),
        ("one.by.many", draw((1, 4), generator).expand(1, 4)),
    ])


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.gelu = QuickGELU()
        self.linear = nn.Linear(3, 2)
        self.sizes = [1, 2, 3]
        self.scales = {"a": 1.5}

    def forward(self, x):
        return self.gelu(self.linear(x)) * self.sizes[0] * self.scales["a"]


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.list = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.LayerNorm(2)])
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("resolution", torch.tensor(224))
        self.name, self.nothing, self.ratio = "outer", None, 0.25

    def forward(self, x):
        x = self.inner(x)
        for module in self.list:
            x = module(x)
        return x * self.scale * self.ratio


class Call:
    """Pickles into a call of os.system."""

    def __reduce__(self):
        import os
        return os.system, ("true",)


def drop_source_positions(path):
    """Positions in the source name folders of the machine that compiled it."""
    with zipfile.ZipFile(path) as source:
        members = [(member, source.read(member)) for member in source.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for member, content in members:
            if not member.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(member.filename), content, member.compress_type)


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    shutil.rmtree(FIXTURES, ignore_errors=True)
    FIXTURES.mkdir(parents=True)
    state = tensors()
    save_file({name: value.detach().clone().contiguous() for name, value in state.items()},
              FIXTURES / "tensors.safetensors")
    for protocol in (1, 2, 3, 4, 5):
        torch.save(state, FIXTURES / f"zip-{protocol}.pt", pickle_protocol=protocol)
        if protocol > 1:
            torch.save(state, FIXTURES / f"legacy-{protocol}.pt", pickle_protocol=protocol,
                       _use_new_zipfile_serialization=False)
    parallel = OrderedDict((f"module.{name}", value) for name, value in state.items())
    parallel._metadata = {"": {"version": 1}}
    training = {"epoch": 3, "name": "run", "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "lr": 1e-3,
                "betas": (0.9, 0.98)}, "state_dict": parallel, "large": 1 << 70, "bytes": b"\0\1"}
    torch.save(training, FIXTURES / "training.pt")
    # What optimizers and schedulers keep beside tensors, and a parameter that has attributes of its own.
    save_file({f"module.{name}": value.detach().clone().contiguous() for name, value in state.items()},
              FIXTURES / "parallel.safetensors")
    first = next(name for name, value in state.items() if value.is_floating_point())
    attributed = torch.nn.Parameter(state[first].detach().clone(), requires_grad=False)
    attributed.is_special = True
    last = list(state)[-1]
    noted = state[last].detach().clone()
    noted.note = "a tensor with an attribute"
    training = {"state_dict": {**state, first: attributed, last: noted}, "milestones": Counter([30, 60, 60]), "seen": {3, 5}, "raw": bytearray(b"\0\1"),
                "phase": 1 + 2j}
    torch.save(training, FIXTURES / "scheduler.pt")
    torch.save({"model_state_dict": state}, FIXTURES / "wrapped.pth")
    types = {"uint16": torch.tensor([1, 65535], dtype=torch.uint16),
             "float8": torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn)}
    torch.save(types, FIXTURES / "untyped.pt")

    torch.manual_seed(6)
    module = Outer().eval()
    save_file(dict(module.state_dict()), FIXTURES / "module.safetensors")
    torch.jit.save(torch.jit.script(module), FIXTURES / "scripted.pt")
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 3)), FIXTURES / "traced.pt")
    for name in ("scripted.pt", "traced.pt"):
        drop_source_positions(FIXTURES / name)

    # To be refused
    torch.save({"weight": state["half"], "extra": Call()}, FIXTURES / "refused-call.pt")
    torch.save({"weight": state["half"], "step": numpy.float64(2)}, FIXTURES / "refused-numpy.pt")
    torch.save(module, FIXTURES / "refused-module.pt")
    torch.save({"weight": state["half"].to_sparse()}, FIXTURES / "refused-sparse.pt")
    (FIXTURES / "refused-plain.pt").write_bytes(pickle.dumps({"weight": [1.0, 2.0]}, protocol=2))
    torch.save({"epoch": 3, "lr": 0.1}, FIXTURES / "refused-no-tensors.pt")
    with zipfile.ZipFile(FIXTURES / "zip-2.pt") as source:
        with zipfile.ZipFile(FIXTURES / "refused-compressed.pt", "w", zipfile.ZIP_DEFLATED) as target:
            for member in source.infolist():
                target.writestr(member.filename, source.read(member))
        # A folder of another name, and members before and behind
        with zipfile.ZipFile(FIXTURES / "repacked.pt", "w", zipfile.ZIP_STORED) as target:
            target.writestr("archive/", b"")
            for member in reversed(source.infolist()):
                target.writestr("archive/" + member.filename.split("/", 1)[1], source.read(member))
            target.comment = b"a comment"


if __name__ == "__main__":
    main()
