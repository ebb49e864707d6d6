"""Which addresses a project file may name: only hosts that the operator names. Resolves no name and connects to none."""

from urllib.parse import urlsplit

PORTS = {"https": 443, "http": 80}


def host_of(url: str) -> str:
    """Host, and port where it is none of the scheme's own: api.example.com, 127.0.0.1:9000."""
    return _place(url)[1]


def is_allowed(url: str, hosts: str) -> bool:
    """Whether `hosts`, an allow-list with commas, has the URL's host and port.

    An entry `api.example.com` or `api.example.com:8443` stands for https alone; http has to be said: `http://127.0.0.1:9000`.
    """
    entries = (entry.strip() for entry in hosts.split(","))
    return _place(url) in [_place(e if "://" in e else f"https://{e}") for e in entries if e]


def _place(url: str) -> tuple[str, str]:
    """Scheme and host; a host that cannot be read is like no other."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", url
    shown = f"[{host}]" if ":" in host else host.rstrip(".")
    return parts.scheme, shown if port in (None, PORTS.get(parts.scheme)) else f"{shown}:{port}"
