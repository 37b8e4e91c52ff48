"""What keeping freed memory buys and costs: seconds and peak memory of a whole fit.

    python benchmarks/kept_memory.py [--data elpv] [fit's own options]

Two processes, one after the other, each with a cache of its own: `headstart fit` as it is, and with
glibc left to give every freed block back to the system.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

GIGABYTE = 1 << 30
FIT = """
import sys
from headstart.cli import main
from headstart.training import device, engine
if sys.argv.pop(1) == "returned":
    device.keep_freed_memory = engine.keep_freed_memory = lambda path: False
sys.argv[0] = "headstart"
main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="elpv")
    arguments, options = parser.parse_known_args()
    print(f"{'memory':<10}{'seconds':>9}{'CPU seconds':>13}{'peak GB':>9}")
    for variant in ("returned", "kept"):
        with tempfile.TemporaryDirectory() as folder:
            fit = ["fit", arguments.data, "--strategy", "feature-extraction", *options]
            command = [sys.executable, "-c", FIT, variant, *fit]
            start = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--out", f"{folder}/run"],
                env={**os.environ, "HEADSTART_CACHE": f"{folder}/cache"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            _, status, usage = os.wait4(process.pid, 0)
            took = time.perf_counter() - start
        if status:
            raise SystemExit(f"{' '.join(command[4:])} failed with status {status}.")
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / GIGABYTE
        cpu = usage.ru_utime + usage.ru_stime
        print(f"{variant:<10}{took:>9.1f}{cpu:>13.1f}{peak:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
