"""How a REST interface of somebody's own is spoken to: all of it is settings."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from cerniq_stock.erp.config import Name
from cerniq_stock.erp.session import Connection, Secret, Settings, Url, Word

Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
SKU = "{sku}"
ID = "{id}"
_NEEDED = {
    "bearer": ("token",),
    "basic": ("username", "password"),
    "api_key": ("api_key",),
    "oauth2": ("client_id", "client_secret", "token_url"),
}


class Credentials(Settings):
    """What the kind of authorisation needs; `token_url` may be another server."""

    token: Secret | None = None
    username: Annotated[Word, StringConstraints(pattern="^[^:]*$")] | None = None
    password: Secret | None = None
    api_key: Secret | None = None
    api_key_header: Header = "X-API-Key"
    client_id: Word | None = None
    client_secret: Secret | None = None
    token_url: Url | None = None
    scope: str = ""
    client_in: Literal["basic", "body"] = "basic"
    token_fields: dict[str, Secret] = Field(default_factory=dict)
    """More fields of the form that asks for a token, such as `audience`."""


class Endpoints(Settings):
    """Paths below the base URL; only the first is needed.

    Without `changed_stock` the whole stock is asked for with the time, without `stock_by_sku` the
    whole stock is read (specification §5.3).
    """

    all_stock: Word
    changed_stock: Word | None = None
    stock_by_sku: Word | None = None
    health: Word | None = None


class Paging(Settings):
    """How pages follow each other.

    `cursor`, `offset`, `page`: a parameter of the request. `next_url`, `cursor`: where the answer
    has it. `link_header`: RFC 8288. `ends`: after a short page already, or only after an empty one;
    a server may give fewer than asked for, and then a short page is no end.
    """

    kind: Literal["none", "link_header", "next_url", "cursor", "offset", "page"] = "none"
    parameter: Name | None = None
    size_parameter: Name | None = "limit"
    size: int = Field(default=100, ge=1, le=10_000)
    first: int = Field(default=1, ge=0, le=1)
    """Number of the first page."""
    next_path: Name = "next"
    cursor_path: Name = "next_cursor"
    more_path: Name | None = None
    """Where the answer says false if there is no more, besides the cursor."""
    ends: Literal["short", "empty"] = "empty"


class Since(Settings):
    """How the moment is written since which changes are asked for.

    `overlap_s` covers what was written late and clocks that differ; days overlap by one besides.
    """

    parameter: Name = "since"
    format: Literal["iso", "date", "unix", "unix_ms"] = "iso"
    overlap_s: float = Field(default=600.0, ge=0, le=7 * 86_400)


class BySku(Settings):
    """How single products are asked for: many in the body of a POST, or one with each GET.

    The path may hold `{sku}`; otherwise a GET has it in `parameter`.
    """

    method: Literal["POST", "GET"] = "POST"
    field: Name = "skus"
    parameter: Name = "sku"
    batch: int = Field(default=100, ge=1, le=10_000)


class PushLine(Settings):
    """What the fields of one sale are called; null leaves one out."""

    sku: Name = "sku"
    quantity: Name = "quantity"
    warehouse: Name | None = "warehouse"
    id: Name | None = "id"


class Push(Settings):
    """How sales are booked: one POST for several of them, `most` at once.

    `lookup` is a path with `{id}` where an earlier booking is found; 404 or an empty list says that
    there is none. `document` is where both answers have the number of the document.
    """

    path: Word
    header: Header = "Idempotency-Key"
    lookup: Annotated[Word, StringConstraints(pattern=r"\{id\}")] | None = None
    document: Name = "id"
    id: Name | None = "externalId"
    lines: Name = "lines"
    line: PushLine = PushLine()
    constants: dict[str, str | int | bool] = Field(default_factory=dict)
    quantity_as: Literal["number", "text"] = "number"
    most: int = Field(default=100, ge=1, le=1000)


class CustomApiConnection(Connection):
    """A REST interface."""

    auth_type: Literal["bearer", "basic", "api_key", "oauth2"]
    credentials: Credentials
    endpoints: Endpoints
    paging: Paging = Paging()
    since: Since = Since()
    by_sku: BySku = BySku()
    push: Push | None = None
    requests_per_second: float | None = Field(default=None, gt=0, le=1000)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        given: dict[str, Any] = {name: getattr(self.credentials, name) for name in _ALL}
        for name in _NEEDED[self.auth_type]:
            if given[name] is None:
                raise ValueError(f"credentials: {self.auth_type} needs {name}")
        return self


_ALL = tuple(name for names in _NEEDED.values() for name in names)
