"""The page at /ui: server-rendered views of the same functions that the API's resources use."""
