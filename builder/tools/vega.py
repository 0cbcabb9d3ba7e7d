"""Vega-Lite: plots from specifications, as PNG and as the JavaScript that draws them in a browser.

vl-convert holds Vega, Vega-Lite and what runs them without a browser: one wheel, no dependencies, no network.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from builder.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json

VEGA_LITE: Final = "6.4"
"""The version that draws, in both places."""

_GLOBALS: Final = "window.vegaEmbed = vegaEmbed;"


def check() -> None:
    """Says at once whether plots can be drawn here: before anybody measures for an hour.

    Raises:
        MachineError: vl-convert is not installed.
    """
    _library()


def png(spec: Mapping[str, Json], config: Mapping[str, Json], *, scale: float = 2.0) -> bytes:
    """The picture of a specification.

    Args:
        spec: Vega-Lite, with its data: addresses in it are not fetched.
        config: what all plots look like.
        scale: pixels of the picture per pixel of the specification.

    Raises:
        MachineError: vl-convert is not installed.
    """
    found: bytes = _library().vegalite_to_png(
        dict(spec), vl_version=VEGA_LITE, scale=scale, config=dict(config), allowed_base_urls=[]
    )
    return found


@cache
def javascript() -> str:
    """Vega, Vega-Lite and vega-embed for a page's ``<script>``: it sets ``window.vegaEmbed``.

    Raises:
        MachineError: vl-convert is not installed.
    """
    found: str = _library().javascript_bundle(_GLOBALS, vl_version=VEGA_LITE)
    return found


def _library() -> Any:  # noqa: ANN401 - a module
    try:
        import vl_convert
    except ImportError as error:
        raise MachineError(
            "vl-convert is not installed: it draws the report's plots", mend="pip install 'tritonsmith[sweep]'"
        ) from error
    return vl_convert
