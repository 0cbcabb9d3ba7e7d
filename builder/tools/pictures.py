"""Plain pictures made in code, the same everywhere: what images are tried with where nobody has given any."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from builder.tools.opaque import Array

COUNT: Final = 24
_SEED: Final = 20
_WAVES: Final = 3


def pictures(count: int = COUNT) -> list[Array]:
    """Coloured waves and noise, UINT8 [height, width, 3], wide ones and tall ones; no two alike, none symmetric."""
    import numpy as np

    random = np.random.Generator(np.random.PCG64(_SEED))
    return [_picture(random, *(int(size) for size in random.integers(24, 97, 2))) for _ in range(count)]


def png(picture: Array) -> bytes:
    """A picture as a PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def _picture(random: object, height: int, width: int) -> Array:
    import numpy as np

    assert isinstance(random, np.random.Generator)
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    image = random.uniform(0, 255, 3) * np.ones((height, width, 3))
    for _ in range(_WAVES):
        turns, tilt, phase = random.uniform(0.2, 4, 2), random.uniform(0, 2), random.uniform(0, 6)
        wave = np.sin(turns[0] * (across + tilt * down) * 6 + phase) * (down * turns[1])
        image += wave[:, :, None] * random.uniform(-90, 90, 3)
    return (image + random.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
