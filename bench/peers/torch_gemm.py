"""Times A @ B.T in PyTorch the way bench/gemm does: random data, rotated through memory, replays of a CUDA graph.

Reads {"dtype": "bfloat16", "shapes": [[m, n, k], ...]} from stdin; prints a JSON array of TFLOP/s.
"""
import json
import statistics
import sys

import torch


def measure(m: int, n: int, k: int, dtype: torch.dtype) -> float:
    item = torch.empty((), dtype=dtype).element_size()
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    sets = max(2, -(-3 * l2 // ((m * k + n * k + m * n) * item)) + 1)
    a = [torch.rand(m, k, device="cuda").mul_(2).sub_(1).to(dtype) for _ in range(sets)]
    b = [torch.rand(n, k, device="cuda").mul_(2).sub_(1).to(dtype) for _ in range(sets)]
    out = [torch.empty(m, n, device="cuda", dtype=dtype) for _ in range(sets)]
    # About 3 ms a replay at 600 TFLOP/s.
    calls = max(sets, min(2000, int(3e-3 * 600e12 / (2 * m * n * k))))

    def submit() -> None:
        for i in range(calls):
            torch.mm(a[i % sets], b[i % sets].t(), out=out[i % sets])

    submit()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        submit()
    times = []
    for _ in range(18):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / calls)
    return 2 * m * n * k / statistics.median(times[3:]) / 1e12


def main() -> None:
    request = json.load(sys.stdin)
    dtype = getattr(torch, request["dtype"])
    torch.backends.cuda.matmul.allow_tf32 = False
    json.dump([measure(*shape, dtype) for shape in request["shapes"]], sys.stdout)


main()
