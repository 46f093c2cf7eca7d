"""How long a publish takes while many clients make a hub shake hands.

    python bench/handshakes.py target/release/petasos

The certificate has an RSA key of 4,096 bits, whose signatures cost the most. The clients are ``openssl s_time``, each
of which opens connections one after the other.
"""

from __future__ import annotations

import argparse
import http.client
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import quantiles

from drain import HUB_PATH, token
from tls import Hub, certificate

HEADERS = {"Authorization": f"Bearer {token()}", "Content-Type": "application/x-www-form-urlencoded"}


def publish(connection: http.client.HTTPSConnection) -> float:
    """Milliseconds that it takes."""
    began = time.perf_counter()
    connection.request("POST", HUB_PATH, "topic=a&data=x", HEADERS)
    response = connection.getresponse()
    response.read()
    assert response.status == 200, response.status
    return (time.perf_counter() - began) * 1e3


def shown(times: list[float]) -> str:
    percentiles = quantiles(times, n=100)
    return ", ".join(f"p{number} {percentiles[number - 1]:.2f} ms" for number in (50, 90, 99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        certificate(directory, "rsa:4096")
        hub = Hub(arguments.binary, directory)
        try:
            connection = http.client.HTTPSConnection("localhost", hub.port, context=hub.context)
            print(f"quiet: {shown([publish(connection) for _ in range(200)])}")
            command = ["openssl", "s_time", "-new", "-connect", f"127.0.0.1:{hub.port}"]
            command += ["-time", str(arguments.seconds)]
            clients = [
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                for _ in range(arguments.clients)
            ]
            times = []
            while all(client.poll() is None for client in clients):
                times.append(publish(connection))
                time.sleep(0.005)
            for client in clients:
                client.wait()
            print(f"with {arguments.clients} clients: {shown(times)}")
        finally:
            hub.close()


if __name__ == "__main__":
    main()
