"""The peers that are called from Python: qpth, qpax, cvxpylayers, OSQP, Gurobi. benchmarks/peers.py starts this in the
environment that it made, and gives it a line {"problems": FILE, "answers": FILE} for each workload; the answer is a line
with a list of rows {"peer", "pass", "ms", "max_difference"} or {"peer", "missing": reason}.

Times are those of this process on its core (as peers.cpp has them), or what the peer itself reports as its run time if
that is less, so that Python's own cost is not counted. Peers that take one problem at a time are given the first few of
a batch, and the mean is scaled to the batch. Compilations, and the building of models, are not timed.
"""
import json
import os
import struct
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np

TOLERANCE = 1e-9
FEW = 8


def load(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    return {name: np.frombuffer(data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


class Problems:
    """Q, G, h, A, b of the batch, or of all its elements at once where they are shared; bounds as rows of G."""

    def __init__(self, path):
        x = load(path)
        self.q = x["q"]
        self.batch, self.n = self.q.shape
        self.Q = x["Q"] if x["Q"].ndim else float(x["Q"]) * np.eye(self.n)
        self.shared = self.Q.ndim == 2
        own = () if self.shared else (self.batch,)
        self.G, self.h = (-np.eye(self.n), np.zeros(self.n)) if "lower" in x else (x["G"], x["h"])
        self.A = x.get("A", np.zeros((*own, 0, self.n)))
        self.b = x.get("b", np.zeros((*own, 0)))

    def element(self, e):
        return [x if self.shared else x[e] for x in (self.Q, self.G, self.h, self.A, self.b)] + [self.q[e]]


def timed(f):
    begin = time.process_time()
    out = f()
    return out, 1e3 * (time.process_time() - begin)


def least(f, turns=2):
    """The answer and the least time of some calls; the first call may compile, and does not count."""
    f()
    runs = [timed(f) for _ in range(turns)]
    return runs[0][0], min(ms for _, ms in runs)


def qpth(problems):
    import types
    sys.modules.setdefault("cvxpy", types.ModuleType("cvxpy"))  # for its other solver only
    import torch
    from qpth.qp import QPFunction
    torch.set_num_threads(1)
    data = [torch.tensor(x, requires_grad=True) for x in (problems.Q, problems.q, problems.G, problems.h)]
    equalities = [torch.tensor(x, requires_grad=True) for x in (problems.A, problems.b)] if problems.A.shape[-2] else [torch.Tensor()] * 2
    forward = lambda: QPFunction(verbose=-1, check_Q_spd=False)(*data, *equalities)  # stops at 1e-12, or where it gets no better
    z, ms = least(forward)
    yield "forward", ms, z.detach().numpy()
    yield "backward", min(timed(z.sum().backward)[1] for z in (forward(), forward())), None


def qpax(problems):
    import jax
    jax.config.update("jax_enable_x64", True)
    import qpax
    order = [problems.Q, problems.q, problems.A, problems.b, problems.G, problems.h]
    solve = lambda *data: qpax.solve_qp_primal(*data, solver_tol=TOLERANCE)
    axes = [None if problems.shared and x is not problems.q else 0 for x in order]
    data = [jax.numpy.asarray(x) for x in order]
    batch = jax.vmap(solve, axes)
    forward = jax.jit(batch)
    both = jax.jit(jax.grad(lambda *data: batch(*data).sum(), argnums=tuple(range(6))))
    z, ms = least(lambda: jax.block_until_ready(forward(*data)))
    yield "forward", ms, np.asarray(z)
    yield "backward", max(0.0, least(lambda: jax.block_until_ready(both(*data)))[1] - ms), None


def cvxpylayers(problems):
    if problems.n > 100:
        raise Exception("left out where n > 100: takes minutes")
    import warnings
    warnings.filterwarnings("ignore")
    sys.modules.pop("cvxpy", None)
    import cvxpy as cp
    import jax
    jax.config.update("jax_enable_x64", True)
    from cvxpylayers.jax import CvxpyLayer
    n, p = problems.n, problems.A.shape[-2]
    z = cp.Variable(n)
    L, q, G, h, A, b = (cp.Parameter(shape) for shape in ((n, n), n, (problems.G.shape[-2], n), problems.G.shape[-2], (max(p, 1), n), max(p, 1)))
    rows = [G @ z <= h] + ([A @ z == b] if p else [])
    model = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(L @ z) + q @ z), rows)
    layer = CvxpyLayer(model, parameters=[L, q, G, h] + ([A, b] if p else []), variables=[z])
    solve = lambda *data: layer(*data, solver_args={"eps": TOLERANCE})[0]
    answers, forward, backward = [], [], []
    for e in range(3):
        Q_, G_, h_, A_, b_, q_ = problems.element(e)
        data = [jax.numpy.asarray(x) for x in [np.linalg.cholesky(Q_).T, q_, G_, h_] + ([A_, b_] if p else [])]
        answer, ms = least(lambda: jax.block_until_ready(solve(*data)), 1)
        (_, pullback), _ = timed(lambda: jax.vjp(solve, *data))
        _, back = least(lambda: jax.block_until_ready(pullback(jax.numpy.ones(n))), 1)
        answers.append(np.asarray(answer)), forward.append(ms), backward.append(back)
    yield "forward", np.mean(forward) * problems.batch, np.array(answers)
    yield "backward", np.mean(backward) * problems.batch, None


def osqp(problems):
    import osqp
    from scipy import sparse
    solver, answers, times, setup = None, [], [], 0.0
    for e in range(min(FEW, problems.batch)):
        Q, G, h, A, b, q = problems.element(e)
        if solver is None or not problems.shared:  # else its factorisation is kept
            rows = sparse.csc_matrix(np.vstack([A, G]))
            low, high = np.concatenate([b, np.full(len(h), -np.inf)]), np.concatenate([b, h])
            solver = osqp.OSQP()
            _, setup = timed(lambda: solver.setup(sparse.csc_matrix(np.triu(Q)), q, rows, low, high, eps_abs=TOLERANCE, eps_rel=TOLERANCE,
                                                  max_iter=100000, verbose=False, polishing=False, warm_starting=False))
        runs = []
        for _ in range(2):
            if problems.shared:
                solver.update(q=q)
            out, ms = timed(solver.solve)
            if out.info.status_val != 1:
                raise Exception(f"problem {e}: {out.info.status}")
            runs.append(min(ms, 1e3 * out.info.solve_time))
        setup = min(setup, 1e3 * out.info.setup_time)
        answers.append(out.x), times.append(min(runs) + (0 if problems.shared else setup))
    yield "forward", np.mean(times) * problems.batch + (setup if problems.shared else 0), np.array(answers)


def gurobi(problems):
    if problems.n > 200:
        raise Exception("its size-limited licence takes QPs of at most 200 variables")
    import gurobipy
    environment = gurobipy.Env(params={"OutputFlag": 0, "Threads": 1, "BarConvTol": TOLERANCE, "FeasibilityTol": TOLERANCE,
                                       "OptimalityTol": TOLERANCE, "BarQCPConvTol": TOLERANCE})
    answers, times = [], []
    for e in range(min(FEW, problems.batch)):
        Q, G, h, A, b, q = problems.element(e)
        with gurobipy.Model(env=environment) as model:
            z = model.addMVar(problems.n, lb=-gurobipy.GRB.INFINITY)
            model.setObjective(0.5 * z @ Q @ z + q @ z)
            model.addConstr(G @ z <= h)
            if len(b):
                model.addConstr(A @ z == b)
            runs = []
            for _ in range(3):
                model.reset()
                _, ms = timed(model.optimize)
                runs.append(min(ms, 1e3 * model.Runtime))
            answers.append(z.X), times.append(min(runs))
    yield "forward", np.mean(times) * problems.batch, np.array(answers)


PEERS = {"qpth": qpth, "qpax": qpax, "OSQP": osqp, "Gurobi": gurobi, "cvxpylayers": cvxpylayers}


def rows(name, problems, ours):
    try:
        for kind, ms, z in PEERS[name](problems):
            difference = 0.0 if z is None else float(np.abs(z - ours[:len(z)]).max())
            yield {"peer": name, "pass": kind, "ms": float(ms), "max_difference": difference}
    except Exception as reason:  # one that fails must not stop the others
        yield {"peer": name, "missing": " ".join(str(reason).split())[:200] or type(reason).__name__}


def main():
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what solvers print goes elsewhere
    for line in sys.stdin:
        task = json.loads(line)
        problems, ours = Problems(task["problems"]), load(task["answers"])["z"]
        found = [row for name in task["peers"] for row in rows(name, problems, ours)]
        print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    main()
