from datetime import datetime

import MetaTrader5 as mt5
import pandas as pd
import pytz

if not mt5.initialize():
    print("initialize() failed, error code =", mt5.last_error())
    quit()
timezone = pytz.timezone("Etc/UTC")
utc_from = datetime(2026, 3, 3, 12, tzinfo=timezone)
mt5.symbol_select("EURUSD", True)
rates = mt5.copy_rates_from("EURUSD", mt5.TIMEFRAME_H4, utc_from, 10)
mt5.shutdown()
for rate in rates:
    print(rate)
rates_frame = pd.DataFrame(rates)
rates_frame["time"] = pd.to_datetime(rates_frame["time"], unit="s")
print(rates_frame)
print("bars", len(rates_frame))
