-- Replaces a hold by what the request really cost, or gives it back.
-- KEYS[1] root (accounts.lua)
-- ARGV[1] hold id
-- ARGV[2] micro-USD, ARGV[3] tokens that were really used (both 0 for 'release')
-- ARGV[4] 'settle', 'release', or 'charge': charge even without a hold, once per id (served while Redis was gone)
-- ARGV[5] JSON [accounts], charged when the lease gave the hold back, or by 'charge'
-- ARGV[6] '' (tests: Unix seconds that replace Redis's clock)
-- Returns 1 when something changed, 0 when it was settled or released before.

local root, id, how = KEYS[1], ARGV[1], ARGV[4]
local u, t = tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock(ARGV[6])

local hold = give_back(root, id, t, now)
if hold then
  if how == 'charge' then redis.call('SET', root .. ':d:' .. id, '1', 'EX', DAY) end
  if how ~= 'release' then charge(root, hold.a, u, t, now) end
  return 1
end
local reclaimed = redis.call('DEL', root .. ':x:' .. id) == 1
if how == 'release' then return 0 end
if reclaimed or (how == 'charge' and redis.call('SET', root .. ':d:' .. id, '1', 'NX', 'EX', DAY)) then
  charge(root, cjson.decode(ARGV[5]), u, t, now)
  return 1
end
return 0
