-- Creates or changes one record when its version is the expected one.
-- KEYS[1] the record (hash: d = data, v = version), KEYS[2] the collection's index (sorted set of names)
-- ARGV[1] name, ARGV[2] data, ARGV[3] expected version, or '' for "there is none"
-- Returns {1, new version}, or {0, version found or -1}.

local known = redis.call('HGET', KEYS[1], 'v')
if (known or '') ~= ARGV[3] then return { 0, tonumber(known or -1) } end
local version = tonumber(known or 0) + 1
redis.call('HSET', KEYS[1], 'd', ARGV[2], 'v', string.format('%d', version))
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return { 1, version }
