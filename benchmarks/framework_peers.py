#!/usr/bin/env python3
"""The framework beside PyTorch: an op, training steps, a convolution, Adam; float32, same shapes, one core unless told otherwise.

    python3 benchmarks/framework_peers.py [--threads 1] [--rounds 5] [--workloads mlp,lenet]

The latest PyTorch of PyPI goes into build/venv (wheels for x86-64 bring CUDA, gigabytes of it; the CPU alone is used). Each
round times a workload by ./bench_framework (benchmarks/framework.cpp says what it is) and then by PyTorch, warm both, and the least
time of all rounds counts; where PyTorch has several ways, all are reported. With one thread time is that of the thread on its core,
which is the clock's on an idle machine; with more it is the clock's. Memory is by how much a process, one for each side, grows in
steps of the whole batch after one of a single example. Start-up is that of ./sudoku_train, generation of its puzzles included.

Writes build/bench-framework.json, rows of {workload, peer, threads, ms, ratio}: ratio = ours over the peer's. Where PyTorch cannot be
had it says so and ends with exit code 0.
"""
import argparse
import gc
import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "build" / "venv"
WORKLOADS = ["tiny", "mlp", "lenet", "conv", "adam"]


# ---- PyTorch's side, in a process of its own: lines of JSON in, lines of JSON out --------------------------------------------------

def training(torch, net, shape, fused, **form):
    net = net.to(**form)
    whole, one = ((torch.randn(batch, *shape).to(**form), torch.full((batch,), 3)) for batch in (128, 1))
    adam, loss = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused), torch.nn.CrossEntropyLoss()

    def step(x=whole[0], y=whole[1]):
        adam.zero_grad(set_to_none=True)
        loss(net(x), y).backward()
        adam.step()
    step.one = lambda: step(*one)
    return step


def mlp(torch, fused):
    nn = torch.nn
    return training(torch, nn.Sequential(nn.Linear(784, 600), nn.ReLU(), nn.Linear(600, 10)), (784,), fused)


def lenet(torch, fused, **form):
    nn = torch.nn
    return training(torch, nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
                                         nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)), (1, 28, 28), fused, **form)


def tiny(torch, with_sum):
    a, b, dy, grad = torch.randn(16, requires_grad=True), torch.randn(16, requires_grad=True), torch.randn(16), torch.autograd.grad
    if with_sum:
        return lambda: grad((a + b).sum(), (a, b))
    return lambda: grad(a + b, (a, b), dy)


def convolution(torch, **form):
    net, x, dy = torch.nn.Conv2d(64, 64, 3, padding=1).to(**form), torch.randn(16, 64, 32, 32), torch.randn(16, 64, 32, 32)
    x, dy = x.to(**form).requires_grad_(), dy.to(**form)
    inputs = (x, *net.parameters())
    return lambda: torch.autograd.grad(net(x), inputs, dy)


def adam(torch, **how):
    x = torch.nn.Parameter(torch.randn(10_000_000))
    x.grad = torch.randn(10_000_000)
    return torch.optim.Adam([x], lr=1e-3, **how).step


# workload: {way: what makes a step}; the first way is PyTorch's default
WAYS = {
    "tiny": {"default": lambda torch: tiny(torch, True), "without sum": lambda torch: tiny(torch, False)},
    "mlp": {"default": lambda torch: mlp(torch, None), "fused": lambda torch: mlp(torch, True)},
    "lenet": {"default": lambda torch: lenet(torch, None), "fused": lambda torch: lenet(torch, True),
              "fused, channels last": lambda torch: lenet(torch, True, memory_format=torch.channels_last)},
    "conv": {"default": lambda torch: convolution(torch), "channels last": lambda torch: convolution(torch, memory_format=torch.channels_last)},
    "adam": {"default": lambda torch: adam(torch), "foreach": lambda torch: adam(torch, foreach=True), "fused": lambda torch: adam(torch, fused=True)},
}


def least(step, repeats, clock):
    """As milliseconds() of workloads.h: at least five runs and 0.3 s."""
    runs, best, begin = 0, float("inf"), clock()
    while runs < 5 or clock() - begin < 0.3:
        start = clock()
        for _ in range(repeats):
            step()
        best, runs = min(best, clock() - start), runs + 1
    return 1e3 * best / repeats


def resident(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) / 1024


def serve_torch(threads):
    import warnings
    warnings.filterwarnings("ignore")
    import torch
    torch.set_num_threads(threads)
    gc.disable()
    clock = time.thread_time if threads == 1 else time.perf_counter
    print(json.dumps({"version": torch.__version__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        step = WAYS[job["workload"]][job["way"]](torch)
        if job["memory"]:
            step.one()
            pathlib.Path("/proc/self/clear_refs").write_text("5")
            before = resident("VmRSS")
            for _ in range(5):
                step()
            answer = {"megabytes": resident("VmHWM") - before}
        else:
            answer = {"ms": least(step, 1000 if job["workload"] == "tiny" else 1, clock)}
        gc.collect()
        print(json.dumps(answer), flush=True)


class Torch:
    def __init__(self, threads):
        self.process = subprocess.Popen([VENV / "bin" / "python", __file__, "--serve-torch", "--threads", str(threads)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.version = self.answer()["version"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("PyTorch's process ended: " + str(self.process.wait()))
        return json.loads(line)

    def ask(self, workload, way, memory=False):
        self.process.stdin.write(json.dumps({"workload": workload, "way": way, "memory": memory}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---- the run -------------------------------------------------------------------------------------------------------------------

def install():
    python = VENV / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
            print("installing PyTorch into build/venv ...", flush=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "numpy"], check=True)
    except (OSError, subprocess.CalledProcessError) as reason:
        print(f"PyTorch cannot be had, there is nothing to compare with: {reason}")
        raise SystemExit(0)


def ours(workload, threads, *flags):
    clock = ["--core-time"] if threads == 1 and "--memory" not in flags else []
    done = subprocess.run([ROOT / "bench_framework", "--workload", workload, "--threads", str(threads), *clock, *flags], check=True,
                          capture_output=True, text=True)
    return json.loads(done.stdout)


def start_up(threads):
    """From the start of ./sudoku_train to its first step, in the clock's ms: until it reports its first epoch, less the time of that
    epoch's steps; what it validates and saves in between counts here too."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with subprocess.Popen([ROOT / "sudoku_train", "--epochs", "1", "--threads", str(threads), "--out", folder], text=True, stdout=subprocess.PIPE) as run:
            next(line for line in run.stdout if line.startswith("epoch"))
            first_epoch = time.perf_counter() - start
            run.communicate()
        record = next(map(json.loads, (pathlib.Path(folder) / "metrics.jsonl").open()))
        return 1e3 * (first_epoch - record["train_boards"] / record["boards_per_second"])


def measure(flags):
    """The version of PyTorch, and rows; time is the least of the rounds."""
    torch, best = Torch(flags.threads), {}

    def see(workload, peer, row):
        if row["ms"] < best.get((workload, peer), {"ms": float("inf")})["ms"]:
            best[workload, peer] = {"workload": workload, "peer": peer, "threads": flags.threads, **row}

    for number in range(flags.rounds):
        for workload in flags.workloads:
            see(workload, "optnet", ours(workload, flags.threads))
            for way in WAYS[workload]:
                see(workload, f"PyTorch, {way}", torch.ask(workload, way))
        for limit in ("sgemm", "memcpy"):
            see(limit, "machine", ours(limit, flags.threads))
        see("start-up", "optnet", {"ms": start_up(flags.threads)})
        print(f"round {number + 1} of {flags.rounds}", flush=True)
    torch.close()
    for (workload, _), row in best.items():
        if (workload, "optnet") in best:
            row["ratio"] = best[workload, "optnet"]["ms"] / row["ms"]
    return torch.version, list(best.values())


def measure_memory(flags):
    rows = []
    for workload in (name for name in ("mlp", "lenet") if name in flags.workloads):
        torch = Torch(flags.threads)
        own, theirs = ours(workload, flags.threads, "--memory")["megabytes"], torch.ask(workload, "default", memory=True)["megabytes"]
        torch.close()
        for peer, size in (("optnet", own), ("PyTorch, default", theirs)):
            rows.append({"workload": f"{workload}, memory", "peer": peer, "threads": flags.threads, "megabytes": size, "ratio": own / size})
    return rows


def show(version, rows):
    print(f"\nPyTorch {version}, {rows[0]['threads']} thread(s); ratio: ours over theirs")
    for row in rows:
        number = f"{row['ms']:10.4g} ms" if "ms" in row else f"{row['megabytes']:10.1f} MB"
        speed = f"{row['gflops']:8.0f} GFLOP/s" if "gflops" in row else f"{row['gigabytes_per_second']:8.1f} GB/s" if "gigabytes_per_second" in row else ""
        ratio = f"{row['ratio']:8.2f}" if "ratio" in row and row["peer"] != "optnet" else " " * 8
        print(f"{row['workload']:15}{row['peer']:24}{number}{ratio}{speed}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workloads", type=lambda names: names.split(","), default=WORKLOADS)
    parser.add_argument("--serve-torch", action="store_true", help="PyTorch's side, which this script starts by itself")
    flags = parser.parse_args()
    if flags.serve_torch:
        return serve_torch(flags.threads)
    if unknown := set(flags.workloads) - set(WORKLOADS):
        parser.error(f"--workloads takes some of {','.join(WORKLOADS)}; got {','.join(sorted(unknown))}")
    install()
    version, rows = measure(flags)
    rows += measure_memory(flags)
    show(version, rows)
    (ROOT / "build" / "bench-framework.json").write_text("[\n " + ",\n ".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
