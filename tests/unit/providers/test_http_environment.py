"""What the environment says of proxies and certificates is checked before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_gateway.providers.http_environment import environment_faults


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HTTPS_PROXY": "http://ada:secret@proxy:3128", "NO_PROXY": "localhost,127.0.0.1"},
        {"all_proxy": "proxy:3128"},
        {"HTTPS_PROXY": "http://[::1]:3128", "NO_PROXY": "10.0.0.0/8,::1,[,.example.com,foo:x"},
        {"HTTPS_PROXY": "http://b\u00fccher.example", "no_proxy": "*"},
        {"HTTP_PROXY": "", "SSL_CERT_FILE": ""},
    ],
)
def test_nothing_is_said_against_what_can_be_used(environ: dict[str, str]) -> None:
    assert list(environment_faults(environ)) == []


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:1080"}, "ALL_PROXY names a SOCKS proxy"),
        ({"https_proxy": "socks5h://proxy"}, "https_proxy names a SOCKS proxy"),
        ({"HTTP_PROXY": "ftp://proxy"}, "HTTP_PROXY must name a proxy"),
        ({"HTTPS_PROXY": "http://"}, "HTTPS_PROXY must name a proxy"),
        ({"HTTPS_PROXY": "http://ada:secret@proxy:x"}, "HTTPS_PROXY is no URL of a proxy"),
        ({"HTTPS_PROXY": "http://secret\x00"}, "HTTPS_PROXY is no URL of a proxy"),
        ({"HTTPS_PROXY": "http://secret:99999"}, "HTTPS_PROXY is no URL of a proxy"),
        ({"HTTPS_PROXY": "http://proxy:0"}, "HTTPS_PROXY is no URL of a proxy"),
        ({"all_proxy": "a secret proxy"}, "all_proxy is no URL of a proxy"),
        ({"HTTP_PROXY": "http://999.1.1.1:3128"}, "HTTP_PROXY is no URL of a proxy"),
        ({"NO_PROXY": "localhost, secret.xn--a"}, "NO_PROXY holds a name in xn-- form"),
        ({"SSL_CERT_FILE": f"/{'x' * 300}.pem"}, "SSL_CERT_FILE names a file of certificates that cannot be"),
        ({"SSL_CERT_FILE": "/none/secret.pem"}, "SSL_CERT_FILE names a file of certificates that is not"),
        ({"SSL_CERT_FILE": "/etc"}, "SSL_CERT_FILE names a file of certificates that is not there"),
        ({"SSL_CERT_FILE": "/etc/hosts"}, "SSL_CERT_FILE names a file of certificates that cannot be used"),
        ({"SSL_CERT_DIR": "/nonexistent"}, "SSL_CERT_DIR names no folder of certificates"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_in_one_sentence_without_its_value(
    environ: dict[str, str], told: str
) -> None:
    (fault,) = environment_faults(environ)
    assert fault.startswith(told)
    assert fault.endswith(".")
    assert "secret" not in fault


def test_all_of_it_is_told_at_once(tmp_path: Path) -> None:
    environ = {"HTTP_PROXY": "ftp://x", "ALL_PROXY": "socks5://x", "SSL_CERT_DIR": str(tmp_path)}
    assert len(list(environment_faults(environ))) == 3


def test_a_folder_of_hashed_certificates_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "0a1b2c3d.0").write_text("certificate")
    assert list(environment_faults({"SSL_CERT_DIR": f"/nonexistent:{tmp_path}"})) == []
