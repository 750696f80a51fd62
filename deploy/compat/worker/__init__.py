"""The names under which the surrounding assistant and the acceptance guide know this worker. Nothing else is here."""
