"""Describes a picture by simple image statistics. Pure: bytes in, a description out; no network, no files, no state.

It recognises how a picture was made, not what it shows. Drawn pictures (documents, screenshots, charts) are mostly flat
and consist of a few grey levels; photographs are neither, whatever their subject. It uses grey levels and not colours,
so a greyscale copy is classified like its original. Every threshold lies in a gap that was measured on the demo
pictures and their recompressed and rescaled copies (tests/unit/test_simulator_vision.py).
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageChops, ImageOps, ImageStat

Kind = Literal["photo", "meme", "document", "screenshot", "infographic", "other"]

FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
WORKING_SIDE_PX = 512

_FLAT_RANGE = 3  # grey levels between neighbours; the noise of JPEG stays below in flat areas
_SHARP_RANGE = 60
_PEAKS = 4
_PEAK_RADIUS = 2
_INK_DISTANCE = 48
_TINT_DISTANCE = 6
_DRAWN_MIN_PEAKS = 0.65  # drawn >= 0.90, photos <= 0.36
_DRAWN_MIN_FLAT = 0.6  # drawn >= 0.82; grain and halftone in a few grey levels are below
_AREAS_MIN_SHARE = 0.03  # chart >= 0.16, others 0.00
_PANELS_MIN_SHARE = 0.03  # screenshot >= 0.09, document 0.00
_LIGHT_BACKGROUND = 180
_CAPTION_MIN_STROKES = 6  # white strokes with dark outlines in one row; photos <= 3, captions >= 30
_CAPTION_MIN_ROWS = 0.02  # of the height; captions >= 0.06, photos 0.00
_MAX_COLORS = 5
_STROKE = re.compile(rb"B[^WB]{0,3}W{1,14}[^WB]{0,3}(?=B)")


class NotAPicture(ValueError):
    """Not a picture that can be opened, or too large. Send a whole JPEG, PNG, TIFF or BMP of fewer pixels."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The measurements, each as a share of the picture (0..1) unless named otherwise."""

    flat: float  # pixels without any detail around them
    edges: float  # pixels on a sharp edge
    peaks: float  # pixels in the few most frequent grey levels
    background: int  # the most frequent grey level
    lines: int  # separate rows of the height of text
    areas: float  # large areas clearly darker or lighter than the background: bars, slices
    panels: float  # large areas that differ at all from the background: bubbles, headers
    caption_top: float  # rows of outlined white text in the upper third, of the whole height
    caption_middle: float
    caption_bottom: float
    brightness: float  # 0..1
    contrast: float  # 0..1
    saturation: float  # 0..1


@dataclass(frozen=True, slots=True)
class Picture:
    """What the simulated model knows about a picture."""

    width: int
    height: int
    kind: Kind
    colors: tuple[str, ...]  # '#RRGGBB', most frequent first, at most five
    statistics: Statistics

    @property
    def aesthetics(self) -> float:
        """0..1: contrast and saturation, instead of a real judgement."""
        return 0.5 * self.statistics.contrast + 0.5 * self.statistics.saturation


def look(data: bytes, max_pixels: int = 50_000_000) -> Picture:
    """Open and measure a picture. Costs about 0.1 s of CPU: call it in a thread. Raises NotAPicture."""
    image, (width, height) = _open(data, max_pixels)
    statistics = measure(image)
    return Picture(width, height, classify(statistics), dominant_colors(image), statistics)


def classify(s: Statistics) -> Kind:
    """How the measured picture was made."""
    if s.peaks < _DRAWN_MIN_PEAKS or s.flat < _DRAWN_MIN_FLAT:
        return "meme" if has_caption(s) else "photo"
    if s.areas >= _AREAS_MIN_SHARE:
        return "infographic"
    if s.lines >= 1 and (s.panels >= _PANELS_MIN_SHARE or s.background < _LIGHT_BACKGROUND):
        return "screenshot"
    return "document" if s.lines >= 2 else "other"


def has_caption(s: Statistics) -> bool:
    """Whether outlined white text is at the top or the bottom, and not everywhere."""
    return max(s.caption_top, s.caption_bottom) >= max(_CAPTION_MIN_ROWS, 2 * s.caption_middle)


def measure(image: Image.Image) -> Statistics:
    """The statistics of an RGB picture."""
    grey = image.convert("L")
    detail = _detail(grey).histogram()
    pixels = grey.width * grey.height
    background, peaks = _peaks(grey.histogram())
    distance = ImageChops.difference(grey, Image.new("L", grey.size, background))
    ink = _above(distance, _INK_DISTANCE)
    top, middle, bottom = _caption_rows(grey)
    tone = ImageStat.Stat(grey)
    return Statistics(
        flat=sum(detail[: _FLAT_RANGE + 1]) / pixels,
        edges=sum(detail[_SHARP_RANGE:]) / pixels,
        peaks=peaks / pixels,
        background=background,
        lines=_text_lines(ink),
        areas=_large_areas(ink),
        panels=_large_areas(_above(distance, _TINT_DISTANCE)),
        caption_top=top,
        caption_middle=middle,
        caption_bottom=bottom,
        brightness=tone.mean[0] / 255,
        contrast=min(1.0, tone.stddev[0] / 80),
        saturation=ImageStat.Stat(image.convert("HSV").getchannel("S")).mean[0] / 255,
    )


def dominant_colors(image: Image.Image) -> tuple[str, ...]:
    """The most frequent colours of an RGB picture, distinct, at most five."""
    small = image.resize((64, 64), Image.Resampling.BOX).quantize(8, Image.Quantize.MEDIANCUT).convert("RGB")
    counted = sorted(small.getcolors(64 * 64) or [], reverse=True)
    names = dict.fromkeys("#{:02X}{:02X}{:02X}".format(*color) for _, color in counted if isinstance(color, tuple))
    return tuple(names)[:_MAX_COLORS]


def _open(data: bytes, max_pixels: int) -> tuple[Image.Image, tuple[int, int]]:
    """The picture upright, in RGB, within the working size; and its true size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise NotAPicture(f"image of {width}x{height} has more than {max_pixels} pixels")
        turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
        image.thumbnail((WORKING_SIDE_PX, WORKING_SIDE_PX), Image.Resampling.BOX)
        upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        if isinstance(fault, NotAPicture):
            raise
        raise NotAPicture("image cannot be opened") from fault
    return _on_white(upright), (height, width) if turned else (width, height)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits per pixel, which convert() would clip
        return image.convert("I").point(lambda level: level / 256).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _peaks(histogram: list[int]) -> tuple[int, int]:
    """The most frequent grey level, and how many pixels lie in the highest peaks."""
    left = list(histogram)
    total = 0
    for _ in range(_PEAKS):
        at = max(range(256), key=left.__getitem__)
        around = slice(max(0, at - _PEAK_RADIUS), at + _PEAK_RADIUS + 1)
        total += sum(left[around])
        left[around] = [0] * len(left[around])
    return max(range(256), key=histogram.__getitem__), total


def _detail(grey: Image.Image) -> Image.Image:
    """For every pixel the larger of the differences to its left and upper neighbours."""
    sideways = ImageChops.difference(grey, ImageChops.offset(grey, 1, 0))
    return ImageChops.lighter(sideways, ImageChops.difference(grey, ImageChops.offset(grey, 0, 1)))


def _above(image: Image.Image, threshold: int) -> Image.Image:
    return image.point([0] * (threshold + 1) + [255] * (255 - threshold))


def _text_lines(ink: Image.Image) -> int:
    """Runs of inked rows as high as a line of text."""
    rows = ink.resize((1, ink.height), Image.Resampling.BOX).tobytes()
    runs = re.findall(rb"[^\x00-\x02]+", rows)
    return sum(0.008 * ink.height <= len(run) <= 0.08 * ink.height for run in runs)


def _large_areas(mask: Image.Image) -> float:
    """The share of blocks, wider than a letter's stroke, that lie wholly within `mask`."""
    blocks = mask.reduce(max(2, min(mask.size) // 40))
    return blocks.histogram()[255] / (blocks.width * blocks.height)


def _caption_rows(grey: Image.Image) -> tuple[float, float, float]:
    """For each third of the picture: rows crossing many white strokes with dark outlines, as a share of the height."""
    tones = grey.point([ord("B") if v <= 70 else ord("W") if v >= 200 else ord(".") for v in range(256)]).tobytes()
    width, height = grey.size
    thirds = [0, 0, 0]
    for y in range(height):
        row = tones[y * width : (y + 1) * width]
        if len(_STROKE.findall(row)) >= _CAPTION_MIN_STROKES:
            thirds[min(2, 3 * y // height)] += 1
    top, middle, bottom = (count / height for count in thirds)
    return top, middle, bottom
