"""The only reader of the environment. Every variable begins with CERNIQ_."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    tenant_id: str | None = Field(default=None, description="tenant that the commands work for")
