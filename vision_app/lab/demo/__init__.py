"""`vision demo`: sends posts of two invented tenants through the system, and checks all results.

`plan` says what is sent and how it must end, `publish` sends it, `progress` shows it, `evidence` collects the results,
`checks` checks them, `report` prints them; `run` calls these in order. The command is in `vision_app.lab.cli.demo`.
"""
