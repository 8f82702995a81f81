import MetaTrader5 as mt5

if not mt5.initialize():
    print("initialize() failed, error code =", mt5.last_error())
    quit()
selected = mt5.symbol_select("EURJPY", True)
if not selected:
    print("Failed to select EURJPY")
    mt5.shutdown()
    quit()
symbol_info = mt5.symbol_info("EURJPY")
if symbol_info != None:
    print(symbol_info)
    print("EURJPY: spread =", symbol_info.spread, "  digits =", symbol_info.digits)
    symbol_info_dict = mt5.symbol_info("EURJPY")._asdict()
    for prop in symbol_info_dict:
        print("  {}={}".format(prop, symbol_info_dict[prop]))
lasttick = mt5.symbol_info_tick("EURJPY")
print(lasttick)
for prop in lasttick._asdict():
    print("  {}={}".format(prop, lasttick._asdict()[prop]))
print("unknown:", mt5.symbol_info("EURJPX"), mt5.last_error())
mt5.shutdown()
