from datetime import datetime

import MetaTrader5 as mt5
import pandas as pd
import pytz

if not mt5.initialize():
    print("initialize() failed, error code =", mt5.last_error())
    quit()
timezone = pytz.timezone("Etc/UTC")
utc_from = datetime(2026, 3, 3, tzinfo=timezone)
utc_to = datetime(2026, 3, 3, 1, tzinfo=timezone)
mt5.symbol_select("EURUSD", True)
ticks = mt5.copy_ticks_from("EURUSD", utc_from, 1000, mt5.COPY_TICKS_ALL)
print("Ticks received:", len(ticks))
count = 0
for tick in ticks:
    count += 1
    print(tick)
    if count >= 10:
        break
span = mt5.copy_ticks_range("EURUSD", utc_from, utc_to, mt5.COPY_TICKS_ALL)
mt5.shutdown()
ticks_frame = pd.DataFrame(span)
ticks_frame["time"] = pd.to_datetime(ticks_frame["time"], unit="s")
print(ticks_frame.head(10))
print("all in the hour:", bool((ticks_frame["time"] < pd.Timestamp("2026-03-03 01:00:01")).all()))
