"""Bytes that are counted while somebody holds them."""


def counted_bytes() -> type[bytes]:
    """A class of its own of bytes; `alive` and `most` are how many there are, and were at a time."""

    class Counted(bytes):
        alive, most = 0, 0

        def __init__(self, _data: bytes) -> None:
            Counted.alive += 1
            Counted.most = max(Counted.most, Counted.alive)

        def __del__(self) -> None:
            Counted.alive -= 1

    return Counted
