"""The only reader of the environment. Every variable begins with CERNIQ_."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Rate = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Configuration from the environment; unknown values in it are nobody's business here."""

    model_config = SettingsConfigDict(env_prefix="CERNIQ_", env_ignore_empty=True, frozen=True)

    database_url: str | None = Field(
        default=None, description="PostgreSQL 15 or later; unset: the embedded server"
    )
    data_dir: Path | None = Field(
        default=None, description="data folder of the embedded server; unset: one per user"
    )
    writer_connections: int = Field(
        default=4, ge=1, le=64, description="connections that write batches, per process"
    )
    redis_url: str | None = Field(
        default=None, description="Redis of the BullMQ transport, as redis://host:6379/0"
    )
    stop_grace_s: float = Field(
        default=20.0, ge=0, le=600, description="seconds that jobs may take to end at a stop"
    )
    job_rates: dict[str, Rate] = Field(
        default={}, description="jobs of a kind that may begin per second, as JSON; unset: any"
    )
    job_tenant_rates: dict[str, Rate] = Field(default={}, description="the same for each tenant")
    metrics_host: str = Field(default="127.0.0.1", description="where the worker serves metrics")
    metrics_port: int = Field(
        default=9464, ge=0, le=65535, description="port of the worker's metrics; 0: none"
    )
    metrics_tenant_label: bool = Field(
        default=False, description="a series for each tenant: for few tenants only"
    )
    log_format: Literal["text", "json"] | None = Field(
        default=None, description="how the worker logs; unset: text on a terminal, else json"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="from which level on the worker logs"
    )
    erp_allowed_hosts: str = Field(
        default="",
        description="ERPs in the network, as 192.168.1.0/24:50000,erp.lan:8080; http only here",
    )
    erp_ports: tuple[Port, ...] = Field(
        default=(443,), description="ports of ERPs with public addresses, as JSON"
    )
    erp_ca_file: Path | None = Field(
        default=None, description="authorities besides the system's, for self-signed ERPs, PEM"
    )
    erp_files_dir: Path | None = Field(
        default=None,
        description="files of CSV_IMPORT, in a folder for each tenant's id; unset: none",
    )
    secret_keys: SecretStr | None = Field(
        default=None, description="keys of stored credentials, kid:base64,…; the first encrypts"
    )
    secret_keys_file: Path | None = Field(
        default=None, description="a file with these keys instead, one a line"
    )
    tenant_id: str | None = Field(default=None, description="tenant that the commands work for")
