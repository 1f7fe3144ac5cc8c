"""Reaching a cluster: what is none is told at once, in one sentence."""

import socket
import threading

import pytest

pytest.importorskip("ray.data")


from reroute_cli.console.errors import Failure
from reroute_cli.integrations.ray.connection import ClusterConnection


@pytest.fixture
def listener():
    """A function from what a server says to the address where it says so."""
    servers = []

    def started(greeting):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve():
            while True:
                try:
                    call, _ = server.accept()
                except OSError:
                    return
                with call:
                    call.recv(100)
                    call.sendall(greeting)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield started
    for server in servers:
        server.close()


def refused(address):
    """The sentence that an address ends in."""
    with ClusterConnection(address) as link, pytest.raises(Failure) as caught:
        link.nodes()
    return str(caught.value)


def test_an_address_where_nobody_listens_is_refused():
    """By the system, at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    sentence = refused(address)
    assert sentence.startswith(f"--ray-address '{address}' can't be reached (Connection refused): check that")


def test_what_is_no_ray_is_not_waited_for(listener):
    """A web server, and one that hangs up: joining them would take Ray minutes to give up."""
    assert "what answers there is not Ray" in refused(listener(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert "what answers there is not Ray" in refused(listener(b""))


def test_a_server_that_says_nothing_is_not_waited_for_long():
    """Five seconds; it took the call and no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "can't be reached (timed out)" in refused(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["ray", "localhost:", "localhost:ray", ":6379", "localhost:70000"])
def test_what_is_no_address_is_refused(address):
    """The sentence says what one looks like."""
    assert "give HOST:PORT of the head node, or auto" in refused(address)


def test_a_driver_outside_of_the_cluster_is_refused():
    """Its pictures could be read nowhere."""
    assert "run the command on a node of it" in refused("ray://localhost:10001")
