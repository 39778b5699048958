"""A real Synapse on a free port of 127.0.0.1, all its files in one directory.

    python homeserver.py DIR [--fast] [--user NAME:PASSWORD]... [--exempt NAME:PASSWORD]... [--port PORT]

Prints one JSON line when it serves, and runs until SIGTERM or until its stdin ends. Started again on the same directory it is
the same server: accounts, rooms, keys, port. Its log is DIR/homeserver.log.
"""

import argparse
import hashlib
import hmac
import json
import os
import pathlib
import random
import secrets
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

START_SECONDS = 60
STOP_SECONDS = 5
# Below the range from which the kernel takes the ports of outgoing connections, so that nothing slips in before Synapse binds.
PORTS = range(20_000, 32_000)
UNLIMITED = {"per_second": 1_000_000, "burst_count": 1_000_000}


def arguments():
    parser = argparse.ArgumentParser(description="A Synapse homeserver for tests")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--fast", action="store_true", help="no limit on messages; else Synapse's own: 0.2/s, burst 10")
    parser.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD", help="an account that shall exist")
    parser.add_argument("--exempt", action="append", default=[], metavar="NAME:PASSWORD", help="the same, without that limit")
    parser.add_argument("--port", type=int, help="else the one used before in this directory, else a free one")
    return parser.parse_args()


def free_port():
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def settings(directory, port, secret, fast):
    # Tests make accounts, log in, invite and join far more often than people do. Only the limit on messages is one a bot meets.
    limits = {
        "rc_login": {"address": UNLIMITED, "account": UNLIMITED, "failed_attempts": UNLIMITED},
        "rc_joins": {"local": UNLIMITED},
        "rc_invites": {"per_room": UNLIMITED, "per_user": UNLIMITED, "per_issuer": UNLIMITED},
        **{name: UNLIMITED for name in ["rc_registration", "rc_joins_per_room", "rc_room_creation", "rc_media_create"]},
    }
    if fast:
        limits["rc_message"] = UNLIMITED
    return {
        "server_name": "localhost",
        "public_baseurl": f"http://127.0.0.1:{port}/",
        "listeners": [
            {
                "port": port,
                "bind_addresses": ["127.0.0.1"],
                "type": "http",
                "tls": False,
                "resources": [{"names": ["client"], "compress": False}],
            }
        ],
        "database": {"name": "sqlite3", "args": {"database": str(directory / "homeserver.db")}},
        "log_config": str(directory / "log.json"),
        "media_store_path": str(directory / "media"),
        "signing_key_path": str(directory / "signing.key"),
        "macaroon_secret_key": secret,
        "form_secret": secret,
        "registration_shared_secret": secret,
        # Passwords of tests need no strength: 12 rounds cost a third of a second at each login.
        "bcrypt_rounds": 4,
        "federation_domain_whitelist": [],
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "presence": {"enabled": False},
        "url_preview_enabled": False,
        "report_stats": False,
        **limits,
    }


def prepare(options):
    """Writes what Synapse needs to start; gives the path of its configuration, its address and its shared secret."""
    from signedjson.key import generate_signing_key, write_signing_keys

    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "homeserver.json"
    before = json.loads(config.read_text()) if config.exists() else {}
    secret = before.get("registration_shared_secret") or secrets.token_hex(16)
    port = options.port or (before["listeners"][0]["port"] if before else free_port())

    key = directory / "signing.key"
    if not key.exists():
        with key.open("w") as file:
            write_signing_keys(file, [generate_signing_key("a_test")])
    log = {
        "version": 1,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(directory / "homeserver.log"), "formatter": "line"}},
        "root": {"level": os.environ.get("SYNAPSE_LOG", "INFO"), "handlers": ["file"]},
        "disable_existing_loggers": False,
    }
    (directory / "log.json").write_text(json.dumps(log))
    # Synapse reads YAML, of which JSON is a part.
    config.write_text(json.dumps(settings(directory, port, secret, options.fast), indent=2))
    return config, f"http://127.0.0.1:{port}", secret


def call(url, path, body=None, token=None):
    request = urllib.request.Request(url + path, data=None if body is None else json.dumps(body).encode())
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=10) as answer:
        return json.load(answer)


def register(url, secret, name, password, admin=False):
    """Makes an account by shared secret; gives its access token, or None if the account was there already."""
    path = "/_synapse/admin/v1/register"
    nonce = call(url, path)["nonce"]
    said = "\0".join([nonce, name, password, "admin" if admin else "notadmin"])
    mac = hmac.new(secret.encode(), said.encode(), hashlib.sha1).hexdigest()
    try:
        return call(url, path, {"nonce": nonce, "username": name, "password": password, "admin": admin, "mac": mac})["access_token"]
    except urllib.error.HTTPError as error:
        if json.load(error).get("errcode") == "M_USER_IN_USE":
            return None
        raise


def wait_until_served(url):
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return call(url, "/_matrix/client/versions")
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def get_ready(options, url, secret, out):
    wait_until_served(url)
    for account in options.user + options.exempt:
        name, password = account.split(":", 1)
        register(url, secret, name, password)
    if options.exempt:
        steward = register(url, secret, f"steward-{secrets.token_hex(4)}", secrets.token_hex(16), admin=True)
        for account in options.exempt:
            user = f"@{account.split(':', 1)[0]}:localhost"
            limit = {"messages_per_second": 0, "burst_count": 0}
            call(url, f"/_synapse/admin/v1/users/{user}/override_ratelimit", limit, steward)
    print(json.dumps({"ready": True, "url": url, "secret": secret}), file=out, flush=True)


def beside(work):
    """Runs `work` in a thread; if it fails, the whole process does."""

    def guarded():
        try:
            work()
        except BaseException as error:
            print(f"homeserver.py: {error!r}", file=sys.__stderr__, flush=True)
            os._exit(1)

    threading.Thread(target=guarded, daemon=True).start()


def end_with_stdin():
    while os.read(0, 65536):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(0)


def main():
    options = arguments()
    out = sys.stdout
    beside(end_with_stdin)
    config, url, secret = prepare(options)
    beside(lambda: get_ready(options, url, secret, out))
    # In this very process: whatever kills it leaves no server behind.
    from synapse.app import homeserver

    sys.argv = ["synapse", "--config-path", str(config)]
    homeserver.main()


if __name__ == "__main__":
    main()
