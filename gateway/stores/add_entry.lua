-- Sets one cache entry unless it is there already.
-- KEYS[1] the entry; ARGV[1] value, ARGV[2] seconds it lives
-- Returns what is stored afterwards.

if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then return ARGV[1] end
return redis.call('GET', KEYS[1])
