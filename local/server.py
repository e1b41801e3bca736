"""The emulator's own process: ministack, which refuses whatever a web page could send.

ministack runs any code that it is sent, as the developer, and answers every web page. The guard is
around its application in the same process: a proxy would leave ministack's own port open. It reads
only the headers of a request. `local/emulator.py` starts this file as a program.
"""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]

#: Browsers set them, and no page can remove them. No AWS client sends them.
BROWSERS_HEADERS = {b"origin", b"sec-fetch-site"}

REFUSAL = b"The local AWS serves AWS clients on this machine. It serves no web page.\n"


def guard(application: Application, port: str) -> Application:
    """The application, for clients that call it by its own name and are no browser.

    The name is checked because of DNS rebinding: a page's own host may lead to 127.0.0.1, and
    then the browser takes the emulator for the page's own server.
    """
    own_host = re.compile(rf"(127\.0\.0\.1|([a-z0-9]+\.execute-api\.)?localhost):{port}".encode())

    async def guarded(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await application(scope, receive, send)
            return
        names = {name.lower() for name, _ in scope["headers"]}
        hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
        if len(hosts) == 1 and own_host.fullmatch(hosts[0]) and not names & BROWSERS_HEADERS:
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})

    return guarded


if __name__ == "__main__":
    from ministack import app as ministack  # type: ignore[import-untyped]

    ministack.app = guard(ministack.app, os.environ["GATEWAY_PORT"])
    ministack.main()
