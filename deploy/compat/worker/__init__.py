"""The old names of this worker, as the assistant and the acceptance guide use them. Nothing else is here."""
