"""Texts of the views of dead letters."""

RU = {
    "waiting": "ждут решения",
    "replayed": "отправлены снова",
    "discarded": "отложены как решённые",
    "all letters": "все",
    "Origin": "Откуда",
    "Error": "Ошибка",
    "What happened": "Что случилось",
    "{n} letters": "писем: {n}",
    "No dead letter is waiting for a decision.": "Нет dead letters, ждущих решения.",
    "No dead letter fits this filter.": "Под этот фильтр ничего не подходит.",
    "Postgres is away, so it is not known which letters somebody has dealt with already.": (
        "Postgres не отвечает, поэтому неизвестно, какие письма уже решены."
    ),
    "There are more letters than this page keeps: the oldest are left out.": (
        "Писем больше, чем хранит страница: самые старые не показаны."
    ),
    "By reason": "По причинам",
    "Count": "Количество",
    "Replay all": "Отправить снова все",
    "Discard all": "Отложить все",
    "Replay marked": "Отправить отмеченные снова",
    "Discard marked": "Отложить отмеченные",
    "Mark all": "Отметить все",
    "Mark {id}": "Отметить {id}",
    "Letter": "Письмо",
    "Tries": "Попытки",
    "came back {n} times": "возвращалось: {n}",
    "Done: {n} letters were sent again.": "Готово: отправлено снова: {n}.",
    "Done: {n} letters are marked as done.": "Готово: отложено: {n}.",
    "Dead letter": "Dead letter",
    "Place": "Место",
    "Key": "Ключ",
    "First seen": "Впервые",
    "Last seen": "В последний раз",
    "Version": "Версия",
    "Size": "Размер",
    "Headers": "Заголовки",
    "Payload": "Содержимое",
    "The payload is cut; `vision dlq show` shows all of it.": "Содержимое обрезано; целиком: `vision dlq show`.",
    "not text; bytes in hexadecimal": "не текст; байты в шестнадцатеричном виде",
    "Replay": "Отправить снова",
    "Discard": "Отложить",
    "Send letters again": "Отправить письма снова",
    "Mark letters as done": "Отложить письма как решённые",
    "At most {tokens} tokens for {asked} pictures. Free: {cached} with an answer, {gone} without an object.": (
        "Не больше {tokens} токенов за картинки: {asked}. Бесплатно: с ответом {cached}, без объекта {gone}."
    ),
    "They stay on the topic until its retention ends, and are listed under “{state}”.": (
        "Они остаются в топике до конца срока хранения и видны в списке «{state}»."
    ),
    "{n} more letters fit and are left for the next time.": "Ещё {n} писем подходят и остаются на следующий раз.",
    "Goes to": "Куда",
    "not sent: {why}": "не отправится: {why}",
    "as the whole post": "как пост целиком",
    "Also letters that came back after two replays": "Также письма, вернувшиеся после двух отправок",
    "Preview again": "Показать заново",
    "Nothing can be done with these letters.": "С этими письмами ничего нельзя сделать.",
    "Mark at least one letter.": "Отметьте хотя бы одно письмо.",
}
