"""Flower's SuperNode, which runs only apps that this site has approved (`policy.apps` of its site file).

    python -P guard.py SOCKET ARGUMENTS-OF-FLOWER-SUPERNODE...

Flower refuses every bundle that none of its --trusted-entities has signed, before it keeps or unpacks it. The only one trusted
here is a key that lives as long as this process, and it signs what the site's teacher service approves. Flower has no hook
for that, so the function that connects a SuperNode is wrapped. Should Flower change there, nothing is signed, and no app runs
at all.

It also works ahead (`nakt_fed/site/ahead.py`). Should Flower change there, it works as Flower does.
"""

import base64
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import flwr.supernode.start_client_internal as supernode
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.cli.config_utils import get_fab_metadata
from flwr.supercore.fab import Fab
from flwr.supercore.primitives.asymmetric_ed25519 import create_message_to_sign
from flwr.supercore.run import Run
from flwr.supernode.cli import flower_supernode

from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Request
from nakt_fed.signing import SITE_KEY
from nakt_fed.site.ahead import Ahead, work_ahead
from nakt_fed.site.relay import ask_service

ENTITY = "fpk_this-site"
WAIT, PATIENCE = 60.0, 120.0  # seconds for an answer of the service, and for the service to come back
GIVEN = ("receive", "send", "get_run", "get_fab")
"""What the wrapped function gives, after the node's number."""


class Guard:
    """Signs the bundles that the teacher service at `service` approves, and no other."""

    def __init__(self, service: Path, ahead: Ahead | None = None) -> None:
        self.service, self.key, self.ahead = service, Ed25519PrivateKey.generate(), ahead

    def trusted(self) -> str:
        """Flower's file of trusted entities (YAML, of which JSON is a part)."""
        public = self.key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return json.dumps({ENTITY: public})

    def signed(self, fab: Fab, run: Run) -> Fab:
        """The bundle with this site's signature, or with none; whatever signatures came with it are dropped."""
        digest = hashlib.sha256(fab.content).digest()
        signatures = {"valid_license": "not asked for"}
        if refusal := self._refusal(fab, run, digest.hex()):
            say(f"app {digest.hex()} is refused: {refusal}")
        else:
            now = int(time.time())
            signature = base64.urlsafe_b64encode(self.key.sign(create_message_to_sign(digest, now))).decode()
            signatures[ENTITY] = json.dumps({"signed_at": now, "signature": signature})
            say(f"app {digest.hex()} may run")
        return Fab(fab.hash_str, fab.content, signatures)

    def _refusal(self, fab: Fab, run: Run, digest: str) -> str:
        """Why the app may not run; empty: it may. Its folder's name comes from the run, so that has to be the bundle's too."""
        try:
            reply = ask_service(self.service, Request("app", {}, fab.content), WAIT, PATIENCE)
        except AnswerError as error:
            return str(error)
        if not reply.ok:
            return f"{reply.meta.get('reason')}: {reply.meta.get('message')}"
        if (run.fab_hash, fab.hash_str) != (digest, digest):
            return "the bundle is another than the run's"
        if (run.fab_id, run.fab_version) != get_fab_metadata(fab.content):
            return "the run names the app otherwise than its bundle does"
        return ""

    def wrap(self, connect: Callable[..., AbstractContextManager[Any]]) -> Callable[..., AbstractContextManager[Any]]:
        """Flower's function that connects a SuperNode, with every bundle through `signed`."""

        @contextmanager
        def connected(*arguments: Any, **options: Any) -> Iterator[Any]:
            with connect(*arguments, **options) as (node, receive, send, get_run, get_fab, *rest):
                names = tuple(each.__name__ for each in (receive, send, get_run, get_fab))
                if names != GIVEN:
                    sys.exit(f"this version of Flower cannot be guarded: it gives {names}; use the one nakt-fed names")
                runs: dict[int, Run] = {}

                def noted_run(run_id: int) -> Run:
                    runs[run_id] = get_run(run_id)
                    return runs[run_id]

                def signed_fab(fab_hash: str, run_id: int) -> Fab:
                    return self.signed(get_fab(fab_hash, run_id), runs[run_id])

                if self.ahead:
                    receive, send = self.ahead.receive(receive), self.ahead.send(send)
                yield (node, receive, send, noted_run, signed_fab, *rest)

        return connected


def say(text: str) -> None:
    print(f"nakt: {text}", file=sys.stderr, flush=True)


def end_with_a_thread(about: threading.ExceptHookArgs) -> None:
    """Flower's heartbeat is a thread that ends at the SuperLink's first internal error (its disk is full); the rest would work on
    and never count as online again. So all ends, and whoever keeps the SuperNode starts it anew."""
    threading.__excepthook__(about)
    say("a part of Flower's SuperNode has died, so it ends, to be started again")
    os._exit(1)


def remove_apps(home: Path) -> None:
    """What an app has left in the SuperNode's folder under an approved one's name: Flower would run it as that one.

    Raises:
        SystemExit: it cannot be removed.
    """
    apps = home / "apps"
    with suppress(OSError):
        apps.unlink() if apps.is_symlink() or apps.is_file() else shutil.rmtree(apps)
    if os.path.lexists(apps):
        sys.exit(
            f"error: {apps} cannot be removed, and may hold code that no one has approved; delete it as its owner or root"
        )


def main(service: str, *arguments: str) -> None:
    """Become the SuperNode. Its folder (FLWR_HOME) loses what an app has left there under an approved one's name."""
    os.umask(0o077)
    if not (ahead := work_ahead(supernode)):
        say("this version of Flower works on one message after the other")
    home, guard = Path(os.environ["FLWR_HOME"]), Guard(Path(service), ahead)
    remove_apps(home)
    if "--auth-supernode-private-key" in arguments:
        key = arguments[arguments.index("--auth-supernode-private-key") + 1]
        os.environ[SITE_KEY] = str(Path(key).resolve())  # the app signs its answers with it
    entities = home / "trusted-entities.json"
    entities.write_text(guard.trusted())
    connect = supernode.http_request_response  # AttributeError: Flower has changed
    supernode.http_request_response = guard.wrap(connect)  # type: ignore[assignment]
    own = ("--node-config", f'service="{service}"', "--trusted-entities", str(entities))
    threading.excepthook = end_with_a_thread
    sys.argv = ["flower-supernode", *arguments, *own]
    flower_supernode()


if __name__ == "__main__":
    main(*sys.argv[1:])
