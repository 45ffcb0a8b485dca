"""One side of one row: `python -m benchmarks.worker JOB`, started by laps.Worker."""

import importlib
import sys
import warnings
from contextlib import suppress

from benchmarks.laps import Finished, Gate, Over, memory_mib, parent_gate
from benchmarks.table import Job


def run(job: Job, gate: Gate) -> None:
    """All laps of a side, until it has no more or the parent wants no more."""
    module, function = job.side.run.split(":")
    side = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    with suppress(Over):
        side(job, gate)
    gate.tell(Finished(values=gate.values, memory_mib=memory_mib()))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    run(Job.model_validate_json(sys.argv[1]), parent_gate())
