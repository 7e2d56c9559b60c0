"""The folder of sources that come with the package, to try things on."""

import sysconfig
from pathlib import Path

_PLACES = (
    Path(__file__).parents[2] / "samples",
    Path(sysconfig.get_path("data")) / "share" / "pnpvideo" / "samples",
)
PROJECT_SAMPLES = next((path for path in _PLACES if path.is_dir()), _PLACES[0])
"""The samples beside the source code, or those of an installed package."""
