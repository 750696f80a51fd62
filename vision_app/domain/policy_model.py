"""The policy file as a model: every key it may have, with its type and bounds.

Not here: reading YAML and naming lines (`policy_text.py`), deciding (`policy.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator

PromptKey = Literal["default", "photo", "screenshot", "document"]

MIB = 1024 * 1024
KIB = 1024


def normal_mime(mime_type: str) -> str:
    """A mime type as it is compared: without parameters, in lower case."""
    return mime_type.partition(";")[0].strip().lower()


def normal_channel(name: str) -> str:
    """A channel's name as it is compared: without `@`, in lower case."""
    return name.strip().removeprefix("@").casefold()


def normal_language(code: str) -> str:
    """The language of a code: `ru` of `ru-RU`, in lower case."""
    return code.strip().replace("_", "-").partition("-")[0].casefold()


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Text = Annotated[str, Field(min_length=1)]
ChannelName = Annotated[Text, BeforeValidator(_number_as_text)]


class Section(BaseModel):
    """Base of all parts: an unknown key is an error, and a text is not accepted as a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MimeTypes(Section):
    images: list[Text] = Field(min_length=1)
    documents: list[Text] = Field(default_factory=list)


class PolicyLimits(Section):
    """Sizes in MiB. The three budget numbers are read for compatibility and have no effect (`notes`)."""

    max_image_mb: float = Field(default=15, gt=0)
    max_document_mb: float = Field(default=40, gt=0)
    max_daily_tokens_per_tenant: int | None = Field(default=None, ge=0)
    max_concurrent_requests: int | None = Field(default=None, gt=0)
    max_queue_depth: int | None = Field(default=None, gt=0)


class BudgetGates(Section):
    check_before_analysis: bool = True
    fallback_to_ocr_if_exhausted: bool = False
    sampling_threshold_per_day: int | None = Field(default=None, ge=0)

    @field_validator("check_before_analysis")
    @classmethod
    def _always(cls, value: bool) -> bool:
        if not value:
            raise ValueError("must be true: nothing is spent unchecked; to allow more, raise VISION_MAX_DAILY_TOKENS")
        return value


class Sampling(Section):
    per_post_max_images: int | None = Field(default=None, gt=0)
    prefer_with_text_overlay: bool = False
    skip_small_images_kb: float = Field(default=0, ge=0)


class MimeCondition(Section):
    mime: list[Text]


def _kind_of_condition(value: Any) -> str:
    return "mime" if isinstance(value, dict | MimeCondition) else "flag"


OcrCondition = Annotated[
    Annotated[Literal["quota_exhausted"], Tag("flag")] | Annotated[MimeCondition, Tag("mime")],
    Discriminator(_kind_of_condition),
]


class Routing(Section):
    ocr_only_if: list[OcrCondition] = Field(default_factory=list)
    skip_if_channel: list[ChannelName] = Field(default_factory=list)
    skip_if_lang_not_in: list[Text] = Field(default_factory=list)


class Fallback(Section):
    """Only `tesseract` runs here; the other values are read for compatibility and have no effect (`notes`)."""

    ocr_engine: Literal["tesseract", "paddle", "openrouter", "rapidocr"] = "tesseract"
    openrouter_model: str | None = None
    classification_model: str | None = None


class PromptPresets(Section):
    default: PromptKey = "default"
    mime: dict[str, PromptKey] = Field(default_factory=dict)


class Policy(Section):
    """The rules for analyzing media. A section that is left out means: no such rule. The allow-list is
    required.
    """

    allowed_mime_types: MimeTypes
    limits: PolicyLimits = PolicyLimits()
    budget_gates: BudgetGates = BudgetGates()
    sampling: Sampling = Sampling()
    routing: Routing = Routing()
    fallback: Fallback = Fallback()
    prompt_presets: PromptPresets = PromptPresets()

    def allows(self, mime_type: str) -> bool:
        listed = (*self.allowed_mime_types.images, *self.allowed_mime_types.documents)
        return normal_mime(mime_type) in map(normal_mime, listed)

    @property
    def ocr_at_exhaustion(self) -> bool:
        """Whether OCR may answer when the day's budget is spent; otherwise tasks wait for the next day."""
        return self.budget_gates.fallback_to_ocr_if_exhausted and "quota_exhausted" in self.routing.ocr_only_if

    def spending_matters(self, media: int) -> bool:
        """Whether the tenant's spending of today decides if a post with `media` media is sampled."""
        cap = self.sampling.per_post_max_images
        return cap is not None and media > cap and self.budget_gates.sampling_threshold_per_day is not None

    def ocr_for_mime(self, mime_type: str) -> bool:
        """Whether OCR may answer for a medium of this type if the model does not support the type."""
        listed = (mime for rule in self.routing.ocr_only_if if isinstance(rule, MimeCondition) for mime in rule.mime)
        return normal_mime(mime_type) in map(normal_mime, listed)

    def prompt_key(self, mime_type: str) -> PromptKey:
        """The preset of the type, else of its family (`image/*`), else the default."""
        wanted = normal_mime(mime_type)
        presets = {normal_mime(name): key for name, key in self.prompt_presets.mime.items()}
        family = wanted.partition("/")[0] + "/*"
        return presets.get(wanted) or presets.get(family) or self.prompt_presets.default

    def notes(self) -> list[str]:
        """Keys that were read but change nothing in this service, each with what to use instead."""
        found = [
            f"limits.{name}: has no effect; set {variable}"
            for name, variable in _MOVED_TO_SETTINGS.items()
            if getattr(self.limits, name) is not None
        ]
        if self.fallback.ocr_engine != "tesseract":
            found.append(
                f"fallback.ocr_engine: {self.fallback.ocr_engine} is not part of this service; tesseract is used"
            )
        for name in ("openrouter_model", "classification_model"):
            if getattr(self.fallback, name):
                found.append(f"fallback.{name}: has no effect; remove it")
        return found


_MOVED_TO_SETTINGS = {
    "max_daily_tokens_per_tenant": "VISION_MAX_DAILY_TOKENS",
    "max_concurrent_requests": "VISION_MAX_CONCURRENT_REQUESTS",
    "max_queue_depth": "VISION_MAX_QUEUE_DEPTH",
}
