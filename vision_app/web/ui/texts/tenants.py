"""Texts of the tenants' views."""

RU = {
    "Tenant": "Тенант",
    "State": "Состояние",
    "any state": "любое состояние",
    "money left": "деньги есть",
    "out of money": "деньги кончились",
    "tasks wait for a slot": "ждут очереди",
    "paused": "на паузе",
    "Spent today": "Потрачено сегодня",
    "Limit of the day": "Лимит на день",
    "Reserved": "Зарезервировано",
    "Left": "Осталось",
    "Waiting": "Ждут",
    "Money ends": "Деньги кончатся",
    "spent; new money at {time} UTC": "кончились; новые в {time} UTC",
    "lasts till midnight UTC": "хватит до полуночи UTC",
    "New day": "Новый день",
    "{spent} of {limit} tokens": "{spent} из {limit} токенов",
    "Find a tenant": "Найти тенанта",
    "No tenant is in this state.": "Нет тенантов в этом состоянии.",
    "No tenant has published anything yet.": "Ни один тенант ещё ничего не публиковал.",
    "These tenants' workers did not answer: {names}. Ask again in a few seconds.": (
        "Воркеры этих тенантов не ответили: {names}. Повторите через несколько секунд."
    ),
    "More tenants may be in this state: go on.": "В этом состоянии могут быть и другие тенанты: идите дальше.",
    "default": "по умолчанию",
    "tokens": "токенов",
    "Set limit": "Задать лимит",
    "Reset today's spending": "Обнулить траты за сегодня",
    "Pause": "Пауза",
    "Resume": "Снять паузу",
    "The tenant is paused: nothing new starts until somebody resumes it.": (
        "Тенант на паузе: ничего нового не начнётся, пока её не снимут."
    ),
    "Today's money is spent. What waits goes on at {time} UTC, or when the limit is raised or the spending is reset.": (
        "Деньги на сегодня кончились. Ожидающее продолжится в {time} UTC либо когда поднимут лимит или обнулят траты."
    ),
    "These numbers are not loaded yet: the ledger waits for Postgres, and nothing is granted until then.": (
        "Эти числа ещё не загружены: бюджет ждёт Postgres, до этого ничего не выдаётся."
    ),
    "The ledger of this tenant is new: its numbers appear with its first task.": (
        "Бюджет этого тенанта новый: числа появятся с первой задачей."
    ),
    "Done: the limit is set. It is in force within a second.": "Готово: лимит задан. Он действует через секунду.",
    "Done: today's spending is reset. It is in force within a second.": (
        "Готово: траты обнулены. Это действует через секунду."
    ),
    "Done: the tenant is paused.": "Готово: тенант на паузе.",
    "Done: the tenant goes on.": "Готово: тенант работает дальше.",
    "What waits": "Что ждёт",
    "Nothing waits.": "Ничего не ждёт.",
    "Picture": "Картинка",
    "Estimate": "Оценка",
    "Since": "С какого времени",
    "Post": "Пост",
    "What operators did": "Что делали операторы",
    "Postgres is away, so this is not known now.": "Postgres не отвечает, поэтому сейчас это неизвестно.",
    "Nobody has changed this budget.": "Этот бюджет никто не менял.",
    "Action": "Действие",
    "Value": "Значение",
    "When": "Когда",
    "New limit, tokens per day": "Новый лимит, токенов в день",
    "Empty: the default of the settings.": "Пусто: значение по умолчанию из настроек.",
    "Your name": "Ваше имя",
    "Nothing new starts for this tenant. What has started ends. Posts wait and are not lost.": (
        "Для этого тенанта ничего нового не начнётся. Начатое закончится. Посты ждут и не теряются."
    ),
    "Waiting tasks go on.": "Ожидающие задачи продолжатся.",
    "Today's spending becomes zero, and tasks that wait for money go on. They cost money again.": (
        "Траты за сегодня станут нулём, и ждущие денег задачи продолжатся. Они снова стоят денег."
    ),
    "The daily limit changes at once. Raising it lets waiting tasks go on.": (
        "Дневной лимит изменится сразу. Если его поднять, ожидающие задачи продолжатся."
    ),
    "Spent": "Потрачено",
    "pause": "пауза",
    "resume": "снята пауза",
    "reset": "обнулено",
    "set_limit": "лимит",
}
