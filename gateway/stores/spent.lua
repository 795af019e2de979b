-- How full the budgets of some accounts are, spent and held.
-- KEYS[1] root (accounts.lua)
-- ARGV[1] JSON [accounts]
-- ARGV[2] '' (tests: Unix seconds that replace Redis's clock)
-- Returns JSON [fullness per account] (accounts.lua).

local now = clock(ARGV[2])
reclaim(KEYS[1], now)
local found = {}
for i, account in ipairs(cjson.decode(ARGV[1])) do
  local _, held_u, held_t = held_of(KEYS[1], account)
  local spent = {}
  for j, budget in ipairs(account.b or {}) do
    local u, t = spent_of(KEYS[1], account, budget, now)
    spent[j] = { u = u, t = t }
  end
  found[i] = fullness(account, spent, held_u, held_t)
end
return cjson.encode(found)
