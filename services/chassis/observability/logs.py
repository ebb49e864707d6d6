"""Logs as JSON lines on standard output, by structlog, without secrets."""

import logging
import os
import sys
from typing import Any

import structlog

from services.chassis.observability import redaction


def configure_logging(service: str, level: str) -> None:
    """JSON lines on standard output, from structlog and from the standard library alike, without secrets."""
    redaction.learn_environment(os.environ)
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(service),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(), _redacted],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
            _redacted,
        ],
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=max(number, logging.INFO), force=True)
    for name in ("aiokafka", "faststream", "uvicorn.access", "alembic", "asyncio", "httpx"):
        logging.getLogger(name).setLevel(
            logging.CRITICAL if name in ("aiokafka", "uvicorn.access") else logging.WARNING
        )


def _redacted(_: Any, __: str, line: Any) -> str:
    return redaction.redact(line)


def _named(service: str) -> Any:
    def add(_: Any, __: str, entry: dict[str, Any]) -> dict[str, Any]:
        return {"service": service, **entry}

    return add
