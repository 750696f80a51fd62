"""Texts of the views of storage."""

RU = {
    "The bucket is full: uploads are refused until something is deleted.": (
        "Бакет полон: загрузки отклоняются, пока что-нибудь не удалят."
    ),
    "The bucket is above the emergency threshold ({threshold} GB), so clean-ups run by themselves.": (
        "Бакет выше аварийного порога ({threshold} ГБ), очистка запускается сама."
    ),
    "There is room: {percent} % of the limit is used.": "Место есть: занято {percent} % лимита.",
    "Whole bucket": "Весь бакет",
    "Kind": "Тип",
    "Used": "Занято",
    "Limit": "Лимит",
    "kept {days} days": "хранится {days} дн.",
    "{used} of {limit} GB": "{used} из {limit} ГБ",
    "{used} GB": "{used} ГБ",
    "Largest tenants": "Крупнейшие тенанты",
    "Objects": "Объектов",
    "of no tenant": "ничьи",
    "Counted": "Подсчитано",
    "Cleaned up": "Очищено",
    "Corrected by the last count": "Поправка последнего подсчёта",
    "A clean-up is due and runs within a minute.": "Очистка назначена и пройдёт в течение минуты.",
    "The clean-up has run or goes on; the numbers follow.": "Очистка прошла или идёт; числа обновятся.",
    "What would a clean-up delete?": "Что удалит очистка?",
    "Clean-up": "Очистка",
    "Nothing would be deleted.": "Ничего не будет удалено.",
    "{n} objects would be deleted, {size} GB.": "Будет удалено объектов: {n}, {size} ГБ.",
    "Why": "Почему",
    "May not be deleted": "Удалять нельзя",
    "The target is missed by {size} GB: the rest is protected.": "До цели не хватает {size} ГБ: остальное защищено.",
    "Counting takes longer than a page may: the preview goes on in the background. Try again in a minute.": (
        "Подсчёт дольше, чем может ждать страница: он идёт в фоне. Повторите через минуту."
    ),
    "Delete now": "Удалить сейчас",
    "media": "картинки",
    "vision": "ответы",
    "crawl": "обход ссылок",
    "album": "альбомы",
    "other": "прочее",
    "ttl": "истёк срок хранения",
    "type_limit": "лимит типа",
    "tenant_limit": "лимит тенанта",
    "emergency": "бакет почти полон",
    "awaited": "загружено, пост ещё не пришёл",
    "call_record": "запись о платном вызове",
    "foreign": "чужой объект",
    "needed": "нужно незаконченному посту",
}
