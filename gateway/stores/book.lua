-- Adds one receipt to the books and to the logs of receipts.
-- KEYS[1] root
-- ARGV[1] day, ARGV[2] row (JSON [day, team, key, model, route]), ARGV[3] JSON {figure = whole number}
-- ARGV[4] the receipt as JSON, ARGV[5] team, ARGV[6] key id, ARGV[7] request id or ''
-- ARGV[8] seconds that a row is kept, ARGV[9] receipts that a log keeps
-- Returns 1, or 0 when that request id was booked in the last quarter of an hour.
--
-- root:books           sorted set of rows by day (yyyymmdd)
-- root:b:<row>         hash figure -> sum
-- root:total           hash 'team:<name>' and 'key:<id>' -> micro-USD ever
-- root:log, root:log:<team>   streams of receipts

local root = KEYS[1]
if ARGV[7] ~= '' and not redis.call('SET', root .. ':o:' .. ARGV[7], '1', 'NX', 'EX', 900) then return 0 end
local row_key = root .. ':b:' .. ARGV[2]
local figures = cjson.decode(ARGV[3])
for figure, amount in pairs(figures) do
  redis.call('HINCRBY', row_key, figure, string.format('%d', amount))
end
redis.call('EXPIRE', row_key, ARGV[8])
redis.call('ZADD', root .. ':books', (ARGV[1]:gsub('-', '')), ARGV[2])
local cost = string.format('%d', figures.cost_usd or 0)
if cost ~= '0' then
  redis.call('HINCRBY', root .. ':total', 'team:' .. ARGV[5], cost)
  redis.call('HINCRBY', root .. ':total', 'key:' .. ARGV[6], cost)
end
redis.call('XADD', root .. ':log', 'MAXLEN', '~', ARGV[9], '*', 'e', ARGV[4])
redis.call('XADD', root .. ':log:' .. ARGV[5], 'MAXLEN', '~', ARGV[9], '*', 'e', ARGV[4])
return 1
