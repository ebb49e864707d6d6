"""What every HTML page of a service stands in: one document that needs nothing else, in light and dark. Knows no service."""

from collections.abc import Mapping
from html import escape

HEADERS: Mapping[str, str] = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
"""Sent with a page: nothing is loaded and no script runs, whatever should have come through the escaping."""
STYLE = """
:root{color-scheme:light dark;
--c2:#c46a2b;--c3:#6b5ca5;--c4:#4a8f4f;--c5:#b04a6f;--paper:#fff;--ink:#1d2733;--dim:#667383;--line:#dde3ea;--bar:#2f7d8c;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--paper:#12181f;--ink:#e2e8ef;--dim:#93a1b1;--line:#2a3542;--bar:#4fb3c4;--card:#1a222c;
--c2:#e0935a;--c3:#a79be0;--c4:#86c98a;--c5:#e08bb0}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1060px;margin:0 auto;padding:28px 20px 60px}h1{margin:0;font-size:26px}h2{font-size:18px;margin:38px 0 10px}
h3{font-size:14px;margin:0 0 8px;font-weight:600}.dim,.none,small{color:var(--dim)}code{font-size:12px;word-break:break-all}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:16px;align-items:start}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px;min-width:0}
.figures{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}.figures .card{flex:1 1 150px}.figures b{display:block;font-size:22px}
svg{width:100%;height:auto;display:block;overflow:visible}.wide{overflow-x:auto}
details{margin-top:8px}summary{color:var(--dim);cursor:pointer;font-size:13px}caption{text-align:left;color:var(--dim);font-size:13px}
table{border-collapse:collapse;width:100%;font-size:14px}th{text-align:left;color:var(--dim);font-weight:500}
th,td{padding:6px 10px 6px 0;border-top:1px solid var(--line);vertical-align:top}
td code{white-space:nowrap}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.45 ui-monospace,monospace}
"""


def document(title: str, body: str) -> str:
    """A whole page. `title` is text; `body` is HTML, in which whoever made it has escaped all data."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )
