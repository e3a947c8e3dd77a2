"""The way to the coordinator: its name, its port, its certificate."""

import socket
import ssl
from pathlib import Path

from nakt_fed.errors import RunError

SECONDS = 10.0
PLAIN = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def check_line(address: str, root_certificates: Path) -> str:
    """Greet the coordinator over TLS, with the federation's certificate as the only authority.

    Args:
        address: host:port.

    Raises:
        RunError: no such name, no connection, a wrong certificate, or no TLS; each with its remedy.
    """
    host, port = address.rsplit(":", 1)
    with _connected(host, int(port)) as sock:
        try:
            context = ssl.create_default_context(cafile=str(root_certificates))
            with context.wrap_socket(sock, server_hostname=host) as line:
                return f"{address} answers over {line.version()} with a certificate of the federation"
        except ssl.SSLCertVerificationError as error:
            remedy = "take ca.crt and coordinator.address from the same kit; if they are, somebody else answers there"
            raise RunError(f"{address} shows a wrong certificate ({error.verify_message}); {remedy}") from None
        except ssl.SSLError as error:
            raise RunError(_no_tls(address, error)) from None
        except (OSError, EOFError):
            raise RunError(
                f"{address} takes the connection but speaks no TLS; ask the coordinator which port it is"
            ) from None


def _connected(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), SECONDS)
    except socket.gaierror:
        raise RunError(
            f"the name {host} is not known here; check coordinator.address, or ask for a DNS entry"
        ) from None
    except TimeoutError:
        remedy = f"let the firewall pass outgoing connections to port {port}"
        raise RunError(f"{host}:{port} does not answer within {SECONDS:.0f} s; {remedy}") from None
    except OSError as error:
        remedy = "is the coordinator started, and does the firewall let this pass?"
        raise RunError(f"no connection to {host}:{port} ({error.strerror}); {remedy}") from None


def _no_tls(address: str, error: ssl.SSLError) -> str:
    if error.reason in PLAIN:
        return f"{address} answers in plain text, not TLS; nothing is sent there: ask the coordinator which port it is"
    return f"{address} and this site find no common TLS ({error.reason}); update the older one of both"
