"""The page at `/`: files for a browser, which asks the gateway's own endpoints for all it shows.

Nothing builds them. `static/app.js` tells how they hang together; what is not ours lies in
`static/vendor`, locked by `requirements/page.json` and fetched by `tools.vendor`.
"""

from worker.gateway.page.assets import INDEX, Asset, load_assets

__all__ = ["INDEX", "Asset", "load_assets"]
