"""What this machine can do for ethos."""

import os
import platform
import sys
from importlib.metadata import version

import torch

from ethos import __version__
from ethos.models import DEFAULT_MODEL, GGUF_SHA256, cache_root, fast_dtype


def hardware() -> dict[str, str]:
    """Processor, cores, accelerator and the dtype computed in."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "vector": torch.backends.cpu.get_cpu_capability(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "dtype": str(fast_dtype()).removeprefix("torch."),
    }


def _processor() -> str:
    """The processor's name as the system reports it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def diagnose() -> list[tuple[str, str]]:
    """Everything a bug report wants to know, as (what, value) rows."""
    packages = [(name, version(name)) for name in ("torch", "transformers", "peft", "numpy", "scipy")]
    cached = cache_root() / f"{DEFAULT_MODEL}-{GGUF_SHA256[:12]}"
    model = f"{cached} ({'ready' if (cached / 'config.json').exists() else 'not fetched yet; the first run does it'})"
    return [
        ("ethos", __version__),
        ("python", sys.version.split()[0]),
        *packages,
        *hardware().items(),
        ("threads", str(torch.get_num_threads())),
        ("default model", model),
    ]
