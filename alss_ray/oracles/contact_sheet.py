"""A page that shows people a batch of images: self-contained HTML, on which classes can be given by a click."""

from __future__ import annotations

import base64
import io
import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from alss_ray.config import UsageError
from alss_ray.oracles.people import Classes, Suggestion, Wanted

TEMPLATE = Path(__file__).with_name("contact_sheet.html.jinja")
BUTTONS = 12  # classes that are shown as buttons; more become a list


def contact_sheet(
    title: str, names: Sequence[str], suggestions: Sequence[Suggestion], wanted: Wanted, question: str
) -> str:
    """The page of the images with these names, in order."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        batch=uuid.uuid4().hex,  # browsers take all pages on a disk for one site
        question=question,
        classes=wanted.names if isinstance(wanted, Classes) else (),
        buttons=BUTTONS,
        wanted=wanted,
        cards=[_card(name, s, wanted) for name, s in zip(names, suggestions, strict=True)],
        rounds=sorted({s.round for s in suggestions}),
        explained=any(s.why.predicted is not None for s in suggestions),
    )


def picture(image: np.ndarray) -> Image.Image:
    """An image, uint8 `C x H x W`, as Pillow has it; raises UsageError for a number of channels that PNG lacks."""
    if len(image) not in (1, 3):
        raise UsageError(f"Images of {len(image)} channels cannot be shown to people; those of 1 or 3 can.")
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def _card(name: str, suggestion: Suggestion, wanted: Wanted) -> dict[str, Any]:
    """What the page says of an image."""
    why = suggestion.why
    card = {
        "image": f"{name}.png",
        "name": suggestion.name,
        "made": suggestion.index < 0,
        "picture": data_uri(picture(suggestion.image)),
        "width": suggestion.image.shape[2],
        "predicted": "",
        "map": "",
        "margin": f"{why.margin:.2f}" if math.isfinite(why.margin) else "",
        "gradient_norm": f"{why.gradient_norm:.3g}" if math.isfinite(why.gradient_norm) else "",
    }
    if why.predicted is not None and isinstance(wanted, Classes):
        card["predicted"] = wanted.names[int(why.predicted)]
    elif why.predicted is not None:
        from matplotlib import colormaps

        values = why.predicted.numpy().reshape(why.predicted.shape[-2:])
        top = float(values.max())
        coloured = colormaps["viridis"](np.clip(values / top, 0, 1) if top > 0 else values * 0.0)
        card["map"] = data_uri(Image.fromarray((255 * coloured[..., :3]).astype(np.uint8)))
        card["top"] = f"{top:.3g}"
    return card


def data_uri(image: Image.Image) -> str:
    """The image as a PNG in an address of its own."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
