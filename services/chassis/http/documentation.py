"""The page that shows a service's OpenAPI document, with Swagger UI from a package: nothing of it comes from elsewhere."""

from importlib.resources import as_file, files
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse

PAGE = "/docs"
SCRIPT, STYLE, ICON = f"{PAGE}/swagger-ui-bundle.js", f"{PAGE}/swagger-ui.css", f"{PAGE}/favicon.png"
PATHS = frozenset({PAGE, SCRIPT, STYLE, ICON})


def install(app: FastAPI) -> None:
    """Adds the page and its files to `app`. A key that is typed in there is kept by the browser."""
    with as_file(files("fastapi_offline") / "static") as folder:
        for path in (SCRIPT, STYLE, ICON):
            _add_file(app, path, folder / path.rpartition("/")[2])

    @app.get(PAGE, include_in_schema=False)
    def page() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",  # relative, as all here: a proxy may serve this under a prefix
            title=app.title,
            swagger_js_url=SCRIPT[1:],
            swagger_css_url=STYLE[1:],
            swagger_favicon_url=ICON[1:],
            # Swagger UI's own default asks a validator on the internet.
            swagger_ui_parameters={"persistAuthorization": True, "validatorUrl": None},
        )


def _add_file(app: FastAPI, path: str, file: Path) -> None:
    @app.get(path, include_in_schema=False)
    def send() -> FileResponse:
        return FileResponse(file, headers={"cache-control": "max-age=3600"})
