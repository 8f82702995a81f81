import MetaTrader5 as mt5
import pandas as pd

print("MetaTrader5 package author: ", mt5.__author__)
print("MetaTrader5 package version: ", mt5.__version__)
if not mt5.initialize(login=1000001, server="Arbitrex-Simulated", password="simulated"):
    print("initialize() failed, error code =", mt5.last_error())
    quit()
account_info = mt5.account_info()
if account_info is not None:
    print(account_info)
    account_info_dict = mt5.account_info()._asdict()
    for prop in account_info_dict:
        print("  {}={}".format(prop, account_info_dict[prop]))
    df = pd.DataFrame(list(account_info_dict.items()), columns=["property", "value"])
    print(df)
mt5.shutdown()
