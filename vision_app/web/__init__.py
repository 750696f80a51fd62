"""The API's pages."""
