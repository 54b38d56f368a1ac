"""Histogram losses beside MONAI's GlobalMutualInformationLoss: seconds, memory, how both grow, and the estimate's
bias.

    python examples/benchmarks/losses.py [--sizes 64 128 192] [--bins 32] [--threads 2] [--monai-up-to 128]

Images are in memory; each measurement runs in a fresh process, forward + backward, the best of five (MONAI's: one).
"""

from __future__ import annotations

import argparse
import datetime
import math
import platform
import subprocess
import sys

import monai
import torch

import medmi.losses

CODE = """
import resource, sys, threading, time, torch
which, size, bins, window, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
torch.set_num_threads(threads)
g = torch.Generator().manual_seed(0)
x = torch.rand(1, 1, size, size, size, generator=g)
y = (0.6 * x + 0.4 * torch.rand(x.shape, generator=g)).requires_grad_()
if which == "monai":
    from monai.losses import GlobalMutualInformationLoss
    loss = GlobalMutualInformationLoss("b-spline" if window == "bspline" else "gaussian", num_bins=bins)
else:
    from medmi.losses import MutualInformationLoss
    loss = MutualInformationLoss(num_bins=bins, window=window)
small = x[0, 0, 0, 0, :48].clone().reshape(1, 1, 3, 4, 4).requires_grad_()
loss(small, small.detach().flip(-1)).backward()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

before, peak, done = resident(), 0.0, threading.Event()

def watch():
    global peak
    while not done.wait(0.0005):
        peak = max(peak, resident())

watcher = threading.Thread(target=watch)
watcher.start()
loss(y, x).backward()
done.set()
watcher.join()
y.grad, best = None, float("inf")
for _ in range(1 if which == "monai" else 5):
    start = time.perf_counter()
    loss(y, x).backward()
    best = min(best, time.perf_counter() - start)
    y.grad = None
print(best, peak - before)
"""


def cost(which: str, size: int, bins: int, window: str, threads: int) -> tuple[float, float]:
    """Seconds, and MiB above what was resident before (the gradient included)."""
    arguments = [sys.executable, "-c", CODE, which, str(size), str(bins), window, str(threads)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def processor() -> str:
    """Name of the processor, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def costs_beside_monai(sizes: list[int], bins: int, threads: int, largest: int) -> None:
    """medmi and MONAI on the same images, linear and B-spline windows (MONAI's are Gaussian and B-spline)."""
    columns = {
        "size": 6,
        "bins": 5,
        "window": 9,
        "medmi s": 9,
        "MiB": 6,
        "MONAI s": 9,
        "MiB ": 7,
        "faster": 7,
        "memory": 7,
    }
    print(" ".join(name.strip().rjust(width) for name, width in columns.items()))
    for size in sizes:
        for window in ("linear", "bspline", "gaussian"):
            seconds, memory = cost("medmi", size, bins, window, threads)
            row = f"{size:4d}^3 {bins:5d} {window:>9s} {seconds:9.4f} {memory:6.0f}"
            if size <= largest and window != "gaussian":
                theirs, much = cost("monai", size, bins, window, threads)
                row += f" {theirs:9.3f} {much:7.0f} {theirs / seconds:6.0f}x {f'1/{much / max(memory, 1):.0f}':>7s}"
            print(row, flush=True)


def growth(threads: int) -> None:
    """Nanoseconds a voxel by voxels and by bins: flat lines mean linear in the one and free of the other."""
    print("\nmedmi, linear window, ns a voxel (forward + backward)")
    for title, cases in (
        ("by voxels (32 bins)", {f"{size}^3": (size, 32) for size in (48, 64, 96, 128, 160, 192)}),
        ("by bins (128^3)", {str(bins): (128, bins) for bins in (8, 16, 32, 64, 128, 256)}),
    ):
        found = {name: cost("medmi", *case, "linear", threads)[0] / case[0] ** 3 * 1e9 for name, case in cases.items()}
        print(f"  {title:20s}" + "  ".join(f"{name}: {value:.1f}" for name, value in found.items()))


def bias() -> None:
    """Histogram estimates of Gaussian pairs whose mutual information is known, and of independent values on bin
    centres.
    """
    print("\nbias: Gaussian pairs of 400,000 values, nat (coarse bins low)")
    print(f"{'rho':>6s} {'truth':>7s} {'window':>9s}" + "".join(f"{bins:4d} bins" for bins in (8, 16, 32, 64, 128)))
    z = torch.randn(2, 1, 1, 400_000, generator=torch.Generator().manual_seed(1))
    for rho in (0.0, 0.5, 0.8, 0.95):
        x, y = z[0][None, 0], (rho * z[0] + math.sqrt(1 - rho**2) * z[1])[None, 0]
        for window in ("linear", "bspline", "gaussian"):
            found = [-float(medmi.losses.MutualInformationLoss(bins, window)(x, y)) for bins in (8, 16, 32, 64, 128)]
            print(
                f"{rho:6.2f} {-0.5 * math.log(1 - rho**2):7.3f} {window:>9s}"
                + "".join(f"{value:9.3f}" for value in found)
            )
    print("\nbias: N independent values on bin centres, truth 0, nat (few values high); (bins - 1)^2 / 2N beside it")
    for bins in (16, 32, 64):
        row = []
        for count in (1_000, 10_000, 100_000):
            g = torch.Generator().manual_seed(0)
            x, y = (torch.rand(1, 1, count, generator=g).mul(bins).floor() for _ in range(2))
            found = -float(medmi.losses.MutualInformationLoss(bins)(x, y))
            row.append(f"N {count}: {found:.4f} ({(bins - 1) ** 2 / 2 / count:.4f})")
        print(f"  {bins} bins   " + "   ".join(row))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 192])
    parser.add_argument("--bins", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--monai-up-to", type=int, default=128, help="largest size MONAI is run at (2 GiB at 128^3)")
    options = parser.parse_args()
    print(f"{datetime.date.today()}  {processor()}, {options.threads} threads, {platform.system()}")
    print(f"python {platform.python_version()}, torch {torch.__version__}, monai {monai.__version__}\n")
    costs_beside_monai(options.sizes, options.bins, options.threads, options.monai_up_to)
    growth(options.threads)
    bias()


if __name__ == "__main__":
    main()
