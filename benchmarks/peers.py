#!/usr/bin/env python3
"""`make bench-peers`: other people's QP solvers and ours on W1 to W7 (workloads.h), in one run, on one core.

    python3 benchmarks/peers.py [--rounds 2] [--seconds 5] [--workloads W1,W3] [--peers DAQP,qpth]

Released packages only, from PyPI and Debian, in build/: sources of eiquadprog, DAQP and PIQP and headers of ProxSuite are
compiled into peers.cpp with -O3 -march=native, beside this solver; qpth, qpax, cvxpylayers, OSQP and Gurobi are called
from peers_python.py. A package that cannot be had is named and left out. All problems are those that ./bench dumps.
Each round visits all workloads with all peers in turns, three runs in a row each, and the least time of all counts.

Writes build/bench-peers.json, rows of {workload, peer, pass, ms, ratio, max_difference}: ms of the batch, ratio = ms over
ours, max_difference = the largest difference of an entry of z from ours. Draws docs/images/peers.png.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

import sudoku_peers
from sudoku_peers import ROOT, VENV, Unavailable, call

BUILD = ROOT / "build" / "peers"
PYTHON_PEERS = {"qpth": ["qpth"], "qpax": ["qpax", "jax"], "OSQP": ["osqp"], "Gurobi": ["gurobipy"], "cvxpylayers": ["cvxpylayers", "jax"]}
COMPILED = ["eiquadprog", "DAQP", "PIQP", "ProxQP"]
WORKLOADS = [f"W{i}" for i in range(1, 8)]
missing = {}  # what could not be had: reason


def attempt(name, f):
    try:
        return f()
    except (Unavailable, OSError, StopIteration) as reason:
        missing[name] = " ".join(str(reason).split())[-300:] or "not found"


def pip(*arguments):
    return call([VENV / "bin" / "python", "-m", "pip", *arguments])


def site():
    return next(VENV.glob("lib/python*/site-packages"))


def environment():
    """The environment's own packages before Debian's older ones, among which PyTorch is found."""
    env = sudoku_peers.environment()
    return env | {"PYTHONPATH": f"{site()}:{env['PYTHONPATH']}", "PYTHONWARNINGS": "ignore"}


def install_python(wanted):
    attempt("qpth", sudoku_peers.install)
    if not (VENV / "bin" / "python").exists():
        raise Unavailable(f"no virtual environment: {missing['qpth']}")
    have = {line.split()[0].lower() for line in pip("list").splitlines()}
    attempt("matplotlib", lambda: "matplotlib" in have or pip("install", "--quiet", "numpy<2", "matplotlib"))
    for peer in wanted:
        if peer in PYTHON_PEERS:
            attempt(peer, lambda: {*PYTHON_PEERS[peer]} <= have or pip("install", "--quiet", "numpy<2", *PYTHON_PEERS[peer]))


def source(package):
    """A folder with a package's released source."""
    folder = BUILD / "source" / package
    if not folder.exists():
        pip("download", "--quiet", "--no-deps", "--no-binary", package, "--dest", folder.parent, package)
        call(["tar", "-xzf", next(folder.parent.glob(f"{package}-*.tar.gz"))], cwd=folder.parent)
        next(path for path in folder.parent.glob(f"{package}-*") if path.is_dir()).rename(folder)
    return folder


def wheel(package):
    """The include folder of a released C++ package."""
    folder = BUILD / "wheels" / package
    if not folder.exists():
        pip("install", "--quiet", "--no-deps", "--target", folder, package)
    return folder / "cmeel.prefix" / "include"


def simde():
    """Headers by which ProxSuite uses SIMD; without them it is slower, and works."""
    folder = BUILD / "simde"
    if not folder.exists():
        folder.mkdir(parents=True)
        call(["apt-get", "download", "libsimde-dev"], cwd=folder)
        call(["dpkg", "-x", next(folder.glob("*.deb")), folder])
    return folder / "usr" / "include"


def compile_peers(library):
    """build/peers/peers, with those that can be had; rebuilt where it is older than what goes into it."""
    program, ours = BUILD / "peers", [*(ROOT / "benchmarks" / name for name in ("peers.cpp", "peer_solvers.h", "workloads.h")), library]
    if program.exists() and all(path.stat().st_mtime < program.stat().st_mtime for path in ours):
        return program
    print("compiling the peers ...", flush=True)
    flags, objects = [f"-I{ROOT}"], []
    include = attempt("Eigen", lambda: wheel("cmeel-eigen"))
    optimise = ["-O3", "-march=native", "-DNDEBUG", "-fno-math-errno"]

    def objects_of(command, files):
        for file in files:
            objects.append(BUILD / f"{file.parent.parent.name}-{file.name}.o")
            call([*command, "-c", file, "-o", objects[-1]])

    def daqp():
        code = source("daqp") / "csrc"
        # the flags of its own build, and this machine's instructions
        objects_of(["gcc", *optimise, "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", f"-I{code}/include"], sorted(code.glob("src/*.c")))
        flags.append(f"-I{code}/include")

    def eiquadprog():
        code, config = source("eiquadprog"), wheel("eiquadprog")  # config.hpp is in the wheel alone
        flags.extend([f"-I{code}/include", f"-I{config}"])
        objects_of(["g++", *optimise, "-std=c++20", f"-isystem{include}/eigen3", *flags], sorted(code.glob("src/*.cpp")))

    def proxqp():
        flags.append(f"-I{wheel('proxsuite')}")
        if headers := attempt("SIMD for ProxQP", simde):
            flags.extend(["-DPROXSUITE_VECTORIZE", f"-isystem{headers}"])

    makers = {"DAQP": daqp, "eiquadprog": eiquadprog, "PIQP": lambda: flags.append(f"-I{source('piqp')}/include"), "ProxQP": proxqp}
    for peer, maker in makers.items():
        if include or peer == "DAQP":
            attempt(peer, maker)
    call(["g++", *optimise, "-std=c++20", "-fopenmp", f"-isystem{include}/eigen3", *flags, ROOT / "benchmarks" / "peers.cpp", *objects, library,
          "-llapacke", "-lopenblas", "-o", program])
    return program


class PythonPeers:
    """peers_python.py, kept running so that compilations and imports happen once."""

    def __init__(self, names):
        self.names = names
        self.process = subprocess.Popen([VENV / "bin" / "python", ROOT / "benchmarks" / "peers_python.py"], env=environment(), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def rows(self, problems, answers):
        if not self.names:
            return []
        self.process.stdin.write(json.dumps({"problems": str(problems), "answers": str(answers), "peers": self.names}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline() or "[]")


def measure(program, flags):
    """{(workload, pass, peer): row}, the least over rounds and set-ups; wrong answers do not count."""
    best, python = {}, PythonPeers([name for name in flags.peers if name in PYTHON_PEERS and name not in missing])
    for round_number in range(flags.rounds):
        for workload in flags.workloads:
            problems, answers = BUILD / f"{workload}.safetensors", BUILD / f"{workload}.z.safetensors"
            call([ROOT / "bench", "--workload", workload, "--dump", problems])
            out = call([program, problems, "--answers", answers, "--seconds", flags.seconds], env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
            rows = [json.loads(line) for line in out.splitlines()]
            rows = [row for row in rows if row["peer"] in flags.peers + ["optnet"]] + python.rows(problems, answers)
            for row in rows:
                if "missing" in row or row["max_difference"] > 1e-2:
                    missing[f"{row['peer']} on {workload}"] = row.get("missing", f"another answer, by {row.get('max_difference')}")
                    continue
                key = (workload, row["pass"], row["peer"])
                if key not in best or row["ms"] < best[key]["ms"]:
                    best[key] = row
            print(f"round {round_number + 1}: {workload}", flush=True)
    for (workload, kind, _), row in best.items():
        row |= {"workload": workload, "ratio": row["ms"] / best[workload, kind, "optnet"]["ms"]}
    return best


def table(best, kind):
    peers = [peer for peer in ["optnet", *COMPILED, *PYTHON_PEERS] if any(key[1:] == (kind, peer) for key in best)]
    print(f"\n{kind}: ms of ours; the others' times over ours" + "".join(["\n    ", *(f"{peer:>12}" for peer in peers), "     fastest peer"]))
    for workload in dict.fromkeys(key[0] for key in best):
        others = {peer: best[workload, kind, peer]["ratio"] for peer in peers[1:] if (workload, kind, peer) in best}
        line = f"{workload:4}{best[workload, kind, 'optnet']['ms']:12.2f}" + "".join(f"{others[peer]:12.2f}" if peer in others else " " * 12 for peer in peers[1:])
        fastest = min(others, key=others.get, default=None)
        print(line + (f"     {fastest} {others[fastest]:.2f}" if fastest else ""))


PICTURE = r"""
import json, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
rows, order, to = json.load(open(sys.argv[1])), json.loads(sys.argv[2]), sys.argv[3]
workloads = sorted({row["workload"] for row in rows})
colours = dict(zip(order, ["#1a1a1a", "#c0392b", "#e67e22", "#f1c40f", "#27ae60", "#16a085", "#2980b9", "#8e44ad", "#c39bd3", "#95a5a6"]))
label = lambda row: f"{row['ms']:.3g} ms" if row["peer"] == "optnet" else f"{row['ratio']:.{1 if row['ratio'] < 10 else 0}f}x"
figure, axes = plt.subplots(2, 1, figsize=(11, 8.5), constrained_layout=True)
for axis, kind in zip(axes, ("forward", "backward")):
    for i, workload in enumerate(workloads):
        here = {row["peer"]: row for row in rows if row["workload"] == workload and row["pass"] == kind}
        peers = [peer for peer in order if peer in here]
        for j, peer in enumerate(peers):
            x, ms = i + 0.85 * (j + 0.5) / len(order) - 0.42, here[peer]["ms"]
            axis.bar(x, ms, 0.8 / len(order), color=colours[peer])
            axis.text(x, ms * 1.15, label(here[peer]), rotation=90, ha="center", va="bottom", fontsize=7)
    axis.set(yscale="log", xticks=range(len(workloads)), xticklabels=workloads, ylabel="ms a batch", title=f"{kind}, one core")
    low, high = axis.get_ylim()
    axis.set_ylim(low, high * 5), axis.set_xlim(-0.5, len(workloads) - 0.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_axisbelow(True)
    axis.grid(axis="y", alpha=0.3)
drawn = [peer for peer in order if any(row["peer"] == peer for row in rows)]
axes[0].legend([plt.Rectangle((0, 0), 1, 1, color=colours[peer]) for peer in drawn], drawn, ncols=(len(drawn) + 1) // 2, loc="lower center", bbox_to_anchor=(0.5, 1.1), frameon=False)
figure.savefig(to, dpi=110)
"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--seconds", type=float, default=5, help="a workload and round, for the compiled peers")
    names = lambda text: text.split(",")
    arguments.add_argument("--workloads", type=names, default=WORKLOADS)
    arguments.add_argument("--peers", type=names, default=[*COMPILED, *PYTHON_PEERS])
    arguments.add_argument("--library", type=pathlib.Path, default=ROOT / "build" / "g++-native" / "liboptnet.a")
    flags = arguments.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    install_python(flags.peers)
    program = compile_peers(flags.library)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core for all that follows
    best = measure(program, flags)
    for peer in set(flags.peers) - {key[2] for key in best} - {name.split(" on ")[0] for name in missing}:
        missing[peer] = "was not there when the peers were compiled: remove build/peers to try again"
    columns = ("workload", "peer", "pass", "ms", "ratio", "max_difference")
    rows = [{column: row[column] for column in columns} for row in best.values()]
    (ROOT / "build" / "bench-peers.json").write_text("[\n" + ",\n".join(f" {json.dumps(row)}" for row in rows) + "\n]\n")
    for kind in ("forward", "backward"):
        table(best, kind)
    for name, reason in missing.items():
        print(f"left out: {name}: {reason}")
    if flags.workloads == WORKLOADS and "matplotlib" not in missing:
        call([VENV / "bin" / "python", "-c", PICTURE, ROOT / "build" / "bench-peers.json", json.dumps(["optnet", *COMPILED, *PYTHON_PEERS]),
              ROOT / "docs" / "images" / "peers.png"], env=environment())


if __name__ == "__main__":
    try:
        main()
    except Unavailable as reason:
        sys.exit(f"peers: {reason}")
