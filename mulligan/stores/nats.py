"""NATS JetStream: a connection that comes back for ever, the streams, and a pull loop that survives restarts."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import BadRequestError, NoStreamResponseError

from mulligan.errors import Unavailable
from mulligan.stores.addresses import Addresses

log = logging.getLogger(__name__)

TASKS = "TASKS"
RESULTS = "RESULTS"
DEAD = "DEAD"

TASK_SUBJECTS = "mulligan.tasks.>"
RESULT_SUBJECTS = "mulligan.results.>"
DEAD_SUBJECTS = "mulligan.dead.>"

# A publish that repeats a Nats-Msg-Id within this time is stored once.
DUPLICATE_WINDOW_S = 120.0
DEAD_LETTER_LIFE_S = 30 * 24 * 3600.0

CONNECT_DEADLINE_S = 10.0
FIRST_ATTEMPTS = 2
API_DEADLINE_S = 5.0
PUBLISH_DEADLINE_S = 8.0
RECONNECT_PAUSE_S = 0.25

# A pull request that the server no longer remembers is noticed after two missed heartbeats.
PULL_LIFE_S = 10.0
PULL_HEARTBEAT_S = 1.0

FIRST_REDELIVERY_S = 0.5
LONGEST_REDELIVERY_S = 60.0

Handler = Callable[[Msg], Awaitable[None]]


class Poisoned(Exception):
    """Raised by a handler: this message can never succeed. It is parked in the DEAD stream with this text."""


async def connect(addresses: Addresses, name: str) -> Client:
    """A connection that re-establishes itself for ever; raises Unavailable when the first attempts fail."""
    client = Client()
    try:
        async with asyncio.timeout(CONNECT_DEADLINE_S):
            await client.connect(
                servers=[addresses.nats],
                name=name,
                user=addresses.nats_user or None,
                password=addresses.nats_password or None,
                tls=_tls(addresses),
                max_reconnect_attempts=FIRST_ATTEMPTS - 1,
                reconnect_time_wait=RECONNECT_PAUSE_S,  # type: ignore[arg-type]
                ping_interval=5,
                error_cb=_log_error,
            )
    except (NatsError, OSError) as error:
        raise Unavailable(
            f"NATS at {addresses.nats} did not accept a connection; check that it runs and the password, then retry",
            reason="STORE_UNAVAILABLE",
        ) from error
    # Only now, or a wrong password would be tried until the deadline.
    client.options["max_reconnect_attempts"] = -1
    return client


async def ensure_streams(jetstream: JetStreamContext) -> None:
    """Makes the streams that are missing; one that an operator configured otherwise stays as it is."""
    work = api.RetentionPolicy.WORK_QUEUE
    for config in (
        api.StreamConfig(name=TASKS, subjects=[TASK_SUBJECTS], retention=work, duplicate_window=DUPLICATE_WINDOW_S),
        api.StreamConfig(name=RESULTS, subjects=[RESULT_SUBJECTS], retention=work, duplicate_window=DUPLICATE_WINDOW_S),
        api.StreamConfig(name=DEAD, subjects=[DEAD_SUBJECTS], max_age=DEAD_LETTER_LIFE_S),
    ):
        config.storage = api.StorageType.FILE
        try:
            await jetstream.add_stream(config)
        except BadRequestError as error:
            log.info("stream=%s kept as it is: %s", config.name, error.description)


async def publish(jetstream: JetStreamContext, subject: str, data: bytes, message_id: str) -> None:
    """Stores a message once; makes the streams again when the server lost them. Raises what NATS raises."""
    headers = {"Nats-Msg-Id": message_id}
    async with asyncio.timeout(PUBLISH_DEADLINE_S):
        try:
            await jetstream.publish(subject, data, timeout=API_DEADLINE_S, headers=headers)
        except NoStreamResponseError:
            await ensure_streams(jetstream)
            await jetstream.publish(subject, data, timeout=API_DEADLINE_S, headers=headers)


def _tls(addresses: Addresses) -> ssl.SSLContext | None:
    if not addresses.nats.startswith("tls:"):
        return None
    context = ssl.create_default_context(cafile=str(addresses.tls_dir / "ca.crt"))
    context.load_cert_chain(addresses.tls_dir / "server.crt", addresses.tls_dir / "server.key")
    return context


async def _log_error(error: Exception) -> None:
    log.warning("NATS: %s", error or type(error).__name__)


class PullLoop:
    """Takes messages of a work queue and runs a handler on each, at most `concurrency` at a time.

    A message counts as done when its handler returned: a handler that raises sees it again after a growing pause,
    and one whose process died after `ack_wait_s`. So handlers must be safe to repeat.
    """

    def __init__(
        self,
        jetstream: JetStreamContext,
        stream: str,
        durable: str,
        handler: Handler,
        concurrency: int,
        ack_wait_s: float,
        subjects: Sequence[str] = (),
    ) -> None:
        """`durable` names the consumer that all takers share; `subjects` narrow what it sees of the stream."""
        self._jetstream = jetstream
        self._stream = stream
        self._durable = durable
        self._handler = handler
        self._concurrency = concurrency
        self._ack_wait_s = ack_wait_s
        self._subjects = list(subjects)
        self._client = jetstream._nc
        self._inbox = self._client.new_inbox()
        self._tasks: dict[asyncio.Task[None], Msg] = {}
        # Messages that the server still owes us for pull requests under way.
        self._owed = 0
        self._last_sign_of_life = 0.0
        self._consumer_known = False
        self._wake = asyncio.Event()
        self._draining = False
        self._ended = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Messages whose handler runs now."""
        return len(self._tasks)

    @property
    def waiting(self) -> bool:
        """Whether the server knows that this loop would take a message now."""
        return self._owed > 0

    @property
    def draining(self) -> bool:
        """Whether it takes no more."""
        return self._draining

    def resize(self, concurrency: int) -> None:
        """Changes how many messages are worked on at a time; what runs goes on."""
        self._concurrency = concurrency
        self._wake.set()

    async def run(self) -> None:
        """Works until `drain` or cancellation. An absence of NATS is logged and waited for.

        Raises Unavailable when the connection was closed for good, as after a password was changed: connect again.
        """
        subscription = await self._client.subscribe(self._inbox, cb=self._on_message)
        heart = asyncio.create_task(self._beat_for_ever(), name=f"heartbeat {self._durable}")
        try:
            while not self._draining:
                if self._client.is_closed:
                    raise Unavailable("the connection to NATS was closed; connect again", reason="STORE_UNAVAILABLE")
                await self._pull()
                await self._sleep(PULL_HEARTBEAT_S / 2)
            if not self._client.is_closed:
                await subscription.unsubscribe()
            while self._tasks:
                await self._sleep(PULL_HEARTBEAT_S)
        finally:
            heart.cancel()
            await self._abandon()
            self._ended.set()

    async def drain(self, deadline_s: float) -> None:
        """Takes no more, waits for running handlers, gives back what is not done by the deadline."""
        self._draining = True
        self._wake.set()
        try:
            async with asyncio.timeout(deadline_s):
                await self._ended.wait()
        except TimeoutError:
            log.warning("consumer=%s gives back %d unfinished messages", self._durable, len(self._tasks))
            await self._abandon()

    async def _pull(self) -> None:
        """Asks for as many messages as there are free places, unless enough are owed."""
        now = asyncio.get_running_loop().time()
        if self._owed and now - self._last_sign_of_life > 2 * PULL_HEARTBEAT_S:
            self._owed = 0
        wanted = self._concurrency - len(self._tasks) - self._owed
        if wanted <= 0 or (self._owed and wanted < self._concurrency // 2) or not self._client.is_connected:
            return
        try:
            await self._ensure_consumer()
            request = {
                "batch": wanted,
                "expires": int(PULL_LIFE_S * 1e9),
                "idle_heartbeat": int(PULL_HEARTBEAT_S * 1e9),
            }
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
            await self._client.publish(subject, json.dumps(request).encode(), self._inbox)
        except (NatsError, OSError) as error:
            log.warning("consumer=%s cannot pull, trying again: %s", self._durable, error or type(error).__name__)
            return
        self._owed += wanted
        self._last_sign_of_life = asyncio.get_running_loop().time()

    async def _ensure_consumer(self) -> None:
        if self._consumer_known:
            return
        config = api.ConsumerConfig(
            durable_name=self._durable,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_s,
            max_ack_pending=10_000,
            max_waiting=512,
        )
        if self._subjects:
            config.filter_subjects = self._subjects
        await self._jetstream.add_consumer(self._stream, config, timeout=API_DEADLINE_S)
        self._consumer_known = True

    async def _on_message(self, message: Msg) -> None:
        self._last_sign_of_life = asyncio.get_running_loop().time()
        status = (message.headers or {}).get(api.Header.STATUS) if not message.reply.startswith("$JS.ACK.") else None
        if status is not None:
            self._on_status(status, message)
            return
        self._owed = max(0, self._owed - 1)
        if self._draining:
            await message.nak()
            return
        task = asyncio.create_task(self._handle(message), name=f"{self._durable} {message.subject}")
        self._tasks[task] = message
        task.add_done_callback(self._on_done)

    def _on_status(self, status: str, message: Msg) -> None:
        """A pull request came to an end, or the server says that it is still there (100)."""
        if status == api.StatusCode.CONTROL_MESSAGE:
            return
        if status in (api.StatusCode.SERVICE_UNAVAILABLE, api.StatusCode.CONFLICT):
            # Nobody listens there or the consumer was deleted: make sure that it exists before the next pull.
            self._consumer_known = False
        undelivered = (message.headers or {}).get("Nats-Pending-Messages")
        self._owed = max(0, self._owed - int(undelivered)) if undelivered else 0
        if status in (api.StatusCode.NO_MESSAGES, api.StatusCode.REQUEST_TIMEOUT):
            self._wake.set()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            log.error("consumer=%s could not settle a message; it comes again", self._durable, exc_info=error)

    async def _handle(self, message: Msg) -> None:
        try:
            await self._handler(message)
        except Poisoned as error:
            await self._bury(message, str(error))
        except Exception as error:
            log.warning("subject=%s failed, trying again later", message.subject, exc_info=error)
            await message.nak(delay=_redelivery_pause_s(message.metadata.num_delivered))
        else:
            try:
                await message.ack_sync(timeout=API_DEADLINE_S)
            except NatsError as error:
                log.warning("subject=%s is done but may come again: %s", message.subject, error or "no answer")

    async def _bury(self, message: Msg, cause: str) -> None:
        """Parks the message, with why and how often it was tried; only then takes it off its queue."""
        headers = {
            **(message.headers or {}),
            "Mulligan-Cause": " ".join(cause.split())[:500],
            "Mulligan-Subject": message.subject,
            "Mulligan-Deliveries": str(message.metadata.num_delivered),
            "Nats-Msg-Id": f"dead-{self._stream}-{message.metadata.sequence.stream}",
        }
        subject = f"mulligan.dead.{message.subject.removeprefix('mulligan.')}"
        await self._jetstream.publish(subject, message.data, timeout=API_DEADLINE_S, headers=headers)
        await message.term()

    async def _beat_for_ever(self) -> None:
        """Tells the server that running handlers are alive; it answers nothing, so three beats fit one ack wait."""
        while True:
            await asyncio.sleep(self._ack_wait_s / 3)
            for message in list(self._tasks.values()):
                try:
                    await message.in_progress()
                except (NatsError, OSError) as error:
                    log.warning("subject=%s heartbeat not sent: %s", message.subject, error or type(error).__name__)

    async def _abandon(self) -> None:
        """Cancels running handlers and gives their messages back at once."""
        unfinished = dict(self._tasks)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)
        for message in unfinished.values():
            if not message.is_acked and not self._client.is_closed:
                try:
                    await message.nak()
                except (NatsError, OSError) as error:
                    log.warning("subject=%s not given back: %s", message.subject, error or type(error).__name__)

    async def _sleep(self, seconds: float) -> None:
        """Sleeps until something happens, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()


def _redelivery_pause_s(deliveries: int) -> float:
    longest = min(LONGEST_REDELIVERY_S, FIRST_REDELIVERY_S * 2.0 ** min(deliveries - 1, 16))
    return random.uniform(longest / 2, longest)
