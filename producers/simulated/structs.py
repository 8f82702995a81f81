"""The structs that the package's calls return: tuples with named attributes and ``_asdict``, in the package's order."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

_EMPTY: Final[dict[str, Any]] = {"int": 0, "float": 0.0, "str": "", "bool": False}


class Struct(tuple[Any, ...]):
    """A tuple whose items have names; not a namedtuple: the package's have neither ``_fields`` nor ``_replace``."""

    __slots__ = ()
    _names: ClassVar[dict[str, str]]
    _index: ClassVar[dict[str, int]]

    def __init_subclass__(cls, *, layout: str) -> None:
        """``layout``: ``name:type`` of each field, in order."""
        cls._names = dict(field.split(":") for field in layout.split())
        cls._index = {name: index for index, name in enumerate(cls._names)}

    @classmethod
    def of(cls, **values: Any) -> Self:
        """A struct of ``values``; what is not given is empty."""
        if unknown := values.keys() - cls._names.keys():
            raise TypeError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
        return cls(values.get(name, _EMPTY[kind]) for name, kind in cls._names.items())

    def __getattr__(self, name: str) -> Any:
        index = self._index.get(name)
        if index is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return self[index]

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._names, self, strict=True))


class Tick(
    Struct,
    layout="""
    time:int bid:float ask:float last:float volume:int time_msc:int flags:int volume_real:float
    """,
):
    """A quote."""

    __slots__ = ()


class TerminalInfo(
    Struct,
    layout="""
    community_account:bool community_connection:bool connected:bool dlls_allowed:bool trade_allowed:bool
    tradeapi_disabled:bool email_enabled:bool ftp_enabled:bool notifications_enabled:bool mqid:bool build:int
    maxbars:int codepage:int ping_last:int community_balance:float retransmission:float company:str name:str
    language:str path:str data_path:str commondata_path:str
    """,
):
    """A terminal."""

    __slots__ = ()


class SymbolInfo(
    Struct,
    layout="""
    custom:bool chart_mode:int select:bool visible:bool session_deals:int session_buy_orders:int
    session_sell_orders:int volume:int volumehigh:int volumelow:int time:int digits:int spread:int
    spread_float:bool ticks_bookdepth:int trade_calc_mode:int trade_mode:int start_time:int expiration_time:int
    trade_stops_level:int trade_freeze_level:int trade_exemode:int swap_mode:int swap_rollover3days:int
    margin_hedged_use_leg:bool expiration_mode:int filling_mode:int order_mode:int order_gtc_mode:int
    option_mode:int option_right:int bid:float bidhigh:float bidlow:float ask:float askhigh:float asklow:float
    last:float lasthigh:float lastlow:float volume_real:float volumehigh_real:float volumelow_real:float
    option_strike:float point:float trade_tick_value:float trade_tick_value_profit:float
    trade_tick_value_loss:float trade_tick_size:float trade_contract_size:float trade_accrued_interest:float
    trade_face_value:float trade_liquidity_rate:float volume_min:float volume_max:float volume_step:float
    volume_limit:float swap_long:float swap_short:float margin_initial:float margin_maintenance:float
    session_volume:float session_turnover:float session_interest:float session_buy_orders_volume:float
    session_sell_orders_volume:float session_open:float session_close:float session_aw:float
    session_price_settlement:float session_price_limit_min:float session_price_limit_max:float margin_hedged:float
    price_change:float price_volatility:float price_theoretical:float price_greeks_delta:float
    price_greeks_theta:float price_greeks_gamma:float price_greeks_vega:float price_greeks_rho:float
    price_greeks_omega:float price_sensitivity:float basis:str category:str currency_base:str currency_profit:str
    currency_margin:str bank:str description:str exchange:str formula:str isin:str name:str page:str path:str
    """,
):
    """A symbol."""

    __slots__ = ()


class AccountInfo(
    Struct,
    layout="""
    login:int trade_mode:int leverage:int limit_orders:int margin_so_mode:int trade_allowed:bool
    trade_expert:bool margin_mode:int currency_digits:int fifo_close:bool balance:float credit:float
    profit:float equity:float margin:float margin_free:float margin_level:float margin_so_call:float
    margin_so_so:float margin_initial:float margin_maintenance:float assets:float liabilities:float
    commission_blocked:float name:str server:str currency:str company:str
    """,
):
    """An account."""

    __slots__ = ()


class BookInfo(
    Struct,
    layout="""
    type:int price:float volume:int volume_dbl:float
    """,
):
    """A row of the depth of market."""

    __slots__ = ()
