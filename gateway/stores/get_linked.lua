-- A record, and the record that one of its JSON fields names.
-- KEYS[1] the record (hash: d, v)
-- ARGV[1] the field, ARGV[2] what the other record's key begins with (same hash tag)
-- Returns {data, version, name of the other, data, version}; false where there is none.

local found = redis.call('HMGET', KEYS[1], 'd', 'v')
if not found[1] then return { false, false, false, false, false } end
local link = cjson.decode(found[1])[ARGV[1]]
if type(link) ~= 'string' then return { found[1], found[2], false, false, false } end
local other = redis.call('HMGET', ARGV[2] .. link, 'd', 'v')
return { found[1], found[2], link, other[1], other[2] }
