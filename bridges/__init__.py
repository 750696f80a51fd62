"""The bridges of vision_app between Redis and Kafka."""
