-- Starts the leases of running requests anew; holds that are gone stay gone. Gives back what died meanwhile.
-- KEYS[1] root (accounts.lua)
-- ARGV[1] lease in seconds
-- ARGV[2] '' (tests: Unix seconds that replace Redis's clock)
-- ARGV[3...] hold ids
-- Returns how many leases were renewed.

local root, now, renewed = KEYS[1], clock(ARGV[2]), 0
for i = 3, #ARGV do
  renewed = renewed + redis.call('ZADD', root .. ':leases', 'XX', 'CH', whole(now + tonumber(ARGV[1])), ARGV[i])
end
reclaim(root, now)
return renewed
