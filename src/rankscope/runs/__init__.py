"""The run folder: one folder a run, written so that a kill or a full disk never leaves half a file under a final name.

runs/20261122_143025-nmf/   config.json  environment.json  metrics.csv  *.json  *.safetensors  results.csv  results.md
                            figures/*.png + *.svg  report.html  status.json (written last; absent = incomplete)
"""

from rankscope.runs.folder import Run
from rankscope.runs.listing import RunSummary, list_runs
from rankscope.runs.machine import environment
from rankscope.runs.snapshots import Pictures, Snapshots, read_snapshots

__all__ = ["Pictures", "Run", "RunSummary", "Snapshots", "environment", "list_runs", "read_snapshots"]
