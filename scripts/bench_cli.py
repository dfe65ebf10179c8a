"""What the command line costs: `python scripts/bench_cli.py`. Medians of interleaved runs, and their budgets."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SELFHOST = Path(sys.executable).parent / "selfhost"
RUNS = 15
# Each with its argv and its budget in milliseconds.
COMMANDS: list[tuple[str, list[str | Path], int | None]] = [
    ("python -c pass", [sys.executable, "-c", "pass"], None),
    ("selfhost --help", [SELFHOST, "--help"], 150),
    ("selfhost check", [SELFHOST, "check"], None),
    ("selfhost gpus", [SELFHOST, "gpus"], None),
    ("selfhost plan", [SELFHOST, "plan"], 500),
    ("selfhost doctor", [SELFHOST, "doctor"], 3000),
    ("selfhost ps", [SELFHOST, "ps"], None),
    ("selfhost health", [SELFHOST, "health"], None),
]


def main() -> None:
    """Run every command in turn, RUNS times, and print the medians."""
    seconds: dict[str, list[float]] = {what: [] for what, _, _ in COMMANDS}
    with tempfile.TemporaryDirectory() as empty:
        env = {**os.environ, "SELFHOST_STATE": f"{empty}/state", "SELFHOST_RUNTIME": f"{empty}/runtime"}
        for _ in range(RUNS):
            for what, argv, _ in COMMANDS:
                began = time.perf_counter()
                subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, check=False)
                seconds[what].append(time.perf_counter() - began)
    floor = statistics.median(seconds["python -c pass"])
    print(f"{'command':<18} {'median':>8} {'x python':>9}  budget")
    for what, _, budget in COMMANDS:
        median = statistics.median(seconds[what])
        verdict = "" if budget is None else f"{budget} ms {'kept' if median * 1000 < budget else 'BROKEN'}"
        print(f"{what:<18} {median * 1000:>5.0f} ms {median / floor:>9.1f}  {verdict}")


if __name__ == "__main__":
    main()
