"""Which sites the SuperLink lets in: those whose public keys are in the kit, and no others."""

import json
from collections.abc import Callable

from nakt_fed.whole_file import write_json

from .client import Client
from .kit import Kit


class Registered:
    """What was registered, kept in the kit's state/registered.json as {public key: Flower's node}; Flower lists no keys."""

    def __init__(self, kit: Kit) -> None:
        self.kit, self.path = kit, kit.state / "registered.json"
        self.nodes: dict[str, int] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def follow_kit(self, say: Callable[[str], None]) -> None:
        """Register the sites whose keys came into the kit, unregister those whose keys were taken out.

        Raises:
            RunError: Flower refuses, or does not answer now; what was done is kept.
        """
        wanted = {path.read_text(): name for name, path in self.kit.key_files().items()}
        for key in wanted.keys() - self.nodes.keys():
            client = Client(self.kit, self.kit.state / "flower")
            self._keep(key, client.register(self.kit.key_files()[wanted[key]], wanted[key]))
            say(f"site {wanted[key]} may come")
        for key in self.nodes.keys() - wanted.keys():
            Client(self.kit, self.kit.state / "flower").unregister(self.nodes[key])
            self._keep(key, None)
            say("a site whose key was taken out of the kit may come no more")

    def _keep(self, key: str, node: int | None) -> None:
        self.nodes = (
            {**self.nodes, key: node} if node is not None else {k: v for k, v in self.nodes.items() if k != key}
        )
        write_json(self.path, self.nodes)
