"""The bucket as something to be kept in order: who holds how much, what may still come in, what goes and when.

What is deleted is decided in `domain/storage.py`; how single objects are read and written is in `stores/s3.py`.
"""
