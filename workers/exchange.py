"""What goes between a client session, which does no I/O, and the stream to its server."""

from relay.net.stream import Stream
from relay.smtp.client import ClientSession, Event


async def next_event(session: ClientSession, stream: Stream) -> Event:
    """Return the session's next event; what is due goes out first. Raises NetworkError.

    Nobody's time is up here: who waits for a server bounds it.
    """
    while True:
        event = session.next_event()
        if octets := session.data_to_send():
            await stream.send(octets)
        if event is not None:
            return event
        if octets := await stream.receive():
            session.receive(octets)
        else:
            session.receive_eof()
