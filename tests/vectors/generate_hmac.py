#!/usr/bin/env python3
"""Writes hmac.json: signed requests, each with the verdict that a verifier must reach.

The script is independent of the service. It uses only the standard library and the published description of the scheme.

    string to sign = METHOD "\\n" path-and-query "\\n" header values, joined by ";" in the order of SignedHeaders
    signature      = base64(HMAC-SHA256(base64-decoded access key, string to sign))

A row observed on the wire has the signature that the client sent. If the script computes another signature, it does not
write the file. Every other row is an altered form of a valid request.

    python3 generate_hmac.py          writes hmac.json
    python3 generate_hmac.py --check  fails when hmac.json differs from the output
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

OUTPUT = pathlib.Path(__file__).with_name("hmac.json")

PRIMARY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
SECONDARY = base64.b64encode(b"fedcba9876543210fedcba9876543210").decode()
UNKNOWN_KEY = base64.b64encode(b"a key of some other resource....").decode()

HOST = "localhost:8443"
NOW = "Fri, 01 Mar 2024 12:00:00 GMT"
TARGET = "/identities?api-version=2023-10-01"
BODY = '{"createTokenWithScopes":["chat"]}'
CURRENT = ["x-ms-date", "host", "x-ms-content-sha256"]
OLD = ["date", "host", "x-ms-content-sha256"]

USER = "1b5cc06b-f352-4571-b1e6-d9b259b7c776_00000007-0467-0ccf-b3ac-343a0d000e47"
ENCODED = f"/identities/8%3Aacs%3A{USER}/:issueAccessToken?api-version=2023-10-01"
LITERAL = f"/identities/8:acs:{USER}/:issueAccessToken?api-version=2023-10-01"

MADE = "made by generate_hmac.py"
ROWS = []


def content_hash(body):
    return base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()


def mac(key, method, path, values):
    text = f"{method}\n{path}\n{';'.join(values)}"
    return hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()


def b64(raw):
    return base64.b64encode(raw).decode()


class Request:
    """A request as a client sends it. Keyword arguments give the signed values that differ from the sent values."""

    def __init__(self, method="POST", target=TARGET, host=HOST, body=BODY, key=PRIMARY, names=None,
                 signed_path=None, signed_host=None, extra=(), **values):
        self.method, self.target, self.host, self.body, self.key = method, target, host, body, key
        self.names = CURRENT if names is None else names
        self.headers = [["Host", host]]
        date_name = "date" if "date" in self.names else "x-ms-date"
        self.set(date_name, values.pop("date", NOW))
        self.set("x-ms-content-sha256", values.pop("hash", content_hash(body)))
        self.headers += [list(pair) for pair in extra]
        assert not values, values
        looked_up = [signed_host or host if name.strip().lower() == "host" else self.get(name) for name in self.names]
        self.mac = mac(key, method, signed_path or target, looked_up)
        self.authorize(b64(self.mac))

    def get(self, name):
        found = [value for other, value in self.headers if other.lower() == name.strip().lower()]
        return found[0] if found else ""

    def set(self, name, value):
        self.drop(name)
        self.headers.append([name, value])

    def drop(self, name):
        self.headers = [pair for pair in self.headers if pair[0].lower() != name.lower()]

    def repeat(self, name, value=None):
        """Sends the header a second time, with the same value unless another is given."""
        self.headers.append([name, self.get(name) if value is None else value])

    def authorize(self, signature=None, names=None, text=None):
        """Sets Authorization from a signature and a list of names, or from the whole text."""
        names = ";".join(self.names) if names is None else names
        signature = b64(self.mac) if signature is None else signature
        self.set("Authorization", text or f"HMAC-SHA256 SignedHeaders={names}&Signature={signature}")


def add(name, verdict, request=None, source=MADE, now=NOW, hosts=(HOST,), **sent):
    """Adds a row; `sent` overrides method, target, body or host after signing."""
    request = request or Request()
    if "host" in sent:
        request.headers[0][1] = sent["host"]
    ROWS.append({
        "name": name,
        "source": source,
        "now": now,
        "method": sent.get("method", request.method),
        "target": sent.get("target", request.target),
        "headers": request.headers,
        "body": sent.get("body", request.body),
        "access_keys": {"primary": PRIMARY, "secondary": SECONDARY},
        "hosts": list(hosts),
        "verdict": verdict,
    })


def edited(change, **kwargs):
    """Returns a valid request with `change` applied to it."""
    request = Request(**kwargs)
    change(request)
    return request


def observed():
    """Adds the requests of real clients, byte for byte."""
    python, js, old_js = "azure-communication-identity 1.5.0", "@azure/communication-common 2.4.2", \
        "@azure/communication-common 2.3.1"
    spaced_create, spaced_issue = '{"createTokenWithScopes": ["chat"]}', '{"scopes": ["chat"]}'
    issue = '{"scopes":["chat"]}'
    doubled = "localhost:8443:8443"
    rows = [
        # name, source, sent target, body, Host on the wire, signed host, signature
        ("create: Python", f"{python}, seen on the wire", TARGET, spaced_create, HOST, HOST,
         "UxVxu9FtYyk8wApfzcpqEazTCYSoEzha/8BO3i1aPvg="),
        ("create: JavaScript", f"{js}, seen on the wire", TARGET, BODY, HOST, HOST,
         "6tDMT9b1DZfcCElMdXAaVrXcvWceGuIL3xZHClHU8y0="),
        ("create: JavaScript, older signer doubles the port", f"{old_js}, seen on the wire", TARGET, BODY, doubled,
         doubled, "c+/wnETfrNkAE9+dPZLSR/rFRuLhgNoFs7pcHgAQKgA="),
        ("create: JavaScript in a browser, older signer, the browser sets Host", f"{old_js}, from its source", TARGET,
         BODY, HOST, doubled, "c+/wnETfrNkAE9+dPZLSR/rFRuLhgNoFs7pcHgAQKgA="),
        ("create: Java signs and sends the host without its port", "Java HmacAuthenticationPolicy, from its source",
         TARGET, BODY, "localhost", "localhost", "+/pgEq+TH1vyFrIKP7Fj+Ml4vMM9Ig7XZJ/0nzGaKY0="),
        ("create: Java signs the host without its port, the stack sends it with",
         "Java HmacAuthenticationPolicy, from its source", TARGET, BODY, HOST, "localhost",
         "+/pgEq+TH1vyFrIKP7Fj+Ml4vMM9Ig7XZJ/0nzGaKY0="),
        ("issue: Python, sync", f"{python}, seen on the wire", ENCODED, spaced_issue, HOST, HOST,
         "OdBAF/8y8UAKQeysVSPdsNlR3s7Wki4zcNgC3PkCsyI="),
        ("issue: Python, aio", f"{python}, seen on the wire", LITERAL, spaced_issue, HOST, HOST,
         "82rx8atgveL4DbuIordu4Sap2GhzAEQ1RzsyAoD9aOU="),
        ("issue: JavaScript", f"{js}, seen on the wire", ENCODED, issue, HOST, HOST,
         "bAPu+WrYVOTKPgvXy3NlTldlCSYecfTCVM7jm2iLIhg="),
        ("issue: JavaScript, older signer doubles the port", f"{old_js}, seen on the wire", ENCODED, issue, doubled,
         doubled, "Us2WXisAkxyB1AmbPkTyV6WsdcDX3jTuDzS3XqtZjmc="),
        ("issue: Java", "Java HmacAuthenticationPolicy, from its source", LITERAL, issue, "localhost", "localhost",
         "QdTOnNFIOG28vQUWYNxL2QMmB8gGTO1XPwILgK7e2v8="),
    ]
    for name, source, target, body, host, signed_host, signature in rows:
        request = Request(target=target, body=body, host=host, signed_host=signed_host)
        assert b64(request.mac) == signature, f"{name}: computed {b64(request.mac)}"
        add(name, "accept:primary", request, source)
    dotnet = ".NET HMACAuthenticationPolicy, from its source"
    for name, target, body, signature in [
            ("create: .NET sends Date as well", TARGET, BODY, "6tDMT9b1DZfcCElMdXAaVrXcvWceGuIL3xZHClHU8y0="),
            ("issue: .NET sends Date as well", ENCODED, issue, "bAPu+WrYVOTKPgvXy3NlTldlCSYecfTCVM7jm2iLIhg=")]:
        request = Request(target=target, body=body, extra=[("Date", NOW)])
        assert b64(request.mac) == signature, name
        add(name, "accept:primary", request, dotnet)
    add("older SDKs sign Date", "accept:primary", Request(names=OLD), ".NET, Python and JavaScript before mid 2021")
    add("Python, endpoint with a trailing slash, signs the slash", "accept:primary",
        Request(signed_host=f"{HOST}/"), f"{python}, seen on the wire")
    add("aiohttp leaves an escape that the aio client signs decoded", "accept:primary",
        Request(method="DELETE", body="", target="/identities/8:acs:a%2Fb%20c%2Bd?api-version=2023-10-01",
                signed_path="/identities/8:acs:a/b c+d?api-version=2023-10-01"), f"{python}, seen on the wire")
    add("empty body", "accept:primary", Request(body=""), f"{python}, seen on the wire")
    add("body {}", "accept:primary", Request(body="{}"), ".NET and Java, from recordings")
    cut = "azure-communication-identity 1.3.1, from its source"
    add("older Python, endpoint with a slash, signs the target without its slash", "accept:primary",
        Request(signed_path=TARGET[1:], signed_host=f"{HOST}/"), cut)
    add("older Python, http endpoint, signs the target without its slash", "accept:primary",
        Request(host="localhost:8080", signed_path=TARGET[1:]), cut, hosts=("localhost:8080",))
    add("older Python, http endpoint with a slash, signs the target without two characters", "accept:primary",
        Request(host="localhost:8080", signed_path=TARGET[2:], signed_host="localhost:8080/"), cut,
        hosts=("localhost:8080",))
    add("older Python, endpoint with a slash, issue", "accept:primary",
        Request(target=ENCODED, signed_path=ENCODED[1:], signed_host=f"{HOST}/"), cut)
    add("signed without a leading slash", "accept:primary", Request(signed_path=TARGET[1:]),
        "jls-ch/azure-communication-identity-go, from its source")


def keys():
    add("secondary key", "accept:secondary", Request(key=SECONDARY))
    add("key of another resource", "denied", Request(key=UNKNOWN_KEY))
    add("key of no bytes", "denied", Request(key=""))


def altered():
    """Adds requests that differ from their signed form in one point."""
    add("altered method", "denied", method="PUT")
    add("altered method, DELETE for POST", "denied", Request(target=LITERAL, body=""), method="DELETE")
    add("lower-case method", "denied", method="post")
    add("altered path", "denied", target=TARGET.replace("identities", "identitiez"))
    add("altered path, another user", "denied", Request(target=ENCODED), target=ENCODED.replace("0e47", "0e48"))
    add("altered path, another verb", "denied", Request(target=ENCODED),
        target=ENCODED.replace(":issueAccessToken", ":revokeAccessTokens"))
    add("slash added at the start of the path", "accept:primary", target="/" + TARGET)
    add("altered path, dot segment", "denied", target="/." + TARGET)
    add("altered path, encoded twice", "denied", Request(target=ENCODED), target=ENCODED.replace("%3A", "%253A"))
    add("altered query", "denied", target=TARGET.replace("2023-10-01", "2023-10-02"))
    add("altered query, parameter added", "denied", target=TARGET + "&x=1")
    add("altered query, trailing ampersand", "denied", target=TARGET + "&")
    add("altered query, removed", "denied", target="/identities")
    add("altered body", "denied", body=BODY.replace("chat", "chap"))
    add("altered body, one space added", "denied", body=BODY + " ")
    add("altered body, removed", "denied", body="")
    add("altered date", "denied", edited(lambda r: r.set("x-ms-date", NOW.replace("12:00:00", "12:00:01"))))
    add("lower-case hex in the path, signed as sent", "accept:primary", Request(target=ENCODED.replace("%3A", "%3a")))
    add("signed path with lower-case hex, sent with upper-case", "accept:primary",
        Request(target=ENCODED, signed_path=ENCODED.replace("%3A", "%3a")))
    add("escapes of the path changed to literal colons", "accept:primary", Request(target=ENCODED), target=LITERAL)
    add("literal colons of the path escaped", "accept:primary", Request(target=LITERAL), target=ENCODED)
    add("path with an escaped letter, signed literally", "accept:primary", Request(target=LITERAL),
        target=LITERAL.replace("acs", "%61cs"))
    add("signed without two characters for an endpoint without slash", "denied", Request(signed_path=TARGET[2:]))
    add("signed without three characters", "denied", Request(signed_path=TARGET[3:], signed_host=f"{HOST}/"))
    add("method override header is ignored", "accept:primary",
        Request(extra=[("X-HTTP-Method-Override", "DELETE")]))


def hosts():
    add("altered host, signed for another port", "denied", Request(signed_host="localhost:8444"))
    add("altered host, sent to another port", "denied", host="localhost:8444")
    add("host in another letter case, signed as sent", "accept:primary", Request(host="LocalHost:8443"))
    add("host in another letter case without its port, signed as sent", "accept:primary", Request(host="LocalHost"))
    add("host in another letter case, signed in lower case", "accept:primary",
        Request(host="LOCALHOST:8443", signed_host=HOST))
    add("host sent in lower case, signed as configured", "accept:primary",
        Request(signed_host="LocalHost:8443"), hosts=("LocalHost:8443",))
    add("host sent in lower case, signed in a letter case that the server was not given", "denied",
        Request(signed_host="LocalHost:8443"))
    add("altered host, one letter", "denied", Request(signed_host="localhosu:8443"))
    add("host not configured, signed as sent", "denied", Request(host="evil.example:8443"))
    add("host not configured, signature for the configured one", "denied", host="evil.example:8443")
    add("host that only starts like the configured one", "denied", Request(host="localhost.evil.example:8443"))
    add("host with a trailing dot", "denied", Request(host="localhost.:8443"))
    add("host with user information", "denied", Request(host="user@localhost:8443"))
    add("host with the port three times", "denied", Request(host="localhost:8443:8443:8443"))
    add("forwarded host does not replace Host", "denied",
        Request(host="evil.example:8443", extra=[("X-Forwarded-Host", HOST), ("Forwarded", f"host={HOST}")]))
    add("forwarded host is ignored", "accept:primary", Request(extra=[("X-Forwarded-Host", "evil.example")]))
    add("host sent twice", "denied", edited(lambda r: r.repeat("Host")))
    add("host not sent", "denied", edited(lambda r: r.drop("Host")))
    add("second configured host", "accept:primary", Request(host="127.0.0.1:8443"), hosts=(HOST, "127.0.0.1:8443"))
    default_port = ("identity.example.com",)
    add("default port", "accept:primary", Request(host="identity.example.com"), hosts=default_port)
    add("default port, written out in a Python connection string", "accept:primary",
        Request(host="identity.example.com", signed_host="identity.example.com:443"), hosts=default_port)
    add("default port, endpoint with a trailing slash", "accept:primary",
        Request(host="identity.example.com", signed_host="identity.example.com/"), hosts=default_port)
    add("default port, signed for another port", "denied",
        Request(host="identity.example.com", signed_host="identity.example.com:8443"), hosts=default_port)


def signed_headers():
    date, host, digest = CURRENT
    extra = [("Content-Type", "application/json")]
    add("names reordered, signature follows", "accept:primary", Request(names=[host, digest, date]))
    add("names reordered, signature does not follow", "denied",
        edited(lambda r: r.authorize(names=f"{host};{date};{digest}")))
    add("extra name, header present", "accept:primary", Request(names=CURRENT + ["content-type"], extra=extra))
    add("extra name, header altered", "denied",
        edited(lambda r: r.set("Content-Type", "text/plain"), names=CURRENT + ["content-type"], extra=extra))
    add("extra name, header absent", "denied", Request(names=CURRENT + ["content-type"]))
    add("extra name, authorization", "denied", Request(names=CURRENT + ["authorization"]))
    add("name twice", "denied", Request(names=CURRENT + [host]))
    add("date name twice", "denied", Request(names=[date] + CURRENT))
    add("upper-case names", "accept:primary", Request(names=[name.upper() for name in CURRENT]))
    add("one upper-case letter in a name", "accept:primary", Request(names=[date, "Host", digest]))
    add("one name in two letter cases", "denied", Request(names=CURRENT + ["Host"]))
    add("host not listed", "denied", Request(names=[date, digest]))
    add("hash not listed", "denied", Request(names=[date, host]))
    add("date not listed", "denied", Request(names=[host, digest]))
    add("hash not listed, body altered", "denied", Request(names=[date, host]), body=BODY.replace("chat", "voip"))
    add("no names", "denied", Request(names=[]))
    add("empty name at the end", "denied", Request(names=CURRENT + [""]))
    add("space after a semicolon", "denied", Request(names=[date, " host", " " + digest]))
    add("names separated by commas", "denied", edited(lambda r: r.authorize(names=",".join(CURRENT))))


def authorization():
    names = ";".join(CURRENT)
    valid = b64(Request().mac)
    with_symbols = Request(host="localhost", signed_host="localhost")
    assert "+" in b64(with_symbols.mac) and "/" in b64(with_symbols.mac)

    def text(name, value):
        add(name, "denied", edited(lambda r: r.authorize(text=value)))

    def signature(name, value):
        add(name, "denied", edited(lambda r: r.authorize(value(r.mac))))

    for length in (1, 16, 31):
        signature(f"signature cut to {length} bytes", lambda raw, n=length: b64(raw[:n]))
    signature("signature with a byte added", lambda raw: b64(raw + b"\0"))
    signature("signature twice over", lambda raw: b64(raw + raw))
    signature("signature with its first bit flipped", lambda raw: b64(bytes([raw[0] ^ 0x80]) + raw[1:]))
    signature("signature with its last bit flipped", lambda raw: b64(raw[:-1] + bytes([raw[-1] ^ 1])))
    signature("signature of zeros", lambda raw: b64(bytes(32)))
    signature("signature empty", lambda raw: "")
    signature("signature without padding", lambda raw: b64(raw).rstrip("="))
    signature("signature with too much padding", lambda raw: b64(raw) + "=")
    signature("signature in hex", lambda raw: raw.hex())
    signature("signature with bits set under the padding", lambda raw: b64(raw)[:-2] + "1=")
    assert b64(Request().mac).endswith("0="), "the row above needs a signature whose last character is 0"
    add("signature in the URL alphabet", "denied",
        edited(lambda r: r.authorize(base64.urlsafe_b64encode(r.mac).decode()), host="localhost"))
    add("signature with plus and slash, standard alphabet", "accept:primary", with_symbols)

    text("Signature twice", f"HMAC-SHA256 SignedHeaders={names}&Signature={valid}&Signature={valid}")
    text("Signature twice, first one wrong",
         f"HMAC-SHA256 SignedHeaders={names}&Signature={b64(bytes(32))}&Signature={valid}")
    text("SignedHeaders twice", f"HMAC-SHA256 SignedHeaders={names}&SignedHeaders={names}&Signature={valid}")
    text("no Signature", f"HMAC-SHA256 SignedHeaders={names}")
    text("no SignedHeaders", f"HMAC-SHA256 Signature={valid}")
    text("unknown parameter", f"HMAC-SHA256 Credential=x&SignedHeaders={names}&Signature={valid}")
    text("scheme only", "HMAC-SHA256")
    add("lower-case scheme", "accept:primary",
        edited(lambda r: r.authorize(text=f"hmac-sha256 SignedHeaders={names}&Signature={valid}")))
    text("another digest in the scheme", f"HMAC-SHA512 SignedHeaders={names}&Signature={valid}")
    text("no scheme", f"SignedHeaders={names}&Signature={valid}")
    text("Bearer with the same parameters", f"Bearer SignedHeaders={names}&Signature={valid}")
    text("two spaces after the scheme", f"HMAC-SHA256  SignedHeaders={names}&Signature={valid}")
    text("tab after the scheme", f"HMAC-SHA256\tSignedHeaders={names}&Signature={valid}")
    text("space after the ampersand", f"HMAC-SHA256 SignedHeaders={names}& Signature={valid}")
    text("space before the signature", f"HMAC-SHA256 SignedHeaders={names}&Signature= {valid}")
    text("comma instead of ampersand", f"HMAC-SHA256 SignedHeaders={names},Signature={valid}")
    text("two credentials folded with a comma", ", ".join([f"HMAC-SHA256 SignedHeaders={names}&Signature={valid}"] * 2))
    add("Authorization twice", "denied", edited(lambda r: r.repeat("Authorization")))
    add("Authorization twice, second one Bearer", "denied", edited(lambda r: r.repeat("Authorization", "Bearer x")))
    add("Authorization not sent", "denied", edited(lambda r: r.drop("Authorization")))
    add("string to sign offered by the client is not trusted", "denied",
        Request(signed_path="/other", extra=[("x-ms-hmac-string-to-sign-base64", b64(
            f"POST\n/other\n{NOW};{HOST};{content_hash(BODY)}".encode()))]))


def content_hashes():
    """Adds requests with a wrong hash. The signature matches the sent hash header, so only the hash can be the reason."""
    digest = hashlib.sha256(BODY.encode()).digest()
    standard = b64(digest)
    assert standard.endswith("A=") and "+" in standard and "/" in standard
    for name, value in [
            ("of another body", content_hash("{}")),
            ("of the empty body", content_hash("")),
            ("in hex", digest.hex()),
            ("with bits set under the padding", standard[:-2] + "B="),
            ("in the URL alphabet", base64.urlsafe_b64encode(digest).decode()),
            ("without padding", standard.rstrip("=")),
            ("of 31 bytes", b64(digest[:31])),
            ("of 33 bytes", b64(digest + b"\0")),
            ("empty", "")]:
        add(f"content hash {name}", "denied", Request(hash=value))
    add("content hash sent twice", "denied", edited(lambda r: r.repeat("x-ms-content-sha256")))
    add("content hash listed but not sent", "denied", edited(lambda r: r.drop("x-ms-content-sha256")))


def dates():
    for name, value in [
            ("lower-case gmt", "Fri, 01 Mar 2024 12:00:00 gmt"),
            ("lower-case month", "Fri, 01 mar 2024 12:00:00 GMT"),
            ("UTC instead of GMT", "Fri, 01 Mar 2024 12:00:00 UTC"),
            ("numeric offset", "Fri, 01 Mar 2024 12:00:00 +0000"),
            ("negative zero offset", "Fri, 01 Mar 2024 12:00:00 -0000"),
            ("comment at the end", "Fri, 01 Mar 2024 12:00:00 +0000 (UTC)"),
            ("no weekday", "01 Mar 2024 12:00:00 GMT"),
            ("one-digit day", "Fri, 1 Mar 2024 12:00:00 GMT"),
            ("day padded with a space", "Fri,  1 Mar 2024 12:00:00 GMT"),
            ("no seconds", "Fri, 01 Mar 2024 12:00 GMT")]:
        add(f"date format: {name}", "accept:primary", Request(date=value))
    add("date format: one-digit day, sent with two digits", "denied",
        edited(lambda r: r.set("x-ms-date", NOW), date="Fri, 1 Mar 2024 12:00:00 GMT"))
    for name, value in [
            ("RFC 850", "Friday, 01-Mar-24 12:00:00 GMT"),
            ("asctime", "Fri Mar  1 12:00:00 2024"),
            ("ISO 8601", "2024-03-01T12:00:00Z"),
            ("seconds since 1970", "1709294400"),
            ("no zone", "Fri, 01 Mar 2024 12:00:00"),
            ("another offset for the same instant", "Fri, 01 Mar 2024 13:00:00 +0100"),
            ("another zone for the same instant", "Fri, 01 Mar 2024 07:00:00 EST"),
            ("military zone", "Fri, 01 Mar 2024 12:00:00 A"),
            ("wrong weekday", "Thu, 01 Mar 2024 12:00:00 GMT"),
            ("two-digit year", "Fri, 01 Mar 24 12:00:00 GMT"),
            ("30 February", "Fri, 30 Feb 2024 12:00:00 GMT"),
            ("second 60", "Fri, 01 Mar 2024 11:59:60 GMT"),
            ("year 10000", "Wed, 01 Mar 10000 12:00:00 GMT"),
            ("text after the date", "Fri, 01 Mar 2024 12:00:00 GMT;"),
            ("empty", "")]:
        add(f"date format: {name}", "denied", Request(date=value))
    add("date format: hour 24", "denied", Request(date="Thu, 29 Feb 2024 24:00:00 GMT"),
        now="Fri, 01 Mar 2024 00:00:00 GMT")
    add("x-ms-date sent twice", "denied", edited(lambda r: r.repeat("x-ms-date")))
    add("x-ms-date listed but not sent", "denied", edited(lambda r: r.drop("x-ms-date")))
    add("date listed but only x-ms-date sent", "denied",
        edited(lambda r: (r.drop("date"), r.set("x-ms-date", NOW)), names=OLD))

    for name, date, verdict in [
            ("300 seconds old", "Fri, 01 Mar 2024 11:55:00 GMT", "accept:primary"),
            ("301 seconds old", "Fri, 01 Mar 2024 11:54:59 GMT", "clock_skew"),
            ("300 seconds ahead", "Fri, 01 Mar 2024 12:05:00 GMT", "accept:primary"),
            ("301 seconds ahead", "Fri, 01 Mar 2024 12:05:01 GMT", "clock_skew"),
            ("a day old", "Thu, 29 Feb 2024 12:00:00 GMT", "clock_skew"),
            ("the epoch", "Thu, 01 Jan 1970 00:00:00 GMT", "clock_skew"),
            ("year 9999", "Fri, 31 Dec 9999 23:59:59 GMT", "clock_skew")]:
        add(f"skew: {name}", verdict, Request(date=date))
    add("skew: across midnight of a leap day", "accept:primary", Request(date="Thu, 29 Feb 2024 23:58:00 GMT"),
        now="Fri, 01 Mar 2024 00:02:00 GMT")
    add("skew: secondary key, 301 seconds old", "clock_skew",
        Request(key=SECONDARY, date="Fri, 01 Mar 2024 11:54:59 GMT"))
    add("skew: Date signed, 301 seconds old", "clock_skew", Request(names=OLD, date="Fri, 01 Mar 2024 11:54:59 GMT"))

    stale = "Fri, 01 Mar 2024 10:00:00 GMT"
    add("two dates: x-ms-date signed and fresh, Date stale", "accept:primary", Request(extra=[("Date", stale)]))
    add("two dates: Date signed and fresh, x-ms-date stale", "accept:primary",
        Request(names=OLD, extra=[("x-ms-date", stale)]))
    add("two dates: x-ms-date signed and stale, Date fresh", "clock_skew", Request(date=stale, extra=[("Date", NOW)]))
    add("two dates: Date signed and stale, x-ms-date fresh", "clock_skew",
        Request(names=OLD, date=stale, extra=[("x-ms-date", NOW)]))
    both = {"names": CURRENT + ["date"], "date": stale, "extra": [("x-ms-date", NOW)]}
    add("two dates: both signed, Date stale", "accept:primary", Request(**both))
    add("two dates: both signed, Date altered", "denied", edited(lambda r: r.set("Date", NOW), **both))


def dump(rows):
    """Formats the rows with one member a line and one header a line."""
    out = []
    for row in rows:
        members = []
        for key, value in row.items():
            if key == "headers":
                text = "[\n" + ",\n".join("      " + json.dumps(pair) for pair in value) + "\n    ]"
            else:
                text = json.dumps(value)
            members.append(f"    {json.dumps(key)}: {text}")
        out.append("  {\n" + ",\n".join(members) + "\n  }")
    return "[\n" + ",\n".join(out) + "\n]\n"


def main():
    for section in (observed, keys, altered, hosts, signed_headers, authorization, content_hashes, dates):
        section()
    names = [row["name"] for row in ROWS]
    assert len(names) == len(set(names)), "row names must be unique"
    text = dump(ROWS)
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if OUTPUT.read_text() == text else f"{OUTPUT.name} differs from the output of this script")
    OUTPUT.write_text(text)
    print(f"{OUTPUT.name}: {len(ROWS)} rows")


if __name__ == "__main__":
    main()
