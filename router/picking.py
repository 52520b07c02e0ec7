"""Makes the ext-proc server out of configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import Metric

from router.config import ConfigError, ExtProcConfig, WeftConfig
from router.core.fleet import Fleet
from router.core.types import LoadReport, Outcome
from router.dispatcher import Dispatcher
from router.extproc.addresses import Addresses
from router.extproc.ends import Ends
from router.extproc.messages import BodyMode, Modes
from router.extproc.picker import Picker
from router.extproc.processing import StreamSettings
from router.extproc.reading import PickerSettings
from router.extproc.server import ExtProcServer
from router.extproc.stats import ExtProcStats
from router.extproc.telemetry import extproc_metrics
from router.extproc.tls import TlsFiles
from router.intake import Intake
from router.proxy.priorities import Priorities


class Picking:
    """The server and what others have to tell it."""

    def __init__(
        self,
        config: WeftConfig,
        intake: Intake,
        dispatcher: Dispatcher,
        fleet: Fleet,
        priorities: Priorities,
        note: Callable[[str, Outcome], None],
        clock: Callable[[], float],
    ) -> None:
        """Must be made inside the event loop that runs it."""
        self._config = config
        self.stats = ExtProcStats()
        self.addresses = Addresses(clock)
        self._ends = Ends(dispatcher, self.stats, priorities, note, clock, config.router.in_flight_timeout_s)
        picker = Picker(intake, dispatcher, fleet, priorities, self.addresses, _picker_settings(config.extproc))
        settings = _stream_settings(config.extproc, config.limits.max_body_bytes)
        self.server = ExtProcServer(picker, self._ends, self.stats, settings, _tls_files(config.extproc))

    def metrics(self) -> Iterator[Metric]:
        return extproc_metrics(self.stats, len(self._ends.outstanding))

    async def start(self) -> None:
        """Raises ConfigError."""
        try:
            await self.server.start(self._config.extproc.listen)
        except (OSError, ValueError) as error:
            raise ConfigError(f"extproc: {error}") from error

    async def stop(self) -> None:
        await self.server.stop(self._config.limits.drain_s)
        self.addresses.close()

    def reported(self, replica: str, report: LoadReport) -> None:
        """A replica says what it is busy with."""
        self._ends.reported(replica, report)

    def down(self, replica: str) -> None:
        """A replica cannot serve now."""
        self._ends.forget(replica)


def _picker_settings(config: ExtProcConfig) -> PickerSettings:
    return PickerSettings(config.fallbacks, config.objectives, config.conformance)


def _stream_settings(config: ExtProcConfig, max_body_bytes: int) -> StreamSettings:
    return StreamSettings(
        max_body_bytes=max_body_bytes,
        modes=Modes(request_body=BodyMode[config.request_body_mode]),
        follows=config.responses == "follow" or config.conformance,
        tells_served=config.conformance,
    )


def _tls_files(config: ExtProcConfig) -> TlsFiles | None:
    tls = config.tls
    return None if tls is None else TlsFiles(tls.certificate, tls.key, tls.client_ca)
