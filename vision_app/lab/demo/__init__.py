"""`vision demo`: posts of two invented tenants go through the system, and all they must leave is checked.

`plan` says what is sent and how it must end, `publish` sends it, `progress` shows it, `evidence` collects what is
there afterwards, `checks` judges it, `report` draws it; `run` puts them in order.
The command is in `vision_app.lab.cli.demo`.
"""
