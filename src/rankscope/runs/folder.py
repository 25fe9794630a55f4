"""One run, one folder: create it, write to it whole files at a time, read it back whatever a kill has left."""

import errno
import io
import itertools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rankscope.runs.atomic import append_lines, first_line, replacing, sync, whole_lines, write_text
from rankscope.runs.formats import checked_name, contiguous, markdown_table, plain
from rankscope.runs.machine import environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

# A kind has no hyphen, so that the -2 of a second run in the same second cannot be part of it.
_KIND = re.compile(r"[a-z][a-z0-9_]*")
_NAME = re.compile(r"(?P<utc>\d{8}_\d{6})-(?P<kind>[a-z][a-z0-9_]*)(-\d+)?")
_STAMP = "%Y%m%d_%H%M%S"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Run:
    """A run folder; every write is atomic, and nothing is written outside of `path`."""

    path: Path

    @classmethod
    def create(cls, out: str | Path, kind: str, *, config: Mapping[str, Any]) -> Self:
        """Make `out`/<UTC time>-<kind>/ with config.json and environment.json; ValueError when `out` cannot hold it."""
        if not _KIND.fullmatch(kind):
            raise ValueError(f"kind must be lower-case letters, digits and _, got {kind!r}; use for example 'nmf'")
        text = _dumps(config)
        stem = f"{datetime.now(UTC).strftime(_STAMP)}-{kind}"
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
            path = _new_folder(Path(out), stem)
        except OSError as error:
            if error.errno in _FULL:
                raise
            reason = error.strerror or error
            raise ValueError(
                f"out must be a folder to write to, got {str(out)!r} ({reason}); choose another"
            ) from error
        run = cls(path)
        try:
            write_text(path / "config.json", text)
        except OSError:
            path.rmdir()
            raise
        run.save_json("environment", environment())
        return run

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open an existing run folder; ValueError when it is none."""
        run = cls(Path(path))
        try:
            ours = bool(_NAME.fullmatch(run.path.resolve().name)) or (run.path / "environment.json").is_file()
            known = ours and isinstance(run.json("config"), dict)
        except (OSError, ValueError):
            known = False
        if not known:
            raise ValueError(f"a run folder holds a config.json, got {str(path)!r}; list yours with `rankscope runs`")
        return run

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def kind(self) -> str:
        """What the run is ("nmf"), read off its name; "run" when somebody has renamed it."""
        match = _NAME.fullmatch(self.name)
        return match["kind"] if match else "run"

    @property
    def started(self) -> datetime | None:
        """When the run was created (UTC): from environment.json, else from its name."""
        try:
            return datetime.fromisoformat(self.json("environment")["utc"])
        except (OSError, ValueError, KeyError, TypeError):
            match = _NAME.fullmatch(self.name)
        try:
            return datetime.strptime(match["utc"], _STAMP).replace(tzinfo=UTC) if match else None
        except ValueError:  # digits that are no date
            return None

    @property
    def status(self) -> dict[str, Any]:
        """What status.json says; {"state": "incomplete"} while there is none."""
        try:
            status = self.json("status")
        except (OSError, ValueError):
            status = None
        return status if isinstance(status, dict) else {"state": "incomplete"}

    @property
    def is_complete(self) -> bool:
        """Whether `finish` was reached."""
        return self.status.get("state") == "complete"

    def append_metrics(self, fit: str, frame: pd.DataFrame) -> None:
        """Append one fit's rows to metrics.csv, all or none; ValueError when the columns are not those of the file."""
        rows = frame.drop(columns="fit", errors="ignore")
        rows.insert(0, "fit", checked_name(fit, "a fit's name"))
        header, _, lines = rows.to_csv(index=False, lineterminator="\n").partition("\n")
        path, present = self.path / "metrics.csv", first_line(self.path / "metrics.csv").rstrip("\n")
        if not present:
            write_text(path, f"{header}\n{lines}")
        elif present == header:
            append_lines(path, lines)
        else:
            raise ValueError(f"metrics.csv has the columns {present}, got {header}; give every fit the same measures")

    def metrics(self, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of metrics.csv (or some columns of it) but for a torn last line; no rows when there is no file."""
        text = whole_lines(self.path / "metrics.csv")
        if not text:
            return pd.DataFrame(columns=pd.Index(["fit", *(columns or ())]).unique())
        chosen = None if columns is None else lambda column: column in columns
        # Only an empty field is missing: a fit may be called "NA", and "007" must not become 7.
        return pd.read_csv(
            io.StringIO(text),
            usecols=chosen,
            dtype={"fit": str},
            keep_default_na=False,
            na_values=[""],
        )

    def save_arrays(self, name: str, arrays: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None) -> Path:
        """Write arrays or tensors of any layout and real dtype to `name`.safetensors."""
        path = self._file(name, ".safetensors")
        stored = {key: contiguous(key, value) for key, value in arrays.items()}
        with replacing(path) as temporary:
            try:
                save_file(stored, temporary, dict(metadata) if metadata is not None else None)
                # It makes files that only their owner may read; runs are shared.
                shutil.copymode(self.path / "config.json", temporary)
            except SafetensorError as error:
                # It hides what the system said, a full disk above all.
                number = re.search(r"os error (\d+)", str(error))
                raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error
        return path

    def array_names(self, name: str) -> list[str]:
        """The names of the arrays in `name`.safetensors, without reading them."""
        return sorted(self._read(name, None))

    def arrays(self, name: str, *, only: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The arrays of `name`.safetensors, or only those named; ValueError when the file is damaged or lacks one."""
        wanted = self.array_names(name) if only is None else only
        return dict(zip(wanted, self._read(name, wanted), strict=True))

    def save_json(self, name: str, obj: Any) -> Path:
        """Write `name`.json; NaN and infinities become null."""
        path = self._file(name, ".json")
        write_text(path, _dumps(obj))
        return path

    def json(self, name: str) -> Any:
        """Read `name`.json; FileNotFoundError when there is none, ValueError when it is damaged."""
        return json.loads(self._file(name, ".json").read_text(encoding="utf-8"))

    def save_table(self, stem: str, frame: pd.DataFrame) -> Path:
        """Write the frame as `stem`.csv and `stem`.md, without its index."""
        path = self._file(stem, ".csv")
        write_text(path, frame.to_csv(index=False, lineterminator="\n"))
        write_text(self._file(stem, ".md"), markdown_table(frame))
        return path

    def save_text(self, name: str, text: str) -> Path:
        """Write a text file such as report.html; `name` carries its suffix."""
        path = self._file(name, "")
        write_text(path, text)
        return path

    def save_figure(self, name: str, fig: "Figure") -> Path:
        """Write figures/`name`.png (150 dpi) and .svg."""
        folder = self.path / "figures"
        path = folder / f"{checked_name(name, 'a file name')}.png"
        folder.mkdir(exist_ok=True)
        box = _settle(fig)
        for suffix in ("svg", "png"):
            with replacing(path.with_name(f"{name}.{suffix}")) as temporary:
                fig.savefig(temporary, format=suffix, dpi=150, bbox_inches=box)
        return path

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write status.json: from now on the run counts as complete."""
        metrics = self.path / "metrics.csv"
        if metrics.is_file():
            sync(metrics)
        started, finished = self.started, datetime.now(UTC)
        status = {
            "state": "complete",
            "started": started.isoformat(timespec="milliseconds") if started else None,
            "finished": finished.isoformat(timespec="milliseconds"),
            "seconds": (finished - started).total_seconds() if started else None,
            "summary": summary,
        }
        self.save_json("status", status)

    def _file(self, name: str, suffix: str) -> Path:
        return self.path / f"{checked_name(name, 'a file name')}{suffix}"

    def _read(self, name: str, wanted: Sequence[str] | None) -> list[Any]:
        path = self._file(name, ".safetensors")
        try:
            with safe_open(path, framework="np") as file:
                return list(file.keys()) if wanted is None else [file.get_tensor(key) for key in wanted]
        except SafetensorError as error:
            raise ValueError(f"{path.name} must be a whole safetensors file, got {error}; write it again") from error


def _settle(fig: "Figure") -> "Bbox":
    """Lay a figure out, once for both formats, and return the box of what is drawn, in inches."""
    fig.draw_without_rendering()
    fig.set_layout_engine(None)  # Not "none", whose placeholder has every format drawn twice.
    return fig.get_tightbbox().padded(0.1)


def _dumps(obj: Any) -> str:
    return json.dumps(plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _new_folder(out: Path, stem: str) -> Path:
    for count in itertools.count(1):
        path = out / (stem if count == 1 else f"{stem}-{count}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError  # the count never ends
