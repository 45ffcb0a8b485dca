"""What it ran on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from ethos.models import fast_dtype
from ethos.records import Record

TOLD = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Processor features that decide how fast products are, in bfloat16 too."""
PACKAGES = ("torch", "transformers", "peft", "trl", "lm-eval")


class Machine(Record):
    """Hardware and versions. What is measured on one machine says nothing of another."""

    processor: str
    cores: int
    features: dict[str, bool]
    accelerator: str | None
    memory_gib: int
    dtype: str
    """What ethos computes in here."""
    python: str
    packages: dict[str, str | None]

    @property
    def hardware(self) -> str:
        """All of it but the versions."""
        return self.model_dump_json(exclude={"python", "packages"})

    def lines(self) -> list[str]:
        """For a reader."""
        flags = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in self.features.items())
        used = ", ".join(f"{name} {number or 'missing'}" for name, number in self.packages.items())
        return [
            f"{self.cores} cores of {self.processor}, {self.memory_gib} GiB; {flags}.",
            f"Accelerator: {self.accelerator or 'none'}. ethos computes in {self.dtype} here.",
            f"Python {self.python}, {used}.",
        ]


def this_machine() -> Machine:
    """The machine that runs this."""
    processor = Path("/proc/cpuinfo").read_text()
    facts = dict(line.split(":", 1) for line in processor.split("\n\n")[0].splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in facts.items()}
    flags = named.get("flags", "").split()
    return Machine(
        processor=named.get("model name", platform.machine()),
        cores=len(os.sched_getaffinity(0)),
        features={name: name in flags for name in TOLD},
        accelerator=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        dtype=str(fast_dtype()).removeprefix("torch."),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except ModuleNotFoundError:
        return None
