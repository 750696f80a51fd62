"""Texts of the view of the system's health."""

RU = {
    "Everything answers, and nothing is to be done.": "Всё отвечает, делать ничего не нужно.",
    "It works, and something is to be done: see the hints.": "Работает, но есть что сделать: см. замечания.",
    "Something is broken: see what failed.": "Что-то сломано: см. ошибки.",
    "Services": "Сервисы",
    "Service": "Сервис",
    "Answer": "Ответ",
    "Latency": "Задержка",
    "Alerts": "Оповещения",
    "Alert": "Оповещение",
    "The rules of Prometheus, decided from this worker's own metrics of the last hour. Prometheus sees all workers.": (
        "Правила Prometheus по метрикам этого воркера за последний час. Prometheus видит всех воркеров."
    ),
    "What is wrong, and what to do": "Что не так и что делать",
    "critical": "критично",
    "warning": "предупреждение",
    "fires": "сработало",
    "holds, not yet for long enough": "условие выполнено, но ещё недолго",
    "quiet": "тихо",
    "needs Prometheus": "нужен Prometheus",
    "No alert fires.": "Ни одно оповещение не сработало.",
    "The file of alert rules cannot be read; the log of this worker says why.": (
        "Файл правил оповещений не читается; причина в логе этого воркера."
    ),
    "All rules: {quiet} quiet, {undecided} that only Prometheus can decide": (
        "Все правила: тихо: {quiet}, решает только Prometheus: {undecided}"
    ),
    "Rules": "Правила",
    "Condition": "Условие",
    "Findings": "Что нашёл doctor",
    "Check": "Проверка",
    "Finding": "Что найдено и что делать",
    "ok": "в порядке",
    "hint": "замечание",
    "checked {ago} ago": "проверено {ago} назад",
    "the checks' own words are those of `vision doctor`": "слова проверок — те же, что у `vision doctor`",
    "The operators see what is wrong in detail.": "Подробности видят операторы.",
}
