import MetaTrader5 as mt5
import pandas as pd

if not mt5.initialize():
    print("initialize() failed, error code =", mt5.last_error())
    quit()
mt5.symbol_select("GBPUSD", True)
rates = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_D1, 0, 3)
hours = mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M15, 1, 20)
mt5.shutdown()
rates_frame = pd.DataFrame(rates)
rates_frame["time"] = pd.to_datetime(rates_frame["time"], unit="s")
print(rates_frame)
print("bars", len(rates), len(hours))
