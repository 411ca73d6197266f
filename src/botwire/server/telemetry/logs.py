"""Logs as JSON lines. They never contain a key, a value or a token."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}
_LOGGERS = ("uvicorn", "botwire", "opentelemetry")


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, event, and the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_level(level: str) -> None:
    """Log this level and above from now on: debug, info, warning or error."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(level.upper())


def config(level: str = "info") -> dict[str, Any]:
    """Return the argument of `logging.config.dictConfig`, for uvicorn and for botwire."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {name: {"handlers": ["stderr"], "level": level.upper(), "propagate": False} for name in _LOGGERS},
    }
