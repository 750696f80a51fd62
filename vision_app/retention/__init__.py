"""Keeps the bucket in order: counts what each tenant holds, checks uploads against quotas, deletes objects.

`domain/storage.py` decides what is deleted; `stores/s3.py` reads and writes single objects.
"""
