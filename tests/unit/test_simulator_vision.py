"""The simulator's image statistics: the demo pictures, unchanged and after a worker's preprocessing."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from vision_app.simulator import wording
from vision_app.simulator.answers import picture_answer
from vision_app.simulator.vision import NotAPicture, look

KINDS = {
    "photo_astronaut.jpg": "photo",
    "photo_cat.jpg": "photo",
    "photo_coffee.jpg": "photo",
    "photo_rocket.jpg": "photo",
    "meme_cat.jpg": "meme",
    "document_act.png": "document",
    "screenshot_chat.png": "screenshot",
    "infographic_bars.png": "infographic",
}


def media(name: str) -> Image.Image:
    data = resources.files("vision_app").joinpath("demo_media", name).read_bytes()
    return Image.open(io.BytesIO(data)).convert("RGB")


def encoded(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def fitted(image: Image.Image, side: int) -> Image.Image:
    copy = image.copy()
    copy.thumbnail((side, side))
    return copy


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((int(image.width * factor), int(image.height * factor)))


VARIANTS: dict[str, Callable[[Image.Image], bytes]] = {
    "png": encoded,
    "jpeg q75 within 1024": lambda image: encoded(fitted(image, 1024), "JPEG", quality=75),
    "grey jpeg q75 within 1024": lambda image: encoded(fitted(image, 1024).convert("L"), "JPEG", quality=75),
    "jpeg q75 within 512": lambda image: encoded(fitted(image, 512), "JPEG", quality=75),
    "jpeg q40": lambda image: encoded(image, "JPEG", quality=40),
    "one and a half times": lambda image: encoded(scaled(image, 1.5), "JPEG", quality=90),
    "twice recompressed": lambda image: encoded(
        Image.open(io.BytesIO(encoded(scaled(image, 0.8), "JPEG", quality=70))), "JPEG", quality=75
    ),
    "bmp": lambda image: encoded(image, "BMP"),
    "tiff": lambda image: encoded(image, "TIFF"),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_demo_pictures_keep_their_kind(name: str, kind: str, variant: str) -> None:
    data = VARIANTS[variant](media(name))

    assert look(data).kind == kind


@pytest.mark.parametrize("name", KINDS)
def test_cropping_a_margin_does_not_change_the_kind(name: str) -> None:
    image = media(name)
    margin = min(image.size) // 50

    cropped = image.crop((margin, margin, image.width - margin, image.height - margin))

    assert look(encoded(cropped)).kind == KINDS[name]


def test_photo_with_a_caption_is_a_meme_wherever_it_comes_from() -> None:
    image = media("photo_rocket.jpg")
    draw = ImageDraw.Draw(image)
    before = look(encoded(image)).kind

    draw.text((40, 370), "КОГДА РЕЛИЗ УЖЕ ЗАВТРА", font_size=42, fill="white", stroke_width=3, stroke_fill="black")

    assert (before, look(encoded(image)).kind) == ("photo", "meme")


def test_dark_document_is_a_screenshot_and_an_empty_page_is_other() -> None:
    dark = Image.eval(media("document_act.png"), lambda level: 255 - level)

    assert look(encoded(dark)).kind == "screenshot"
    assert look(encoded(Image.new("RGB", (600, 800), "white"))).kind == "other"


def test_pie_chart_is_an_infographic() -> None:
    image = Image.new("RGB", (800, 600), "white")
    draw = ImageDraw.Draw(image)
    for start, color in ((0, "#4285F4"), (120, "#EA4335"), (210, "#FBBC05")):
        draw.pieslice((150, 80, 600, 530), start, start + 115, fill=color)
    draw.text((40, 20), "Доли рынка", font_size=32, fill="black")

    assert look(encoded(image)).kind == "infographic"


def test_size_is_that_of_the_upright_picture() -> None:
    image = media("photo_coffee.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)

    picture = look(buffer.getvalue())

    assert (picture.width, picture.height) == (image.height, image.width)


def test_transparency_is_seen_on_white() -> None:
    assert look(encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0)))).colors == ("#FFFFFF",)


def test_colors_are_those_of_the_picture() -> None:
    image = Image.new("RGB", (100, 100), "#102030")
    image.paste("#F0E0D0", (0, 0, 100, 30))

    assert look(encoded(image)).colors == ("#102030", "#F0E0D0")


@pytest.mark.parametrize(
    "data", [b"", b"not a picture", encoded(Image.new("RGB", (50, 50)))[:60], b"GIF89a" + b"\0" * 90]
)
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    with pytest.raises(NotAPicture):
        look(data)


def test_truncated_picture_is_refused() -> None:
    data = encoded(media("photo_cat.jpg"), "JPEG", quality=90)

    with pytest.raises(NotAPicture):
        look(data[: len(data) // 2])


def test_picture_over_the_pixel_cap_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(NotAPicture, match="more than 1000 pixels"):
        look(encoded(Image.new("RGB", (100, 100))), max_pixels=1000)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    mode=st.sampled_from(["1", "L", "P", "RGB", "RGBA", "LA", "I;16"]),
    seed=st.binary(min_size=8, max_size=64),
)
def test_any_picture_gets_a_lawful_answer(width: int, height: int, mode: str, seed: bytes) -> None:
    base = Image.new("L", (8, 8))
    base.putdata([seed[i % len(seed)] for i in range(64)])
    image = base.resize((width, height)).convert(mode)

    picture = look(encoded(image))
    answer = picture_answer(picture, None)

    assert answer["classification"] in {"photo", "meme", "document", "screenshot", "infographic", "other"}
    assert 5 <= len(answer["description"]) <= wording.DESCRIPTION_MAX_CHARS
    assert answer["is_meme"] == (answer["classification"] == "meme")
    assert 1 <= len(answer["dominant_colors"]) <= 5
    assert 0 <= answer["aesthetic_score"] <= 1
    assert answer["ocr"] is None
