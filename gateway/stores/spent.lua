-- How full the budgets of some accounts are, spent and held.
-- KEYS[1] root (accounts.lua)
-- ARGV[1] JSON [accounts]
-- ARGV[2] '' (tests: Unix seconds that replace Redis's clock)
-- Returns JSON [share per account].

local now = clock(ARGV[2])
reclaim(KEYS[1], now)
local shares = {}
for i, account in ipairs(cjson.decode(ARGV[1])) do shares[i] = share_of(KEYS[1], account, now) end
return cjson.encode(shares)
