import MetaTrader5 as mt5

if not mt5.initialize():
    print("initialize() failed, error code =", mt5.last_error())
    quit()
symbols = mt5.symbols_get()
print("Symbols: ", len(symbols), mt5.symbols_total())
count = 0
for s in symbols:
    count += 1
    print("{}. {}".format(count, s.name))
    if count == 5:
        break
group_symbols = mt5.symbols_get(group="*,!*USD*,!*EUR*,!*JPY*,!*GBP*")
print("len(*,!*USD*,!*EUR*,!*JPY*,!*GBP*):", len(group_symbols))
gbp_symbols = mt5.symbols_get(group="*GBP*")
for s in gbp_symbols:
    print(s.name, ":", s)
mt5.shutdown()
