#!/usr/bin/env python3
"""One epoch of 4x4 Sudoku: ./sudoku_train against qpth, the OptNet paper's own QP layer for PyTorch.

Same sizes, model and optimiser, same number of threads, timed in turns in this one run, the best of three turns
each. qpth is far slower, so a few of its batches are timed and scaled to the epoch. Run from the repository's root:

    python3 benchmarks/sudoku_peers.py [--threads 2] [--batches 4]

PyTorch is taken from where it is: the system's Python, or Debian's python3-torch (150 MB, unpacked under
build/peers-venv without installing it; PyPI's wheels for x86-64 bring CUDA, gigabytes of it). numpy and qpth come from PyPI. Where
they cannot be had, it says so and ends with exit code 0: there is nothing to compare with.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "build" / "peers-venv"
DEBIAN = VENV / "debian"
BOARDS, BATCH, AT_LEAST = 9000, 150, 40


class Unavailable(Exception):
    pass


def call(command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise Unavailable(f"{' '.join(map(str, command[:4]))} ...: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def environment():
    """The peer's, in which the unpacked PyTorch is found. It needs no kernel choice made for an old OpenBLAS."""
    env = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    libraries = sorted({str(path.parent) for top in ("lib", "usr/lib") for path in DEBIAN.glob(f"{top}/**/*.so*")})
    env["LD_LIBRARY_PATH"] = ":".join(libraries + [env.get("LD_LIBRARY_PATH", "")]).rstrip(":")
    env["PYTHONPATH"] = str(DEBIAN / "usr/lib/python3/dist-packages")
    return env


def imports(python, names):
    return subprocess.run([str(python), "-c", f"import {names}"], env=environment(), capture_output=True).returncode == 0


def unpack_debian():
    """python3-torch and what it needs beyond this machine's packages, into a folder of their own."""
    DEBIAN.mkdir(parents=True, exist_ok=True)
    plan = call(["apt-get", "install", "--simulate", "--no-install-recommends", "python3-torch"])
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    if not names:
        raise Unavailable("apt-get offers no python3-torch")
    call(["apt-get", "download", *names], cwd=DEBIAN)
    for package in DEBIAN.glob("*.deb"):
        call(["dpkg", "-x", package, DEBIAN])
        package.unlink()


def install():
    """A Python that can import torch and qpth; made once, then reused."""
    python = VENV / "bin" / "python"
    if not python.exists():
        system = "/usr/bin/python3" if pathlib.Path("/usr/bin/python3").exists() else sys.executable
        try:
            call([system, "-m", "venv", "--system-site-packages", VENV])
        except Unavailable:  # Debian keeps ensurepip in a package of its own
            call([sys.executable, "-m", "venv", "--system-site-packages", VENV])
    if not imports(python, "numpy, qpth.solvers.pdipm.batch") and not (VENV / "done").exists():
        call([python, "-m", "pip", "install", "--quiet", "numpy<2"])
        call([python, "-m", "pip", "install", "--quiet", "--no-deps", "qpth"])  # its cvxpy is for another solver
        (VENV / "done").touch()
    if not imports(python, "torch"):
        print("unpacking Debian's PyTorch ...", flush=True)
        unpack_debian()
    if not imports(python, "torch"):
        raise Unavailable("PyTorch is unpacked but does not start: " +
                          subprocess.run([python, "-c", "import torch"], env=environment(), capture_output=True, text=True).stderr[-400:])
    return python


# Runs in the peer's Python. The model is that of the paper's repository, sudoku/models.py: OptNetEq.
PEER = r"""
import sys, time, types
sys.modules["cvxpy"] = types.ModuleType("cvxpy")  # imported by qpth, used by its other solver only
import torch
from qpth.qp import QPFunction
threads, batches, batch = map(int, sys.argv[1:])
torch.set_num_threads(threads)
torch.manual_seed(0)

def one_hot(text):
    return torch.tensor([[float(c == str(d)) for c in text for d in range(1, 5)]])

lines = [line.split() for line in sys.stdin]
x = torch.cat([one_hot(givens) for givens, _ in lines])
y = torch.cat([one_hot(grid) for _, grid in lines])
A = torch.nn.Parameter(torch.rand(40, 64).double())
log_z0 = torch.nn.Parameter(torch.zeros(64).double())
Q, G, h = 0.1 * torch.eye(64).double(), -torch.eye(64).double(), torch.zeros(64).double()
adam = torch.optim.Adam([A, log_z0], lr=0.15)
for i in range(batches + 1):
    if i == 1:
        begin = time.perf_counter()  # the first batch warms up
    puzzles, solutions = x[i * batch:(i + 1) * batch], y[i * batch:(i + 1) * batch]
    z = QPFunction(verbose=-1)(Q, -puzzles.double(), G, h, A, A.mv(log_z0.exp())).float()
    loss = torch.nn.functional.mse_loss(z, solutions)
    adam.zero_grad()
    loss.backward()
    adam.step()
print(torch.__version__, (time.perf_counter() - begin) / batches)
"""


def puzzles(count):
    """Solved puzzles for the peer: on shuffled copies of one grid, half of the cells emptied."""
    import random
    draw = random.Random(0)
    lines = []
    for _ in range(count):
        digits = draw.sample("1234", 4)
        grid = "".join(digits[int(c) - 1] for c in "1234341221434321")
        empty = set(draw.sample(range(16), 8))
        lines.append("".join("0" if i in empty else c for i, c in enumerate(grid)) + " " + grid)
    return "\n".join(lines)


def time_peer(python, threads, batches):
    env = environment() | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    out = call([python, "-c", PEER, threads, batches, BATCH], input=puzzles((batches + 1) * BATCH), env=env)
    version, seconds = out.split()
    return version, float(seconds) * BOARDS / BATCH


def time_ours(threads):
    with tempfile.TemporaryDirectory() as folder:
        command = [ROOT / "sudoku_train", "--epochs", 2, "--batch", BATCH, "--threads", threads, "--out", folder]
        subprocess.run([str(part) for part in command], check=True, capture_output=True, cwd=ROOT)
        records = [json.loads(line) for line in open(f"{folder}/metrics.jsonl")]
    pace = [record["boards_per_second"] for record in records if record["event"] == "epoch"]
    return BOARDS / max(pace)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments.add_argument("--batches", type=int, default=4)
    flags = arguments.parse_args()
    if not (ROOT / "sudoku_train").exists():
        sys.exit("there is no ./sudoku_train yet: run make first")
    try:
        python = install()
    except (Unavailable, OSError) as reason:
        print(f"skipped: no qpth with PyTorch to compare with ({reason})")
        return
    ours = theirs = float("inf")
    for _ in range(3):
        ours = min(ours, time_ours(flags.threads))
        version, seconds = time_peer(python, flags.threads, flags.batches)
        theirs = min(theirs, seconds)
    print(f"{'':24}seconds an epoch of {BOARDS:,} boards, batch {BATCH}, {flags.threads} threads")
    print(f"{'optnet':24}{ours:8.2f}")
    print(f"{'qpth, PyTorch ' + version:24}{theirs:8.2f}   ({flags.batches} batches timed)")
    print(f"{'ratio':24}{theirs / ours:8.1f}   {'at least' if theirs / ours >= AT_LEAST else 'BELOW'} {AT_LEAST}")
    sys.exit(0 if theirs / ours >= AT_LEAST else 1)


if __name__ == "__main__":
    main()
