"""GET /docs: the interface explained, by Swagger UI from the package swagger-ui-bundle; nothing comes from elsewhere.

The page has no script or style of its own inside, so that the Content-Security-Policy can forbid them all.
"""

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

router = APIRouter(include_in_schema=False)

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Collimator: the portal's interface</title>
<link rel="icon" type="image/png" href="docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

# validatorUrl: by default the page would send the description to a server of Swagger's.
START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
});
"""


@router.get("/")
def front_door() -> RedirectResponse:
    """Whoever opens the bare address wants to see something."""
    return RedirectResponse("docs")


@router.get("/docs")
def docs() -> HTMLResponse:
    """The page."""
    return HTMLResponse(PAGE)


@router.get("/docs/start.js")
def start() -> Response:
    """The page's one script of its own."""
    return Response(START, media_type="text/javascript")


def assets() -> Mount:
    """Swagger UI's own files."""
    return Mount("/docs/assets", StaticFiles(directory=swagger_ui_path))
