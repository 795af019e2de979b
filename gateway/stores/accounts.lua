-- One account's counters, shared by the ledger's scripts: put between windows.lua and each of them.
--
-- root                 '{terse}', the hash tag that keeps everything in one slot of a cluster
-- root:a:<account>     hash: c (running requests), hu and ht (held micro-USD and tokens), and for each calendar
--                      budget w:<period> (window number), u:<period> (micro-USD), t:<period> (tokens);
--                      ru (micro-USD of holds that a lease gave back)
-- root:r:<account>     sliding minute: a = requests, b = tokens
-- root:s:<account>:<period>   sliding budget: a = micro-USD, b = tokens
-- root:h:<hold>        the hold as JSON {u, t, n (slice of its rates), s (lease in seconds), a = [accounts]}
-- root:leases          sorted set of holds by the second in which their lease ends
-- root:x:<hold>        left for a day by a hold whose lease ran out
-- root:d:<hold>        left for a day by a charge made without a hold, so that it is made once
--
-- An account is {id, rpm, tpm, conc, b = [{per, sl (sliding), u, t}]}; absent limits are absent fields.

local function main_key(root, id) return root .. ':a:' .. id end
local function rate_key(root, id) return root .. ':r:' .. id end
local function sliding_key(root, id, period) return root .. ':s:' .. id .. ':' .. period end
local function whole(number) return string.format('%d', number) end
local function number_of(value) return tonumber(value or 0) or 0 end

-- Micro-USD, tokens (and slices when sliding) spent in a budget's window.
local function spent_of(root, account, budget, now)
  if budget.sl then
    return sliding(sliding_key(root, account.id, budget.per), LENGTH[budget.per], now)
  end
  local found = redis.call('HMGET', main_key(root, account.id),
    'w:' .. budget.per, 'u:' .. budget.per, 't:' .. budget.per)
  -- A window later than the clock's (it went back) stays in force: money is never handed out twice.
  if number_of(found[1]) < calendar(budget.per, now) then return 0, 0, nil end
  return number_of(found[2]), number_of(found[3]), nil
end

local function held_of(root, account)
  local found = redis.call('HMGET', main_key(root, account.id), 'c', 'hu', 'ht')
  return number_of(found[1]), number_of(found[2]), number_of(found[3])
end

-- How full the budgets are: {sh = share of the fullest, spent and held, ru = micro-USD left, rt = tokens left}.
-- `spent` is {u, t} per budget; what no budget bounds is absent.
local function fullness(account, spent, held_u, held_t)
  local full = { sh = 0 }
  for i, budget in ipairs(account.b or {}) do
    local u, t = spent[i].u + held_u, spent[i].t + held_t
    if budget.u then
      full.sh = math.max(full.sh, budget.u > 0 and u / budget.u or 1)
      full.ru = math.min(full.ru or budget.u, budget.u - u)
    end
    if budget.t then
      full.sh = math.max(full.sh, budget.t > 0 and t / budget.t or 1)
      full.rt = math.min(full.rt or budget.t, budget.t - t)
    end
  end
  return full
end

local function charge(root, accounts, u, t, now)
  for _, account in ipairs(accounts) do
    local done = {}
    for _, budget in ipairs(account.b or {}) do
      local window = (budget.sl and '~' or '') .. budget.per
      if not done[window] then
        done[window] = true
        if budget.sl then
          local length = LENGTH[budget.per]
          slide(sliding_key(root, account.id, budget.per), length, div(now, step_of(length)), u, t, now)
        else
          local key, current = main_key(root, account.id), calendar(budget.per, now)
          local known = redis.call('HGET', key, 'w:' .. budget.per)
          if not known or tonumber(known) < current then
            redis.call('HSET', key, 'w:' .. budget.per, whole(current), 'u:' .. budget.per, '0', 't:' .. budget.per, '0')
          end
          redis.call('HINCRBY', key, 'u:' .. budget.per, whole(u))
          redis.call('HINCRBY', key, 't:' .. budget.per, whole(t))
        end
      end
    end
  end
end

-- Takes a hold away and corrects the tokens of its minute to what was used. Returns the hold, or nil.
local function give_back(root, id, tokens, now)
  local text = redis.call('GET', root .. ':h:' .. id)
  if not text then return nil end
  local hold = cjson.decode(text)
  redis.call('DEL', root .. ':h:' .. id)
  redis.call('ZREM', root .. ':leases', id)
  for _, account in ipairs(hold.a) do
    local key = main_key(root, account.id)
    redis.call('HINCRBY', key, 'c', '-1')
    redis.call('HINCRBY', key, 'hu', whole(-hold.u))
    redis.call('HINCRBY', key, 'ht', whole(-hold.t))
    if account.tpm and tokens ~= hold.t then slide(rate_key(root, account.id), 60, hold.n, 0, tokens - hold.t, now) end
  end
  return hold
end

-- Releases holds whose lease is over, a few a call so that no request pays for a crash alone.
local function reclaim(root, now)
  local late = redis.call('ZRANGEBYSCORE', root .. ':leases', '-inf', whole(now), 'LIMIT', 0, 32)
  for _, id in ipairs(late) do
    local hold = give_back(root, id, 0, now)
    if hold then
      redis.call('SET', root .. ':x:' .. id, '1', 'EX', DAY)
      for _, account in ipairs(hold.a) do redis.call('HINCRBY', main_key(root, account.id), 'ru', whole(hold.u)) end
    else
      redis.call('ZREM', root .. ':leases', id)
    end
  end
  return #late
end
