#!/usr/bin/env python3
"""How time grows: the OptNet paper's two timing figures on this solver, and cost over the size of a problem.

    make bench-peers && python3 benchmarks/curves.py        (the first makes the environment with gurobipy and matplotlib)

docs/images/gurobi.png   a batch of QPs, n = m = 100, by this solver and by Gurobi, over batch sizes
docs/images/layers.png   an OptNet layer and a Linear layer of 100 units, forward and backward, over batch sizes
docs/images/sizes.png    forward and backward of one problem, n = m = 10 ... 1000, beside n^3 at the speed of dgemm

One core. Writes all figures to build/curves.json too.
"""
import json
import os
import sys

import peers
from peers import BUILD, ROOT, call

BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
SIZES = [10, 14, 20, 30, 40, 60, 80, 100, 140, 200, 250, 300, 400, 500, 700, 1000]


def bench(*arguments):
    """The rows of one run of ./bench, the least of two."""
    file = BUILD / "curve.json"
    runs = []
    for _ in range(2):
        call([ROOT / "bench", "--core-time", "--json", file, *arguments])
        runs.append(json.loads(file.read_text()))
    return [min(rows, key=lambda row: row["ms"]) for rows in zip(*runs)]


def gurobi():
    """Milliseconds of a QP of W1's shape in Gurobi: one at a time is its only way, so a batch takes that many times longer."""
    problems, answers = BUILD / "W1.safetensors", BUILD / "W1.z.safetensors"
    rows = peers.PythonPeers(["Gurobi"]).rows(problems, answers)
    return rows[0]["ms"] / 128 if "ms" in rows[0] else None


def measure():
    curves = {"batch": [], "layers": [], "sizes": []}
    for batch in BATCHES:
        curves["batch"] += bench("--n", 100, "--m", 100, "--batch", batch)
        curves["layers"] += bench("--layers", "--n", 100, "--m", 100, "--batch", batch)
    for n in SIZES:
        curves["sizes"] += bench("--n", n, "--m", n, "--batch", max(2, min(128, 1000000 // n**2)))
    curves["gurobi_ms"] = gurobi()
    return curves


PICTURES = r"""
import json, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
curves, folder = json.load(open(sys.argv[1])), sys.argv[2]

def picture(name, title, xlabel, ylabel, lines):
    figure, axis = plt.subplots(figsize=(6.5, 4.5), constrained_layout=True)
    for label, x, y, style in lines:
        axis.loglog(x, y, style, label=label, markersize=4)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.savefig(f"{folder}/{name}.png", dpi=110)

def line(rows, kind, key, per=lambda row: 1, **match):
    rows = [row for row in rows if row["pass"] == kind and all(row[k] == v for k, v in match.items())]
    return [row[key] for row in rows], [row["ms"] / per(row) for row in rows]

rows = curves["batch"]
lines = [("optnet, forward", *line(rows, "forward", "batch"), "o-k"), ("optnet, backward", *line(rows, "backward", "batch"), "o--k")]
if curves["gurobi_ms"]:
    batches = lines[0][1]
    lines.append(("Gurobi, forward", batches, [curves["gurobi_ms"] * batch for batch in batches], "s-C3"))
picture("gurobi", "QPs, n = m = 100, double, one core", "batch", "ms a batch", lines)

rows = curves["layers"]
picture("layers", "Layers of 100 units, double, one core", "batch", "ms a batch",
        [(f"{layer}, {kind}", *line(rows, kind, "batch", workload=layer), style)
         for layer, kind, style in (("OptNet", "forward", "o-k"), ("OptNet", "backward", "o--k"), ("Linear", "forward", "s-C0"), ("Linear", "backward", "s--C0"))])

rows = curves["sizes"]
n = [row["n"] for row in rows if row["pass"] == "forward"]
work = [7 / 3 * row["n"] ** 3 / row["dgemm_gflops"] * 1e-6 for row in rows if row["pass"] == "forward"]
picture("sizes", "One problem, n = m, double, one core", "n", "ms a problem",
        [("forward", *line(rows, "forward", "n", lambda row: row["batch"]), "o-k"), ("backward", *line(rows, "backward", "n", lambda row: row["batch"]), "o--k"),
         ("7/3 n$^3$ at dgemm's speed", n, work, ":C0")])
"""


def main():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    curves = measure()
    to = ROOT / "build" / "curves.json"
    to.write_text(json.dumps(curves, indent=1))
    call([peers.VENV / "bin" / "python", "-c", PICTURES, to, ROOT / "docs" / "images"], env=peers.environment())
    for row in curves["sizes"]:
        if row["pass"] == "forward":
            print(f"n = {row['n']:5}: {row['ms'] / row['batch']:10.4f} ms a problem, {100 * row['gflops'] / row['dgemm_gflops']:3.0f}% of dgemm, residual {row['max_residual']:.1e}")


if __name__ == "__main__":
    try:
        main()
    except peers.Unavailable as reason:
        sys.exit(f"curves: {reason}")
