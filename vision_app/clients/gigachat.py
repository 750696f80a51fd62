"""The way to GigaChat: TLS, our certificate, the proxy."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi
import httpx

from vision_app.settings import Settings, SettingsError
from vision_app.texts import say

from .faults import Service, explain
from .tls import TlsFiles, client_context

GIGACHAT = Service(
    "GigaChat", "GIGACHAT_BASE_URL and GIGACHAT_AUTH_URL", "GIGACHAT", ca_variable="GIGACHAT_CA_BUNDLE_FILE"
)


def gigachat_context(settings: Settings) -> ssl.SSLContext:
    """Trusts the usual authorities and those of GIGACHAT_CA_BUNDLE_FILE, for this client only.

    Raises SettingsError when a file cannot be used.
    """
    context = client_context(
        TlsFiles(
            "GIGACHAT",
            certificate=settings.gigachat_cert_file,
            key=settings.gigachat_key_file,
            password=settings.gigachat_key_password.get_secret_value(),
        )
    )
    context.load_verify_locations(certifi.where())
    if settings.gigachat_ca_bundle_file is not None:
        try:
            context.load_verify_locations(settings.gigachat_ca_bundle_file)
        except OSError as fault:
            name = settings.gigachat_ca_bundle_file
            raise SettingsError(
                say("GIGACHAT_CA_BUNDLE_FILE: {name} is not a readable PEM file ({fault})", name=name, fault=fault)
            ) from fault
    return context


def proxy_for(settings: Settings, url: str) -> str | None:
    """The proxy on the way to `url`: GIGACHAT_PROXY_URL, or else that of the environment; None: no proxy.

    A proxy cannot reach this machine's loopback, so addresses there are asked directly.
    """
    if _is_loopback(url):
        return None
    if proxy := settings.gigachat_proxy_url.get_secret_value():
        return proxy
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def gigachat_fault(fault: Exception) -> str:
    """Why a request cannot be sent, with a remedy, in one sentence without secrets."""
    if isinstance(fault, httpx.ProxyError | aiohttp.ClientHttpProxyError):
        said = f"{fault.status} {fault.message}" if isinstance(fault, aiohttp.ClientHttpProxyError) else fault
        return say(
            "GigaChat: the proxy refuses ({fault}); check user and password in GIGACHAT_PROXY_URL or HTTPS_PROXY",
            fault=said,
        )
    text = say(
        "{kind}: {fault}; check the network, {address_variable}",
        kind=type(fault).__name__,
        fault=fault,
        address_variable=GIGACHAT.address_variable,
    )
    return explain(fault, GIGACHAT) or text


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
