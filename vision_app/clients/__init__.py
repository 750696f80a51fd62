"""Turns settings into clients of the services: one module per service, and TLS for all of them.

No other module of the product reads an address, a password or a certificate of a service from the settings.
"""
