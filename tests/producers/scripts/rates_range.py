from datetime import datetime

import MetaTrader5 as mt5
import pandas as pd
import pytz

if not mt5.initialize():
    print("initialize() failed, error code =", mt5.last_error())
    quit()
timezone = pytz.timezone("Etc/UTC")
utc_from = datetime(2026, 3, 2, tzinfo=timezone)
utc_to = datetime(2026, 3, 2, hour=13, tzinfo=timezone)
mt5.symbol_select("USDJPY")
rates = mt5.copy_rates_range("USDJPY", mt5.TIMEFRAME_M5, utc_from, utc_to)
mt5.shutdown()
counter = 0
for rate in rates:
    counter += 1
    if counter <= 10:
        print(rate)
rates_frame = pd.DataFrame(rates)
rates_frame["time"] = pd.to_datetime(rates_frame["time"], unit="s")
print(rates_frame.head(10))
print("bars", len(rates_frame))
