import MetaTrader5 as mt5

if not mt5.initialize():
    print("initialize() failed, error code =", mt5.last_error())
    quit()
print(mt5.version())
account = 17221085
authorized = mt5.login(account, server="Arbitrex-Simulated")
if authorized:
    print("connected to account #{}".format(account))
else:
    print("refused to connect at account #{}, error code: {}".format(account, mt5.last_error()))
account = 1000001
authorized = mt5.login(account, password="simulated", server="Arbitrex-Simulated")
print("authorized", authorized, mt5.account_info().login)
mt5.shutdown()
