"""Prometheus metrics, named as the specification names them, in base units.

Counters and histograms are counted where jobs run; gauges are looked up every few seconds. A
tenant's label makes a series of each tenant, so it is there by setting only.
"""

from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import BaseModel

from cerniq_stock.jobs.attempt import Failed, Outcome
from cerniq_stock.jobs.payloads import ReserveCreate, ReserveRelease, SyncErp

_QUICK = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SLOW = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120)
_EITHER = (*_QUICK, 30, 60, 120)
"""Of all kinds of jobs: the slow ones may take two minutes."""
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """All metrics of one process."""

    def __init__(self, *, tenant_label: bool = False) -> None:
        self.registry = CollectorRegistry()
        self._tenant = ["tenant"] if tenant_label else []
        self._define_stock()
        self._define_jobs()
        self._define_writer()

    def _define_stock(self) -> None:
        """Name them as §2.5, §3.5 and §4.5 do."""
        self._created = self._counter(
            "stock_reservations_created_total",
            "Reservations answered, by the answer's status and the type asked for.",
            *("status", "type"),
        )
        self._not_created = self._counter(
            "stock_reservations_failed_total",
            "Attempts to reserve that ended in an error, by its code.",
            "error_type",
        )
        self._creating_s = self._histogram(
            "stock_reservation_duration_seconds", "How long an attempt to reserve took.", _QUICK
        )
        self._released = self._counter(
            "stock_releases_total", "Releases answered, by reason.", "reason"
        )
        self._not_released = self._counter(
            "stock_releases_failed_total",
            "Attempts to release that ended in an error, by its code.",
            "error_type",
        )
        self._releasing_s = self._histogram(
            "stock_release_duration_seconds", "How long an attempt to release took.", _QUICK
        )
        self._synced = self._counter(
            "stock_sync_completed_total", "Syncs completed, by ERP and kind.", "erp", "sync_type"
        )
        self._not_synced = self._counter(
            "stock_sync_failed_total",
            "Attempts to sync that ended in an error, by its code.",
            "error_type",
        )
        self._syncing_s = self._histogram(
            "stock_sync_duration_seconds", "How long an attempt to sync took.", _SLOW
        )
        self._synced_products = Gauge(
            "stock_sync_products_updated",
            "Products that the latest sync changed, by ERP.",
            ["erp", *self._tenant],
            registry=self.registry,
        )

    def _define_jobs(self) -> None:
        self._jobs = self._counter(
            "stock_jobs_total", "Attempts of jobs, by kind and how they ended.", "job", "outcome"
        )
        self._job_s = self._histogram(
            "stock_job_duration_seconds", "How long an attempt of a job took.", _EITHER, "job"
        )
        self.queue_depth = self._gauge(
            "stock_queue_depth", "Unfinished jobs, by kind and state.", "job", "state"
        )
        self.oldest_s = self._gauge(
            "stock_queue_oldest_seconds", "How long the oldest job that is due has waited.", "job"
        )

    def _define_writer(self) -> None:
        self.expiry_lag_s = self._gauge(
            "stock_expiry_lag_seconds",
            "How long the earliest reservation that is due, and not ended yet, has been so.",
        )
        self.writer_waiting = self._gauge(
            "stock_writer_waiting", "Commands that wait for a batch or are in one."
        )
        self._batch = Histogram(
            "stock_batch_commands",
            "Commands that were committed together.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self._retries = Counter(
            "stock_batch_retries_total",
            "Batches that lost a race or their connection and ran again.",
            registry=self.registry,
        )
        self._overloads = Counter(
            "stock_overloads_total",
            "Commands that were not taken because too many waited.",
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, [*labels, *self._tenant], registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, text, list(labels), buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, list(labels), registry=self.registry)

    # -- what the writer tells --------------------------------------------------------------

    def batch_committed(self, commands: int) -> None:
        """Count a batch."""
        self._batch.observe(commands)

    def batch_retried(self) -> None:
        """Count a batch that ran again."""
        self._retries.inc()

    def overloaded(self) -> None:
        """Count a command that was not taken."""
        self._overloads.inc()

    # -- what attempts tell -----------------------------------------------------------------

    def attempted(
        self,
        tenant_id: UUID,
        name: str,
        outcome: Outcome,
        took_s: float,
        asked: BaseModel | Failed,
    ) -> None:
        """Count an attempt of a job, with the labels of §2.5 and §3.5.

        `asked` is the payload as it was read, if it could be. None of the payload itself becomes a
        label: it may say anything, and each word would be a series.
        """
        tenant = [str(tenant_id)] if self._tenant else []
        ended = "failed" if isinstance(outcome, Failed) else "done"
        self._jobs.labels(name, ended, *tenant).inc()
        self._job_s.labels(name).observe(took_s)
        match name:
            case "stock:reserve:create":
                duration_s, failures = self._creating_s, self._not_created
            case "stock:reserve:release":
                duration_s, failures = self._releasing_s, self._not_released
            case "stock:sync:erp" | "stock:sync:oblio":
                duration_s, failures = self._syncing_s, self._not_synced
            case _:
                return
        duration_s.observe(took_s)
        # refused as a whole: nothing was created or released
        refused = None if isinstance(outcome, Failed) else outcome.result.get("code")
        if isinstance(outcome, Failed):
            failures.labels(outcome.code, *tenant).inc()
        elif refused is not None:
            failures.labels(refused, *tenant).inc()
        elif isinstance(asked, ReserveCreate):
            self._created.labels(
                outcome.result.get("status"), asked.reservation_type, *tenant
            ).inc()
        elif isinstance(asked, ReserveRelease):
            self._released.labels(asked.reason, *tenant).inc()
        elif isinstance(asked, SyncErp):
            self._synced.labels(asked.erp_system, asked.sync_type, *tenant).inc()
            figures = outcome.result.get("statistics", {})
            updated = figures.get("productsUpdated", 0)
            self._synced_products.labels(asked.erp_system, *tenant).set(updated)
