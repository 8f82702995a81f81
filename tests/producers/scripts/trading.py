import time
from datetime import datetime

import MetaTrader5 as mt5

if not mt5.initialize():
    print("initialize() failed, error code =", mt5.last_error())
    quit()
symbols = ("EURUSD", "GBPUSD", "USDJPY")
lot = 0.1
for symbol in symbols:
    symbol_info = mt5.symbol_info(symbol)
    if symbol_info is None:
        print(symbol, "not found, skipped")
        continue
    if not symbol_info.visible:
        print(symbol, "is not visible, trying to switch on")
        if not mt5.symbol_select(symbol, True):
            print("symbol_select({}}) failed, skipped", symbol)
            continue
    ask = mt5.symbol_info_tick(symbol).ask
    margin = mt5.order_calc_margin(mt5.ORDER_TYPE_BUY, symbol, lot, ask)
    if margin != None:
        print("   {} buy {} lot margin: {}".format(symbol, lot, margin))
    else:
        print("order_calc_margin failed: , error code =", mt5.last_error())
    print("profit:", mt5.order_calc_profit(mt5.ORDER_TYPE_BUY, symbol, lot, ask, ask + 0.01))
if mt5.market_book_add("EURUSD"):
    for _ in range(2):
        items = mt5.market_book_get("EURUSD")
        for it in items:
            print(it._asdict())
        time.sleep(0.001)
    mt5.market_book_release("EURUSD")
print("Total orders=", mt5.orders_total())
positions = mt5.positions_get(symbol="EURUSD")
print("Total positions on EURUSD =", len(positions))
deals = mt5.history_deals_get(datetime(2026, 1, 1), datetime(2026, 3, 1), group="*USD*")
print("deals=", len(deals))
result = mt5.order_send({"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": lot})
print("result:", result, mt5.last_error())
mt5.shutdown()
